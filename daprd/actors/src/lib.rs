//! Actors: who hosts which, turns, calls, timers, reminders and state (contract 11.1 to 11.4).

mod identity;

pub use identity::ActorId;
