//! What is logged on this thread, for tests of what a log says.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::DefaultGuard,
};

/// Keeps what is said at a level and above it. Clones share it.
#[derive(Clone)]
pub struct Log {
    level: Level,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Log {
    /// While the guard lives, this thread logs here.
    pub fn keep(level: Level) -> (Self, DefaultGuard) {
        let lines = Arc::default();
        let log = Self { level, lines };
        let guard = tracing::subscriber::set_default(log.clone());
        (log, guard)
    }

    /// All lines so far: a level and a message each.
    pub fn lines(&self) -> Vec<String> {
        self.lock().clone()
    }

    /// How many lines have all of these in them.
    pub fn count(&self, parts: &[&str]) -> usize {
        let lines = self.lock();
        let has_all = |line: &&String| parts.iter().all(|part| line.contains(part));
        lines.iter().filter(has_all).count()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0.push_str(&format!("{value:?}"));
        }
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("{} ", event.metadata().level()));
        event.record(&mut line);
        self.lock().push(line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
