//! What a workflow is, as functions of its events: no I/O, no clock, no tasks. The shell around it reads rows, asks a worker, commits,
//! and does what is due; everything that is decided is decided here, with the time and new ids as arguments.

pub mod actions;
pub mod early;
pub mod effects;
pub mod event;
pub mod fold;
pub mod inbox;
pub mod rerun;
pub mod resolution;
pub mod stall;
pub mod timers;
pub mod turn;
