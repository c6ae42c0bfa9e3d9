//! Bindings that need no server of their own: the clock, any HTTP endpoint, and files of this machine.

pub mod cron;
pub mod files;
pub mod http;
