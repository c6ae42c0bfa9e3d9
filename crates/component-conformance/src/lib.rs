//! One suite per kind of component, run by every family against its own backends. What a component declares selects the
//! cases that it must pass; what it does not declare, it must refuse. A failure panics with the name of the case.
//! Beside them stands what every test of a real server needs: [`ports`], a [`proxy`] for networks that
//! fail, and the [`servers`] that several crates test with; and the [`log`] of tests that read it.
#![deny(missing_docs)]

pub mod bindings;
pub mod configuration;
pub mod fields;
pub mod lock;
pub mod log;
pub mod ports;
pub mod proxy;
pub mod pubsub;
pub mod secrets;
pub mod servers;
pub mod spawn;
pub mod state;
pub mod table;

pub use spawn::{Tasks, open};
