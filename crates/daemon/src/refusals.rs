//! Callers that were refused: each is logged once in a while, as it will try again and again, and not all of them, as anybody
//! may call, under any name.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Logs refusals. Who counts them does that besides.
#[derive(Debug)]
pub struct Refusals {
    /// What they do not get, as the log begins with it.
    what: &'static str,
    /// Who was logged, and when.
    logged: Mutex<BTreeMap<String, Instant>>,
}

/// How long a caller is not logged again.
pub const QUIET: Duration = Duration::from_secs(10 * 60);
/// Callers that are logged in that time.
pub const MOST_LOGGED: usize = 1024;
/// Bytes of a caller's names, and of the reason, in the log.
const MOST_TEXT: usize = 256;

impl Refusals {
    /// Nobody was refused yet; `what` is what callers did not get, as in `no certificate`.
    #[must_use]
    pub const fn new(what: &'static str) -> Self {
        Self {
            what,
            logged: Mutex::new(BTreeMap::new()),
        }
    }

    /// Notes that `who` was refused. `kind` is one of few words: the same caller is logged once for each
    /// in [`QUIET`].
    pub fn note(&self, who: &str, kind: &str, reason: &str, cause: Option<&(dyn Error + 'static)>) {
        let who = cut(who);
        if !self.first(format!("{who} {kind}")) {
            return;
        }
        let (what, text) = (self.what, cut(reason));
        match cause {
            Some(cause) => tracing::warn!(error = cause, "{what} for {who}: {text}"),
            None => tracing::warn!("{what} for {who}: {text}"),
        }
    }

    fn first(&self, key: String) -> bool {
        let mut logged = self.logged.lock();
        let now = Instant::now();
        if logged.get(&key).is_some_and(|at| now - *at < QUIET) {
            return false;
        }
        if logged.len() >= MOST_LOGGED {
            // Names that somebody has made up silence others for a while only.
            logged.retain(|_, at| now - *at < QUIET);
        }
        if logged.len() >= MOST_LOGGED {
            return false;
        }
        logged.insert(key, now);
        if logged.len() == MOST_LOGGED {
            let what = self.what;
            tracing::warn!(
                "{what} for {MOST_LOGGED} callers, further ones are only counted for {QUIET:?}"
            );
        }
        true
    }
}

/// Names come from callers, and are shown without what could forge a line.
fn cut(text: &str) -> String {
    let shown = |c: char| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    let mut text: String = text.chars().map(shown).collect();
    text.truncate(text.floor_char_boundary(MOST_TEXT));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_caller_is_logged_once_in_a_while_and_not_all_of_them() {
        let refusals = Refusals::new("no table");
        assert!(refusals.first("a".into()));
        assert!(!refusals.first("a".into()));
        for number in 0..2 * MOST_LOGGED {
            refusals.note(&format!("ns/app-{number}"), "busy", "too many", None);
        }
        assert_eq!(refusals.logged.lock().len(), MOST_LOGGED);
        assert!(!refusals.first("real".into()));
        tokio::time::advance(QUIET).await;
        assert!(refusals.first("real".into()) && refusals.first("a".into()));
        assert!(!refusals.first("real".into()));
        assert!(cut(&"a\nb".repeat(200)).len() <= MOST_TEXT);
        assert!(!cut("a\nb").contains('\n'));
    }
}
