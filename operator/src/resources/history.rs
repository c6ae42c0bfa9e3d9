//! What has changed lately, so that whoever has read a list and opens a stream behind it misses nothing in between, without
//! I/O. Sidecars of other builds do it in that order; which list a stream follows tells the connection on which both come.
//! Q-operator-list-stream

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use kubernetes::Change;
use tokio::time::Instant;

use super::Entry;

/// Changes that are remembered of a kind; a list that is older than these has to be read again.
pub const MOST_CHANGES: usize = 1024;

/// Bytes of resources that are remembered of a kind, beyond which the oldest changes are forgotten.
const MOST_BYTES: usize = 8 << 20;

/// Connections that have read a list and opened no stream yet.
pub const MOST_LISTS: usize = 16_384;

/// A stream that follows no list begins this long before: to the caller it did when it sent the call, and what changes right
/// behind that may come through the API server before the call does.
pub const CALLING: Duration = Duration::from_millis(200);

/// A moment between two changes of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(u64);

/// The changes are not remembered any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgotten;

/// The last changes of a kind, and who has read up to where.
#[derive(Debug, Default)]
pub struct History {
    changes: VecDeque<(Instant, Change<Entry>)>,
    /// Bytes of what is remembered.
    bytes: usize,
    /// The number of changes ever.
    count: u64,
    lists: HashMap<SocketAddr, Cursor>,
    /// The streams of each connection. One that has a stream is told everything there.
    streams: HashMap<SocketAddr, usize>,
}

impl History {
    /// The moment behind all changes so far.
    pub const fn now(&self) -> Cursor {
        Cursor(self.count)
    }

    /// The moment at which a call was sent that arrives now.
    pub fn call(&self, now: Instant) -> Cursor {
        let is_recent = |at: Instant| now.saturating_duration_since(at) < CALLING;
        let recent = self
            .changes
            .iter()
            .rev()
            .take_while(|(at, _)| is_recent(*at));
        Cursor(self.count - recent.count() as u64)
    }

    pub fn push(&mut self, change: Change<Entry>, now: Instant) {
        self.bytes += bytes(&change);
        self.changes.push_back((now, change));
        self.count += 1;
        while self.changes.len() > MOST_CHANGES || self.bytes > MOST_BYTES {
            let Some((_, oldest)) = self.changes.pop_front() else {
                break;
            };
            self.bytes -= bytes(&oldest);
        }
    }

    /// The changes after a moment.
    pub fn since(
        &self,
        Cursor(from): Cursor,
    ) -> Result<impl Iterator<Item = &Change<Entry>>, Forgotten> {
        let missed = usize::try_from(self.count.saturating_sub(from)).unwrap_or(usize::MAX);
        let known = self.changes.len().checked_sub(missed).ok_or(Forgotten)?;
        Ok(self.changes.range(known..).map(|(_, change)| change))
    }

    /// Somebody has read a list of this moment.
    pub fn listed(&mut self, connection: SocketAddr, at: Cursor) {
        if self.is_streaming(connection) {
            return;
        }
        if self.lists.len() >= MOST_LISTS && !self.lists.contains_key(&connection) {
            // The oldest has most probably gone without a stream.
            let oldest = self.lists.iter().min_by_key(|(_, at)| **at);
            if let Some(oldest) = oldest.map(|(connection, _)| *connection) {
                self.lists.remove(&oldest);
            }
        }
        self.lists.insert(connection, at);
    }

    /// The list that was read last on a connection, for the stream that follows it.
    pub fn take_list(&mut self, connection: SocketAddr) -> Option<Cursor> {
        self.lists.remove(&connection)
    }

    pub fn opened(&mut self, connection: SocketAddr) {
        *self.streams.entry(connection).or_default() += 1;
    }

    pub fn closed(&mut self, connection: SocketAddr) {
        if let Some(streams) = self.streams.get_mut(&connection) {
            *streams -= 1;
            if *streams == 0 {
                self.streams.remove(&connection);
            }
        }
    }

