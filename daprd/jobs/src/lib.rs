//! The line to the schedulers (contract 8.5): jobs that the app asks for, and triggers of jobs and reminders that come due.

mod seam;

pub use seam::{ActorTypes, Outcome, Reminders, Scheduling, Trigger};
