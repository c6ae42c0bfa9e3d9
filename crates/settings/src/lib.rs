//! daprd's settings, once: every flag, annotation and environment variable is a row of one table (contract 4.4,
//! 4.6, 9.1, 9.2, 12.1). The command line is built from the rows, and so are the arguments that the injector writes.
//!
//! [`Settings`] holds what some door said, every field optional; [`Settings::resolve`] checks it once and fills in
//! the defaults, and nothing behind [`Resolved`] checks again.

#![deny(missing_docs)]

mod annotations;
pub mod app_id;
mod error;
mod flags;
pub mod injection;
mod resolve;
mod resolved;
mod row;
mod table;
mod value;

pub use error::{Error, Place};
pub use flags::{command, run_arguments};
pub use resolved::{
    Action, App, AppHealth, AppProtocol, DISABLE_CONFIG, DISABLE_SUBSCRIBE, Log, Metrics, Mode,
    Resolved, Tuning,
};
pub use row::{ANNOTATION_PREFIX, Door, Row, RunFlag};
pub use table::{ROWS, Settings};
pub use value::{Kind, Secret};
