//! Timeouts, retries and circuit breakers compiled from Resiliency resources (contract 3.6 and 10.1).
//! The decisions are pure state machines ([`breaker`], [`backoff`]); [`Policy::run`] applies them to a call.
//! [`Policies`] says which policy rules which app, actor or component.

#![deny(missing_docs)]

pub mod backoff;
pub mod breaker;
pub mod builtin;
mod cache;
mod compile;
pub mod matching;
mod metrics;
mod policies;
pub mod policy;
mod target;
mod unknown;

pub use builtin::Builtin;
pub use compile::{Cause, Error};
pub use policies::{ComponentKind, Policies};
pub use policy::{Call, Outcome, Policy, repeatable};
