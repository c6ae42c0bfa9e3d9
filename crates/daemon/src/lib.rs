//! The chassis of every program: flags, logs, health, metrics endpoint, signals, task tracking and
//! build information.
//!
//! A program implements [`Program`] for its flags and hands its `run` function to [`main`]; all that
//! programs share happens here, so that no two of them start, log or stop differently.
#![deny(missing_docs)]

use std::ffi::OsString;
use std::time::Duration;

mod address;
mod arguments;
mod build;
mod descriptors;
mod draft;
mod endpoints;
mod exit;
mod flags;
mod health;
mod host;
mod log;
mod panics;
mod pulse;
mod refusals;
mod service;
mod signals;
mod start;
mod tasks;
mod user;

pub use address::listen_address;
pub use arguments::{boolean, normalise};
pub use build::{commit, version};
pub use draft::{Draft, replace as replace_file};
pub use exit::{Exit, Stop};
pub use flags::{HealthFlags, HealthOptions, LogFlags, LogOptions, MetricsFlags, MetricsOptions};
pub use health::{Health, Target};
pub use host::address as host_address;
pub use panics::message as panic_message;
pub use refusals::{MOST_LOGGED, Refusals};
pub use service::{ServiceFlags, ServiceMode, ServiceOptions, variable};
pub use start::main;
pub use tasks::Daemon;
pub use user::refuse_root;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The flags of a program, and what the chassis wants to know from them.
pub trait Program: Sized + Send + 'static {
    /// Name of the program, such as `sentry`.
    const NAME: &'static str;

    /// How long tasks may take to end once shutdown has begun; after it the program fails.
    const GRACE: Duration = Duration::from_secs(10);

    /// Scope of log lines that name none of their own.
    fn scope() -> String {
        format!("dapr.{}", Self::NAME)
    }

    /// The command line as clap knows it. A program that returns it gets exact treatment of
    /// single-dash long options and of values that begin with a dash, see [`normalise`].
    fn command() -> Option<clap::Command> {
        None
    }

    /// Parses the whole command line, program name first, long options already with two dashes.
    ///
    /// # Errors
    /// Where it leads to no running program: it is wrong, or asks for a text such as the version.
    fn parse(args: Vec<OsString>) -> Result<Self, Stop>;

    /// How to log.
    fn log(&self) -> LogOptions;

    /// Where to serve metrics.
    fn metrics(&self) -> MetricsOptions;

    /// Where to serve `/healthz`; `None` for a program that has an own place for it.
    fn health(&self) -> Option<HealthOptions>;
}

/// Implements [`Program`] for flags that clap derives and that hold `log`, `metrics` and `health`, the groups of the same
/// names.
#[macro_export]
macro_rules! program {
    ($flags:ty, $name:literal) => {
        impl $crate::Program for $flags {
            const NAME: &'static str = $name;

            fn command() -> Option<clap::Command> {
                Some(<Self as clap::CommandFactory>::command())
            }

            fn parse(args: Vec<std::ffi::OsString>) -> Result<Self, $crate::Stop> {
                Ok(<Self as clap::Parser>::try_parse_from(args)?)
            }

            fn log(&self) -> $crate::LogOptions {
                self.log.options()
            }

            fn metrics(&self) -> $crate::MetricsOptions {
                self.metrics.options()
            }

            fn health(&self) -> Option<$crate::HealthOptions> {
                Some(self.health.options())
            }
        }
    };
}
