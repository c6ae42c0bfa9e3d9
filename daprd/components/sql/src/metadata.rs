//! The metadata of `state.sqlite`, and the file name that SQLite is opened with (component-metadata.md).

use std::time::Duration;

use component::{Error, ErrorKind, Metadata, Result, fields::SECOND};
use url::form_urlencoded;
use values::GoDuration;

/// How long one request may take.
const TIMEOUT: GoDuration = GoDuration::from_secs(20);

/// How long a request waits for another process that is writing.
const BUSY_TIMEOUT: GoDuration = GoDuration::from_secs(2);

/// Pragmas that have a metadata field of their own, and the field to use instead.
const RESERVED_PRAGMAS: [(&str, Option<&str>); 3] = [
    ("busy_timeout", Some("busyTimeout")),
    ("journal_mode", Some("disableWAL")),
    ("foreign_keys", None),
];

component::metadata! {
    /// The fields of `state.sqlite`. Durations below zero count as zero.
    pub struct Declared {
        /// The database: a path, a `file:` URI, or `:memory:`.
        connection: String => "connectionString" | "url", absent("missing connection string");
        /// How long one request may take, at least a second.
        timeout: GoDuration => "timeout" | "timeoutInSeconds", default(TIMEOUT), unit(SECOND);
        /// How long a request waits for another process that is writing; zero for not at all.
        busy_timeout: GoDuration => "busyTimeout", default(BUSY_TIMEOUT), unit(SECOND);
        /// Keeps the journal beside the file instead of writing ahead.
        disable_wal: bool => "disableWAL";
        /// The table of the keys.
        table: String => "tableName", default("state".to_owned());
        /// The table of the migration level and the last cleanup.
        metadata_table: String => "metadataTableName", default("metadata".to_owned());
        /// How often expired rows are deleted; zero for never.
        cleanup_interval: GoDuration => "cleanupInterval" | "cleanupIntervalInSeconds",
            default(GoDuration::ZERO), unit(SECOND);
    }
}

/// What a store is opened with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A URI for SQLite.
    pub uri: String,
    /// Pragmas of the connection string, run on every connection.
    pub pragmas: Vec<String>,
    /// `MEMORY`, `DELETE` or `WAL`.
    pub journal_mode: &'static str,
    /// The database lives and dies with its one connection.
    pub in_memory: bool,
    /// How long one request may take.
    pub timeout: Duration,
    /// How long a request waits for another writer; zero for not at all.
    pub busy_timeout: Duration,
    /// The state table.
    pub table: String,
    /// The table of migration level and last cleanup.
    pub metadata_table: String,
    /// How often expired rows are deleted, if at all.
    pub cleanup_interval: Option<Duration>,
}

impl Settings {
    /// Reads and checks the metadata.
    ///
    /// # Errors
    /// Names the field.
    pub fn read(metadata: &Metadata) -> Result<Self> {
        Self::check(Declared::read(metadata)?)
    }

    /// Checks what has been read.
    ///
    /// # Errors
    /// Names the field.
    pub fn check(declared: Declared) -> Result<Self> {
        if declared.timeout < GoDuration::from(SECOND) {
            return Err(Error::new(
                ErrorKind::InvalidMetadata,
                "invalid value for 'timeout': must be greater than 1s",
            ));
        }
        let connection = Connection::parse(&declared.connection)?;
        let plain = connection.read_only || declared.disable_wal;
        Ok(Self {
            journal_mode: match (connection.in_memory, plain) {
                (true, _) => "MEMORY",
                (false, true) => "DELETE",
                (false, false) => "WAL",
            },
            uri: connection.uri,
            pragmas: connection.pragmas,
            in_memory: connection.in_memory,
            timeout: declared.timeout.saturating_std(),
            busy_timeout: declared.busy_timeout.saturating_std(),
            table: identifier(declared.table, "tableName")?,
            metadata_table: identifier(declared.metadata_table, "metadataTableName")?,
            cleanup_interval: Some(declared.cleanup_interval.saturating_std())
                .filter(|every| !every.is_zero()),
        })
    }
}

/// Table names cannot be bound as parameters, so only plain ones are taken.
fn identifier(name: String, field: &str) -> Result<String> {
    if name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_') {
        return Ok(name);
    }
    Err(Error::new(
        ErrorKind::InvalidMetadata,
        format!("invalid identifier: {name} in metadata field {field}"),
    ))
}

