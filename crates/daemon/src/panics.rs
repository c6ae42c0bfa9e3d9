//! Panics become log lines and a count. A panic inside a tracked task stops the program in order; one
//! inside a request ends that request only.

use std::panic::PanicHookInfo;

use prometheus::IntCounter;

/// Counts and logs every panic from now on.
pub(crate) fn install(counter: IntCounter) {
    std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        counter.inc();
        let text = message(info.payload());
        let place = info
            .location()
            .map_or_else(String::new, ToString::to_string);
        tracing::error!("panic at {place}: {text}");
    }));
}

/// The text of a panic.
#[must_use]
pub fn message(payload: &(dyn std::any::Any + Send)) -> &str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