    /// How many streams a connection has.
    pub fn streams(&self, connection: SocketAddr) -> usize {
        self.streams.get(&connection).copied().unwrap_or_default()
    }

    pub fn is_streaming(&self, connection: SocketAddr) -> bool {
        self.streams(connection) > 0
    }
}

/// What a change keeps alive; what is known now is alive anyway, but not for long.
fn bytes(change: &Change<Entry>) -> usize {
    let versions = [&change.old, &change.new];
    let entries = versions.into_iter().flatten();
    entries.map(|entry| entry.json.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::entry;
    use super::*;
    use std::sync::Arc;

    fn change(name: &str) -> Change<Entry> {
        Change {
            key: kubernetes::Key::new("n", name),
            old: None,
            new: Some(Arc::new(entry(name, "1"))),
        }
    }

    fn since(history: &History, cursor: Cursor) -> Result<Vec<String>, Forgotten> {
        let changes = history.since(cursor)?;
        Ok(changes.map(|change| change.key.name.clone()).collect())
    }

    #[test]
    fn changes_are_remembered_from_a_moment_on_until_there_are_too_many() {
        let mut history = History::default();
        let start = history.now();
        assert_eq!(since(&history, start), Ok(vec![]));
        history.push(change("a"), Instant::now());
        let behind = history.now();
        history.push(change("b"), Instant::now());
        assert_eq!(since(&history, start), Ok(vec!["a".into(), "b".into()]));
        assert_eq!(since(&history, behind), Ok(vec!["b".into()]));
        for _ in 2..=MOST_CHANGES {
            history.push(change("c"), Instant::now());
        }
        assert_eq!(since(&history, start), Err(Forgotten));
        assert_eq!(since(&history, behind).unwrap().len(), MOST_CHANGES);
    }

    #[test]
    fn few_large_changes_are_remembered() {
        let (mut history, start) = (History::default(), History::default().now());
        let large = Entry {
            json: vec![b' '; MOST_BYTES / 3].into(),
            ..entry("a", "1")
        };
        for _ in 0..5 {
            let new = Some(Arc::new(large.clone()));
            let change = Change { new, ..change("a") };
            history.push(change, Instant::now());
        }
        assert_eq!(since(&history, start), Err(Forgotten));
        assert_eq!(history.changes.len(), 3);
        assert!(history.bytes <= MOST_BYTES);
    }

    #[test]
    fn a_call_was_sent_a_little_before_it_came() {
        let (mut history, start) = (History::default(), Instant::now());
        history.push(change("old"), start);
        history.push(change("new"), start + CALLING);
        let sent = history.call(start + CALLING);
        assert_eq!(since(&history, sent), Ok(vec!["new".into()]));
        let sent = history.call(start + CALLING * 2);
        assert_eq!(since(&history, sent), Ok(vec![]));
    }

    #[test]
    fn a_stream_follows_the_list_of_its_connection_once() {
        let mut history = History::default();
        let (one, other) = ("10.0.0.1:1".parse().unwrap(), "10.0.0.1:2".parse().unwrap());
        history.listed(one, history.now());
        history.push(change("a"), Instant::now());
        assert_eq!(history.take_list(other), None);
        assert_eq!(history.take_list(one), Some(Cursor(0)));
        history.opened(one);
        history.opened(other);
        history.listed(one, history.now());
        assert_eq!(history.take_list(one), None, "a stream has told it");
        history.closed(one);
        assert!(!history.is_streaming(one) && history.is_streaming(other));
    }

    #[test]
    fn lists_without_streams_are_forgotten_at_last() {
        let mut history = History::default();
        for port in 0..=MOST_LISTS {
            let port = u16::try_from(port).unwrap();
            history.listed(([10, 0, 0, 1], port).into(), history.now());
            history.push(change("a"), Instant::now());
        }
        assert_eq!(history.lists.len(), MOST_LISTS);
        assert_eq!(history.take_list(([10, 0, 0, 1], 0).into()), None);
    }
}
