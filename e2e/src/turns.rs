//! A book of the turns at actors: when each began and ended, on which host. Turns at one actor must not overlap, whatever
//! happens to hosts meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The book. Clones share it.
#[derive(Clone, Default)]
pub struct Book(Arc<Mutex<Pages>>);

#[derive(Default)]
struct Pages {
    turns: Vec<Record>,
    /// When hosts were stopped or killed, and when they went on: of what they had begun, only writes count from then on.
    breaks: Vec<(usize, Instant, Option<Instant>)>,
    acknowledged: Vec<(u32, u64)>,
}

struct Record {
    host: usize,
    actor: u32,
    begin: Instant,
    /// When its last write was acknowledged.
    written: Option<Instant>,
    end: Option<Instant>,
}

/// A turn that lasts until it is dropped.
pub struct Turn {
    book: Book,
    at: usize,
}

impl Book {
    /// An actor is called on a host.
    pub fn enter(&self, host: usize, actor: u32) -> Turn {
        let mut pages = self.pages();
        pages.turns.push(Record {
            host,
            actor,
            begin: Instant::now(),
            written: None,
            end: None,
        });
        Turn {
            book: self.clone(),
            at: pages.turns.len() - 1,
        }
    }

    /// A host is about to be stopped or killed.
    pub fn breaks_off(&self, host: usize) {
        self.pages().breaks.push((host, Instant::now(), None));
    }

    /// A host that was stopped goes on.
    pub fn goes_on(&self, host: usize) {
        for (of, _, until) in &mut self.pages().breaks {
            if *of == host && until.is_none() {
                *until = Some(Instant::now());
            }
        }
    }

    /// A caller has heard that an actor counts so far.
    pub fn acknowledged(&self, actor: u32, count: u64) {
        self.pages().acknowledged.push((actor, count));
    }

    /// How many calls of each actor callers know to have worked.
    pub fn counts(&self) -> BTreeMap<u32, usize> {
        let mut counts = BTreeMap::new();
        for (actor, _) in &self.pages().acknowledged {
            *counts.entry(*actor).or_default() += 1;
        }
        counts
    }

    /// The hosts on which turns began after `since`.
    pub fn hosts(&self, since: Instant) -> BTreeSet<usize> {
        let pages = self.pages();
        let turns = pages.turns.iter().filter(|turn| turn.begin > since);
        turns.map(|turn| turn.host).collect()
    }

    /// Panics where two turns at an actor overlap, or where a write that a caller knows of is lost: `counted` is how far each
    /// actor counts in the end.
    pub fn check(&self, counted: &BTreeMap<u32, u64>) {
        let pages = self.pages();
        let mut turns: Vec<_> = pages
            .turns
            .iter()
            .map(|turn| (turn, pages.end(turn)))
            .collect();
        turns.sort_by_key(|(turn, _)| (turn.actor, turn.begin));
        for pair in turns.windows(2) {
            let [(first, end), (second, _)] = pair else {
                continue;
            };
            let begin = match first.host == second.host {
                true => second.begin + NOTICE,
                false => second.begin,
            };
            assert!(
                first.actor != second.actor || *end <= begin,
                "actor {} was called on host {} {:?} before its turn on host {} was over",
                first.actor,
                second.host,
                end.duration_since(second.begin),
                first.host,
            );
        }
        let mut seen = BTreeSet::new();
        for (actor, count) in &pages.acknowledged {
            let first = seen.insert((*actor, *count));
            assert!(first, "actor {actor} counted to {count} twice");
            let counted = counted.get(actor).copied().unwrap_or_default();
            assert!(*count <= counted, "actor {actor} forgot {count}");
        }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        // A check that panics is no reason for turns that end behind it to panic as well.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn end(&self, turn: &Record) -> Instant {
        let end = turn.end.unwrap_or_else(Instant::now);
        let mut breaks = self.breaks.iter();
        let broken = breaks.find(|(host, from, until)| {
            *host == turn.host && end > *from && until.is_none_or(|until| turn.begin < until)
        });
        match broken {
            Some((_, from, _)) => turn
                .written
                .map_or(*from, |at| at.max(*from))
                .max(turn.begin),
            None => end,
        }
    }
}

impl Turn {
    /// A write of this turn was acknowledged.
    pub fn written(&self) {
        self.book.pages().turns[self.at].written = Some(Instant::now());
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.book.pages().turns[self.at].end = Some(Instant::now());
    }
}

/// Where a caller gives up, its turn is over, and the app notices by its connection, a moment later.
const NOTICE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    async fn pass() {
        advance(Duration::from_secs(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn turns_one_after_the_other_are_fine() {
        let book = Book::default();
        for (host, other) in [(1, 8), (2, 9), (1, 10)] {
            let turn = book.enter(host, 1);
            let _elsewhere = book.enter(host, other);
            pass().await;
            drop(turn);
        }
        book.acknowledged(1, 1);
        book.check(&BTreeMap::from([(1, 2)]));
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "before its turn on host 1 was over")]
    async fn an_overlap_is_found() {
        let book = Book::default();
        let _first = book.enter(1, 1);
        pass().await;
        let _second = book.enter(2, 1);
        pass().await;
        book.check(&BTreeMap::new());
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_on_a_host_that_is_stopped_ends_with_it() {
        let book = Book::default();
        let _first = book.enter(1, 1);
        pass().await;
        book.breaks_off(1);
        pass().await;
        let _late = book.enter(1, 1);
        let _second = book.enter(2, 1);
        pass().await;
        book.check(&BTreeMap::new());
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "before its turn on host 1 was over")]
    async fn a_late_write_of_it_is_found() {
        let book = Book::default();
        let first = book.enter(1, 1);
        pass().await;
        book.breaks_off(1);
        pass().await;
        let _second = book.enter(2, 1);
        pass().await;
        book.goes_on(1);
        first.written();
        book.check(&BTreeMap::new());
    }

    #[test]
    #[should_panic(expected = "counted to 3 twice")]
    fn a_lost_write_is_found() {
        let book = Book::default();
        book.acknowledged(1, 3);
        book.acknowledged(1, 3);
        book.check(&BTreeMap::from([(1, 3)]));
    }
}