/// A connection string, taken apart.
struct Connection {
    uri: String,
    pragmas: Vec<String>,
    in_memory: bool,
    read_only: bool,
}

impl Connection {
    fn parse(text: &str) -> Result<Self> {
        let lower = text.to_ascii_lowercase();
        let in_memory = lower.starts_with(":memory:") || lower.starts_with("file::memory:");
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let mut pragmas = Vec::new();
        let mut read_only = false;
        let mut kept = form_urlencoded::Serializer::new(String::new());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "_pragma" => pragmas.push(pragma(&value)?),
                // One memory database per process and name, whatever the string asks for.
                "cache" if in_memory => {}
                // Q-sqlite-txlock: transactions always begin immediate, which is the only setting without deadlocks.
                "_txlock" => {}
                _ => {
                    read_only |= matches!((&*name, &*value), ("mode", "ro") | ("immutable", "1"));
                    kept.append_pair(&name, &value);
                }
            }
        }
        if in_memory {
            kept.append_pair("cache", "shared");
        }
        let query = kept.finish();
        let scheme = if lower.starts_with("file:") {
            ""
        } else {
            "file:"
        };
        let mark = if query.is_empty() { "" } else { "?" };
        Ok(Self {
            uri: format!("{scheme}{path}{mark}{query}"),
            pragmas,
            in_memory,
            read_only,
        })
    }
}

/// Pragmas come from whoever writes the component, but a statement more than that is surely a mistake.
fn pragma(text: &str) -> Result<String> {
    let lower = text.trim().to_ascii_lowercase();
    for (reserved, instead) in RESERVED_PRAGMAS {
        if lower.starts_with(reserved) {
            let hint = instead.map_or_else(String::new, |field| {
                format!("; use the metadata field {field} instead")
            });
            return Err(Error::new(
                ErrorKind::InvalidMetadata,
                format!(
                    "found forbidden option '_pragma={reserved}' in the connection string{hint}"
                ),
            ));
        }
    }
    if lower.contains(';') {
        return Err(Error::invalid_metadata(
            "connectionString",
            format!("_pragma {text:?} is more than one statement"),
        ));
    }
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&str, &str)]) -> Result<Settings> {
        Settings::read(&Metadata::from_iter(fields.iter().copied()))
    }

    #[test]
    fn a_missing_connection_string_is_told_in_upstreams_words() {
        assert_eq!(
            read(&[]).unwrap_err().to_string(),
            "missing connection string"
        );
    }

    #[test]
    fn connection_strings_become_uris() {
        for (given, uri, mode) in [
            ("data.db", "file:data.db", "WAL"),
            ("file:/tmp/a%20b.db", "file:/tmp/a%20b.db", "WAL"),
            ("file:a.db?mode=ro", "file:a.db?mode=ro", "DELETE"),
            ("file:a.db?_txlock=deferred", "file:a.db", "WAL"),
            (":memory:", "file::memory:?cache=shared", "MEMORY"),
            (
                "file::memory:?cache=private",
                "file::memory:?cache=shared",
                "MEMORY",
            ),
        ] {
            let settings = read(&[("connectionString", given)]).unwrap();
            assert_eq!(settings.uri, uri, "{given}");
            assert_eq!(settings.journal_mode, mode, "{given}");
        }
    }

    #[test]
    fn bare_numbers_are_seconds_and_negative_ones_switch_off() {
        let settings = read(&[
            ("url", "a.db"),
            ("timeoutInSeconds", "3"),
            ("busyTimeout", "-1"),
            ("cleanupInterval", "-5s"),
            ("disableWAL", "true"),
        ])
        .unwrap();
        assert_eq!(settings.timeout, Duration::from_secs(3));
        assert_eq!(settings.busy_timeout, Duration::ZERO);
        assert_eq!(settings.cleanup_interval, None);
        assert_eq!(settings.journal_mode, "DELETE");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (field, value, expected) in [
            ("timeout", "500ms", "'timeout'"),
            ("tableName", "a; drop table b", "tableName"),
            (
                "connectionString",
                "a.db?_pragma=busy_timeout(1)",
                "busyTimeout",
            ),
            (
                "connectionString",
                "a.db?_pragma=foreign_keys(1)",
                "foreign_keys",
            ),
        ] {
            let error = read(&[("url", "a.db"), (field, value)]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidMetadata);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
