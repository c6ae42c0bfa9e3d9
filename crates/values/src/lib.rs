//! Small value types that Dapr's contracts are written in: durations, calendar periods, quantities, truthy
//! strings, lists, paths, header names, cron schedules, metadata templates, names of Kubernetes, pauses, JSON as Go has it, and the clock.
//! Everything here is pure: text in, value out.

#![deny(missing_docs)]

pub mod clock;
pub mod cron;
pub mod duration;
pub mod environment;
pub mod header;
pub mod json;
pub mod list;
mod object_name;
pub mod path;
mod pauses;
pub mod period;
pub mod quantity;
pub mod template;
mod truthy;

pub use clock::{Clock, FixedClock, SystemClock};
pub use cron::Schedule;
pub use duration::GoDuration;
pub use jiff::{Timestamp, tz::TimeZone};
pub use object_name::is_object_name;
pub use pauses::{Pauses, around};
pub use period::Period;
pub use quantity::Quantity;
pub use template::Template;
pub use truthy::is_truthy;

/// Longest text any parser of this crate looks at, in bytes: longer input is refused before it costs anything.
pub const MAX_TEXT: usize = 1024;
