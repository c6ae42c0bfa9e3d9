//! What the middleware is opened with, and what a guest may use (Q-wasm-limits).
//!
//! | what | how much | field |
//! |---|---|---|
//! | instructions of one call of the guest; a call of the host counts as 300, and as one more for 8 bytes that it copies | 500 million | `maxFuel`, at most 10,000 million |
//! | instructions at a time, before others have their turn | 1 million | - |
//! | instructions of a module's start section, which cannot be interrupted | 20 million | - |
//! | memory of an instance | 64 MiB | `maxMemory`, at most 1 GiB |
//! | instances, which are requests under way | 64 | `maxInstances`, at most 1024 |
//! | requests that wait for an instance | 1024, for five seconds | - |
//! | an instance that nobody needs is kept | for a minute | - |
//! | the module | 32 MiB | - |
//! | fetching the module | 30 s | - |
//! | a body that the guest reads or writes | 4 MiB | `maxBodySize`, at most 256 MiB |
//! | waiting for what the guest reads of a body, in all, of one call | 60 s | - |
//! | sleeping, in all, of one call | 10 s | - |
//! | headers and trailers that one call writes | 256 KiB | - |
//! | what one call logs, or prints | 64 KiB each | - |
//! | the reason of an error that a module or a guest has a part in | 512 bytes | - |
//! | depth of calls, stack | 1000, 1 MiB | - |
//! | elements of tables | 1 million | - |

use std::time::Duration;

use component::{Error, Metadata, Result, fields::Size};

component::metadata! {
    /// What the middleware is opened with.
    pub struct Settings {
        /// Where the module is: `file://` and a path, or a URL of `http` or `https`.
        url: String => "url";
        /// What the guest is told when it asks for its configuration: any text.
        guest_config: Option<String> => "guestConfig";
        /// The guest sees a clock that only counts, random numbers that are always the same, and does not sleep. A Configuration can ask this of all.
        strict_sandbox: bool => "strictSandbox";
        /// Most instructions of one call of the guest, up to 10000000000.
        max_fuel: u64 => "maxFuel", default(500_000_000);
        /// Most memory of an instance of the guest, up to 1Gi.
        max_memory: Size => "maxMemory", default(Size(64 << 20));
        /// Largest body that the guest reads or writes, up to 256Mi.
        max_body: Size => "maxBodySize", default(Size(4 << 20));
        /// Most instances of the guest, which are requests under way, up to 1024.
        max_instances: u32 => "maxInstances", default(64);
    }
}

/// Largest `maxFuel`.
const MOST_FUEL: u64 = 10_000_000_000;
/// Largest `maxMemory`, in bytes.
const MOST_MEMORY: u64 = 1 << 30;
/// Largest `maxBodySize`, in bytes.
const MOST_BODY: u64 = 256 << 20;
/// Largest `maxInstances`.
const MOST_INSTANCES: u32 = 1024;

/// Instructions at a time: half a millisecond, where nobody else wants the processor.
pub(crate) const SLICE: u64 = 1_000_000;
/// Instructions of a start section.
pub(crate) const START_SECTION: u64 = 20_000_000;
/// Most requests that wait for an instance.
pub(crate) const MOST_WAITING: usize = 1024;
/// Longest wait for an instance.
pub(crate) const WAIT: Duration = Duration::from_secs(5);
/// How long an instance that nobody needs is kept.
pub(crate) const IDLE: Duration = Duration::from_secs(60);
/// Largest module, in bytes.
pub(crate) const MOST_MODULE: usize = 32 << 20;
/// Longest wait for the module.
pub(crate) const FETCH: Duration = Duration::from_secs(30);
/// Longest wait for what the guest reads of a body.
pub(crate) const BODY_WAIT: Duration = Duration::from_secs(60);
/// Longest sleep of one call.
pub(crate) const MOST_SLEEP: Duration = Duration::from_secs(10);
/// Most bytes of headers and trailers that one call writes.
pub(crate) const MOST_HEADERS: usize = 256 << 10;
/// Most bytes that one call logs, and as many that it prints.
pub(crate) const MOST_OUTPUT: usize = 64 << 10;
/// Depth of calls.
pub(crate) const MOST_DEPTH: usize = 1000;
/// Stack of one call, in bytes.
pub(crate) const MOST_STACK: usize = 1 << 20;
/// Most elements of a table.
pub(crate) const MOST_ELEMENTS: usize = 1_000_000;

/// What a guest may use, within the bounds that nobody can lift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Instructions of one call.
    pub fuel: u64,
    /// Bytes of an instance.
    pub memory: usize,
    /// Bytes of a body.
    pub body: usize,
    /// Instances.
    pub instances: usize,
}

impl Limits {
    /// Of the settings.
    ///
    /// # Errors
    /// Names a field that is zero or too large.
    pub fn new(settings: &Settings) -> Result<Self> {
        let within = |field: &str, value: u64, most: u64| match value {
            0 => Err(Error::invalid_metadata(field, "has to be more than 0")),
            value if value > most => Err(Error::invalid_metadata(field, format!("is over {most}"))),
            value => usize::try_from(value).map_err(|error| Error::invalid_metadata(field, error)),
        };
        let instances = u64::from(settings.max_instances);
        Ok(Self {
            fuel: within("maxFuel", settings.max_fuel, MOST_FUEL)? as u64,
            memory: within("maxMemory", settings.max_memory.0, MOST_MEMORY)?,
            body: within("maxBodySize", settings.max_body.0, MOST_BODY)?,
            instances: within("maxInstances", instances, u64::from(MOST_INSTANCES))?,
        })
    }
}

/// The limits of fields.
///
/// # Errors
/// Those of the fields.
pub fn read(metadata: &Metadata) -> Result<(Settings, Limits)> {
    let settings = Settings::read(metadata)?;
    let limits = Limits::new(&settings)?;
    Ok((settings, limits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(field: &str, value: &str) -> Result<Limits> {
        let fields = [("url", "file://a.wasm"), (field, value)];
        read(&Metadata::from_iter(fields)).map(|(_, limits)| limits)
    }

    #[test]
    fn no_field_lifts_a_limit() {
        for (field, most, beyond) in [
            ("maxFuel", "10000000000", "10000000001"),
            ("maxMemory", "1Gi", "1025Mi"),
            ("maxBodySize", "256Mi", "257Mi"),
            ("maxInstances", "1024", "1025"),
        ] {
            limits(field, most).unwrap();
            for no in [beyond, "0", "-1", "none"] {
                let error = limits(field, no).unwrap_err().to_string();
                assert!(error.contains(field), "{field} {no}: {error}");
            }
        }
    }
}
