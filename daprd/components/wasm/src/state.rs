//! What an instance of a guest has on the host's side, beside its memory.

use std::sync::Arc;

use bytes::BytesMut;
use wasmi::{StoreLimits, StoreLimitsBuilder};

use crate::{
    exchange::{Exchange, Features, Misuse},
    meter::Meter,
    settings::{Limits, MOST_ELEMENTS, MOST_OUTPUT},
    text::one_line,
    wasi::senses::Senses,
};

/// What the host has of an instance.
pub struct State {
    /// The component.
    pub name: Arc<str>,
    /// What the guest is configured with.
    pub config: Arc<[u8]>,
    /// What it has enabled while it started: for all exchanges.
    pub features: Features,
    /// What it is called for; nothing while it starts.
    pub exchange: Option<Box<Exchange>>,
    /// What it knows of time and chance.
    pub senses: Senses,
    /// What this call may still burn, beside what is in the slice.
    pub meter: Meter,
    /// Bounds its memory.
    pub bounds: StoreLimits,
    /// What it has printed in this call.
    pub printed: BytesMut,
    /// How many bytes of this call may still be logged.
    log_left: usize,
}

impl State {
    pub fn new(name: Arc<str>, config: Arc<[u8]>, senses: Senses, limits: &Limits) -> Self {
        let bounds = StoreLimitsBuilder::new()
            .memory_size(limits.memory)
            .table_elements(MOST_ELEMENTS)
            .instances(1)
            .memories(1)
            .tables(4);
        Self {
            name,
            config,
            features: Features::default(),
            exchange: None,
            senses,
            meter: Meter::new(0),
            bounds: bounds.build(),
            printed: BytesMut::new(),
            log_left: MOST_OUTPUT,
        }
    }

    /// What it is called for.
    pub fn exchange(&mut self) -> Result<&mut Exchange, Misuse> {
        let none = || Misuse("there is no request while the guest starts".to_owned());
        self.exchange.as_deref_mut().ok_or_else(none)
    }

    /// Enables features: of all exchanges while it starts, else of this one.
    pub fn enable(&mut self, bits: u32) -> Features {
        if let Some(exchange) = &mut self.exchange {
            return exchange.enable(bits);
        }
        self.features = self.features.with(bits);
        self.features
    }

    /// Prints, as far as there is room.
    pub fn print(&mut self, bytes: &[u8]) {
        let room = MOST_OUTPUT - self.printed.len();
        self.printed
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// A text of the guest's as it may stand in the log: on one line, and cut off where this call has logged enough.
    pub fn log_text(&mut self, bytes: &[u8]) -> Option<String> {
        if self.log_left == 0 {
            return None;
        }
        let count = bytes.len().min(self.log_left);
        // An empty line counts as well.
        self.log_left -= count.max(1);
        Some(one_line(&bytes[..count]))
    }

    /// What was printed in a call that has ended, which the next one begins anew.
    pub fn end_call(&mut self) {
        self.log_left = MOST_OUTPUT;
        if !self.printed.is_empty() {
            let printed = one_line(&std::mem::take(&mut self.printed));
            tracing::debug!("wasm component {} printed: {printed}", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use component::Metadata;

    use super::*;
    use crate::settings;

    fn state() -> State {
        let metadata = Metadata::from_iter([("url", "file://a.wasm")]);
        let (_, limits) = settings::read(&metadata).unwrap();
        State::new(
            "a".into(),
            Arc::default(),
            Senses::strict(&values::SystemClock),
            &limits,
        )
    }

    #[test]
    fn a_call_logs_and_prints_only_so_much() {
        let mut state = state();
        assert_eq!(state.log_text(b"a\nb\x1b[1m\n").unwrap(), "a b [1m");
        let large = vec![b'a'; MOST_OUTPUT * 2];
        let rest = state.log_text(&large).unwrap();
        assert!(rest.len() < MOST_OUTPUT);
        assert!(state.log_text(b"").is_none());
        state.print(&large);
        state.print(b"b");
        assert_eq!(state.printed.len(), MOST_OUTPUT);
        state.end_call();
        assert!(state.printed.is_empty() && state.log_text(b"b").is_some());
    }
}
