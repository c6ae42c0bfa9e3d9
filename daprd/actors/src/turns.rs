//! Whose turn it is at one actor: a queue of chains of calls, of which the first is at the actor (contract 11.1). Calls of one
//! chain, which the reentrancy id names, are at the actor together. Sync: the caller waits, and is told by what `W` stands for.

use std::collections::VecDeque;

/// The queue of one actor.
#[derive(Debug)]
pub struct Turns<W> {
    chains: VecDeque<Chain<W>>,
    next: u64,
    calls: usize,
    /// The most calls of one chain, where chains may come back at all.
    depth: Option<usize>,
    /// All calls are at the actor at once.
    parallel: bool,
    closed: bool,
}

#[derive(Debug)]
struct Chain<W> {
    number: u64,
    id: Option<String>,
    calls: usize,
    begun: W,
}

/// A place in the queue; whoever has it gives it back.
#[derive(Debug, PartialEq, Eq)]
pub struct Place<W> {
    pub number: u64,
    /// Fires once it is the turn of the place.
    pub begun: W,
    /// It is its turn already.
    pub at_once: bool,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The actor is about to go.
    Closed,
    /// The chain has come back too often.
    TooDeep,
    /// Too many wait already.
    Full,
}

impl<W: Clone> Turns<W> {
    pub fn new(depth: Option<usize>) -> Self {
        Self {
            chains: VecDeque::new(),
            next: 0,
            calls: 0,
            depth,
            parallel: false,
            closed: false,
        }
    }

    /// An actor that lets all calls in, and keeps order among them itself.
    pub fn parallel() -> Self {
        Self {
            parallel: true,
            ..Self::new(None)
        }
    }

    /// A place for a call of the chain `id`.
    pub fn enter(
        &mut self,
        id: Option<&str>,
        begun: impl FnOnce() -> W,
    ) -> Result<Place<W>, Refusal> {
        if self.calls >= MOST_CALLS {
            return Err(Refusal::Full);
        }
        let id = self.depth.and(id);
        let mut chains = self.chains.iter_mut().enumerate();
        let own = chains.find(|(_, chain)| id.is_some() && chain.id.as_deref() == id);
        if let Some((at, chain)) = own {
            // Also while the actor goes: the call at it waits for this one.
            if self.closed && at > 0 {
                return Err(Refusal::Closed);
            }
            // Q-actor-depth
            if self.depth.is_some_and(|depth| chain.calls >= depth) {
                return Err(Refusal::TooDeep);
            }
            chain.calls += 1;
            self.calls += 1;
            return Ok(Place {
                number: chain.number,
                begun: chain.begun.clone(),
                at_once: at == 0,
            });
        }
        if self.closed {
            return Err(Refusal::Closed);
        }
        let at_once = self.parallel || self.chains.is_empty();
        let (number, begun) = (self.next, begun());
        self.next += 1;
        self.calls += 1;
        self.chains.push_back(Chain {
            number,
            id: id.map(str::to_owned),
            calls: 1,
            begun: begun.clone(),
        });
        Ok(Place {
            number,
            begun,
            at_once,
        })
    }

    /// A call gives its place back, also one that never had its turn. What fires, if it is another's turn now.
    pub fn leave(&mut self, number: u64) -> Option<W> {
        let at = self
            .chains
            .iter()
            .position(|chain| chain.number == number)?;
        let chain = &mut self.chains[at];
        chain.calls -= 1;
        self.calls -= 1;
        if chain.calls > 0 {
            return None;
        }
        self.chains.remove(at);
        let next = self.chains.front().filter(|_| at == 0)?;
        Some(next.begun.clone())
    }

    /// Whether the chain is at the actor.
    pub fn is_at(&self, id: &str) -> bool {
        let first = self.chains.front();
        first.is_some_and(|chain| chain.id.as_deref() == Some(id))
    }

    /// Whether anything is at the actor.
    pub fn is_idle(&self) -> bool {
        self.chains.is_empty()
    }

    /// Whether no chain begins any more.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// No chain begins any more. False where that was so already.
    pub fn close(&mut self) -> bool {
        !std::mem::replace(&mut self.closed, true)
    }
}

/// The most calls that are at one actor or wait for it. Q-actor-queue
pub const MOST_CALLS: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(turns: &mut Turns<u32>, id: Option<&str>, wake: u32) -> (u64, bool) {
        let place = turns.enter(id, || wake).unwrap();
        (place.number, place.at_once)
    }

    #[test]
    fn one_at_a_time_in_order() {
        let mut turns = Turns::new(None);
        let (first, at_once) = enter(&mut turns, None, 1);
        assert!(at_once);
        let (second, at_once) = enter(&mut turns, None, 2);
        assert!(!at_once);
        let (third, _) = enter(&mut turns, None, 3);
        // One that waited and gave up is passed over.
        assert_eq!(turns.leave(second), None);
        assert_eq!(turns.leave(first), Some(3));
        assert_eq!(turns.leave(third), None);
        assert!(turns.is_idle());
    }

    #[test]
    fn an_actor_without_turns_lets_all_in() {
        let mut turns = Turns::parallel();
        let (first, at_once) = enter(&mut turns, None, 1);
        assert!(at_once && enter(&mut turns, None, 2).1);
        turns.leave(first);
        assert!(!turns.is_idle());
        turns.close();
        assert_eq!(turns.enter(None, || 3), Err(Refusal::Closed));
    }

    #[test]
    fn without_reentrancy_a_chain_waits_for_itself() {
        let mut turns = Turns::new(None);
        enter(&mut turns, Some("a"), 1);
        assert!(!enter(&mut turns, Some("a"), 2).1);
    }

    #[test]
    fn a_chain_comes_back_as_often_as_it_may() {
        let mut turns = Turns::new(Some(2));
        let (first, _) = enter(&mut turns, Some("a"), 1);
        assert!(turns.is_at("a"));
        let (again, at_once) = enter(&mut turns, Some("a"), 0);
        assert!(at_once);
        assert_eq!(turns.enter(Some("a"), || 0), Err(Refusal::TooDeep));
        let (other, at_once) = enter(&mut turns, Some("b"), 2);
        assert!(!at_once);
        assert_eq!(turns.leave(again), None);
        assert_eq!(turns.leave(first), Some(2));
        assert!(turns.is_at("b"));
        turns.leave(other);
        assert!(turns.is_idle());
    }

    #[test]
    fn an_actor_that_goes_lets_only_the_chain_come_back_that_is_at_it() {
        let mut turns = Turns::new(Some(32));
        enter(&mut turns, Some("a"), 1);
        enter(&mut turns, Some("b"), 2);
        turns.close();
        assert!(enter(&mut turns, Some("a"), 0).1);
        assert_eq!(turns.enter(Some("b"), || 0), Err(Refusal::Closed));
        assert_eq!(turns.enter(None, || 0), Err(Refusal::Closed));
    }

    #[test]
    fn the_queue_has_an_end() {
        let mut turns = Turns::new(None);
        for _ in 0..MOST_CALLS {
            turns.enter(None, || 0).unwrap();
        }
        assert_eq!(turns.enter(None, || 0), Err(Refusal::Full));
    }
}
