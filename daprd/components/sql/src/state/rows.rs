//! Rows of the state table and the statements on them. JSON is stored as text, everything else as base64 with `is_binary`.

use base64::{Engine, prelude::BASE64_STANDARD};
use component::{
    Error, ErrorKind, Result,
    state::{
        Concurrency, DeleteRequest, Item, KeysLikeRequest, KeysLikeResponse, RequestMetadata,
        SetRequest,
    },
};
use rusqlite::{Connection, OptionalExtension, Row, params, types::Value};
use uuid::Uuid;

use crate::client::failure;

/// Request metadata: seconds until the row expires; -1 for never.
const TTL: &str = "ttlInSeconds";

/// Response metadata: when the row expires, RFC 3339.
const EXPIRY: &str = "ttlExpireTime";

/// Rows that have expired but are still there count as absent.
const LIVE: &str = "(expiration_time IS NULL OR expiration_time > CURRENT_TIMESTAMP)";

/// Where a row expires: never for a null parameter.
const EXPIRES: &str = "CASE WHEN ?5 IS NULL THEN NULL ELSE DATETIME(CURRENT_TIMESTAMP, ?5) END";

/// The statements, with the table's name in them.
pub struct Statements {
    get: String,
    set: String,
    create: String,
    update: String,
    delete: String,
    delete_current: String,
    list: String,
}

impl Statements {
    pub fn new(table: &str) -> Self {
        let columns = "(key, value, is_binary, etag, expiration_time, update_time)";
        let values = format!("?1, ?2, ?3, ?4, {EXPIRES}, CURRENT_TIMESTAMP");
        Self {
            get: format!(
                "SELECT value, is_binary, etag, strftime('%Y-%m-%dT%H:%M:%SZ', expiration_time)
                 FROM {table} WHERE key = ?1 AND {LIVE}"
            ),
            set: format!("INSERT OR REPLACE INTO {table} {columns} VALUES ({values})"),
            create: format!(
                "INSERT OR REPLACE INTO {table} {columns} SELECT {values}
                 WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE key = ?1 AND {LIVE})"
            ),
            update: format!(
                "UPDATE {table} SET value = ?2, is_binary = ?3, etag = ?4,
                 expiration_time = {EXPIRES}, update_time = CURRENT_TIMESTAMP
                 WHERE key = ?1 AND etag = ?6 AND {LIVE}"
            ),
            delete: format!("DELETE FROM {table} WHERE key = ?1"),
            delete_current: format!("DELETE FROM {table} WHERE key = ?1 AND etag = ?2 AND {LIVE}"),
            // Compat: Q-sqlite-like: LIKE takes upper and lower case ASCII letters for the same, as upstream's listing does.
            list: format!(
                "SELECT key, rowid FROM {table}
                 WHERE key LIKE ?1 ESCAPE '\\' AND {LIVE} AND rowid > ?2 ORDER BY rowid LIMIT ?3"
            ),
        }
    }

    /// Reads one key.
    pub fn read(&self, connection: &Connection, key: &str) -> Result<Option<Item>> {
        let failed = |error| failure("failed to read a key", error);
        let mut statement = connection.prepare_cached(&self.get).map_err(failed)?;
        let row = statement
            .query_row([key], |row| {
                // Text and blob alike: other programs write the table, too.
                let value = value_bytes(row)?;
                Ok((value, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .optional()
            .map_err(failed)?;
        let Some((value, is_binary, etag, expires)) = row else {
            return Ok(None);
        };
        let expires: Option<String> = expires;
        let value = match is_binary {
            true => BASE64_STANDARD.decode(&value).map_err(|error| {
                Error::internal(format!("the row of key {key:?} is not base64"), error)
            })?,
            false => value,
        };
        Ok(Some(Item {
            value: value.into(),
            etag: Some(etag),
            metadata: expires
                .map(|expires| (EXPIRY.to_owned(), expires))
                .into_iter()
                .collect(),
        }))
    }

    /// Lists a page of keys in the order of rows; the token is the last row of the page before.
    pub fn list(
        &self,
        connection: &Connection,
        request: &KeysLikeRequest,
    ) -> Result<KeysLikeResponse> {
        let failed = |error| failure("failed to list keys", error);
        let after = match request.continuation.as_deref() {
            None | Some("") => i64::MIN,
            Some(token) => token.parse().map_err(|_| {
                Error::invalid_request(format!("{token:?} is no token of a page of keys"))
            })?,
        };
        let size = request.page_size.filter(|size| *size > 0);
        // One more than the page tells whether there is another; -1 is no limit.
        let limit = size.map_or(-1, |size| i64::from(size) + 1);
        let mut statement = connection.prepare_cached(&self.list).map_err(failed)?;
        let mut rows = statement
            .query_map(params![request.pattern, after, limit], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .and_then(Iterator::collect::<rusqlite::Result<Vec<(String, i64)>>>)
            .map_err(failed)?;
        let mut continuation = None;
        if let Some(size) = size.map(|size| size as usize)
            && rows.len() > size
        {
            rows.truncate(size);
            continuation = rows.last().map(|(_, row)| row.to_string());
        }
        Ok(KeysLikeResponse {
            keys: rows.into_iter().map(|(key, _)| key).collect(),
            continuation,
        })
    }
}

fn value_bytes(row: &Row<'_>) -> rusqlite::Result<Vec<u8>> {
    Ok(match row.get(0)? {
        Value::Text(text) => text.into_bytes(),
        Value::Blob(bytes) => bytes,
        Value::Integer(number) => number.to_string().into_bytes(),
        Value::Real(number) => number.to_string().into_bytes(),
        Value::Null => Vec::new(),
    })
}

/// A write that has been checked and encoded, ready for the thread of the database.
pub enum Change {
    Put {
        key: String,
        value: String,
        is_binary: bool,
        /// For SQLite's date arithmetic: `+5 seconds`.
        lifetime: Option<String>,
        condition: Condition,
    },
    Remove {
        key: String,
        etag: Option<String>,
    },
}

/// When a write may go ahead.
pub enum Condition {
    Always,
    Absent,
    Current(String),
}

impl Change {
    /// # Errors
    /// For a key that no row can have, or a wrong lifetime.
    pub fn put(request: &SetRequest) -> Result<Self> {
        check_key(&request.key)?;
        let lifetime = lifetime(&request.key, &request.metadata)?;
        let (value, is_binary) = encode(request);
        let condition = match current(request.etag.as_ref()) {
            Some(etag) => Condition::Current(etag),
            None if request.concurrency == Concurrency::FirstWrite => Condition::Absent,
            None => Condition::Always,
        };
        Ok(Self::Put {
            key: request.key.clone(),
            value,
            is_binary,
            lifetime: lifetime.map(|seconds| format!("+{seconds} seconds")),
            condition,
        })
    }

    /// # Errors
    /// For a key that no row can have.
    pub fn remove(request: &DeleteRequest) -> Result<Self> {
        check_key(&request.key)?;
        Ok(Self::Remove {
            key: request.key.clone(),
            etag: current(request.etag.as_ref()),
        })
    }
}

fn current(etag: Option<&String>) -> Option<String> {
    etag.filter(|etag| !etag.is_empty()).cloned()
}

/// A key that no row can have.
pub fn check_key(key: &str) -> Result<()> {
    match key.is_empty() {
        true => Err(Error::invalid_request("the key is empty")),
        false => Ok(()),
    }
}

/// JSON stays readable in the table; whatever else comes is kept byte by byte.
fn encode(request: &SetRequest) -> (String, bool) {
    let is_json = request
        .content_type
        .as_deref()
        .and_then(|content_type| content_type.split(';').next())
        .is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"));
    if is_json
        && let Ok(text) = std::str::from_utf8(&request.value)
        && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
    {
        return (text.to_owned(), false);
    }
    (BASE64_STANDARD.encode(&request.value), true)
}

/// Seconds that a key lives; nothing for ever.
fn lifetime(key: &str, metadata: &RequestMetadata) -> Result<Option<i32>> {
    let Some(text) = metadata.get(TTL).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match text.parse::<i32>() {
        Ok(-1 | 0) => Ok(None),
        Ok(seconds) if seconds > 0 => Ok(Some(seconds)),
        _ => Err(Error::invalid_request(format!(
            "metadata {TTL} of key {key:?} must be a number of seconds, or -1, not {text:?}"
        ))),
    }
}

impl Change {
    /// Runs the statement; a condition that does not hold is a lost write.
    pub fn apply(&self, connection: &Connection, statements: &Statements) -> Result<()> {
        let run = |sql: &str, parameters: &[&dyn rusqlite::ToSql]| {
            connection
                .prepare_cached(sql)
                .and_then(|mut statement| statement.execute(parameters))
                .map_err(|error| failure("failed to write a key", error))
        };
        let (changed, conditional) = match self {
            Self::Put {
                key,
                value,
                is_binary,
                lifetime,
                condition,
            } => {
                let etag = Uuid::new_v4().to_string();
                let row: [&dyn rusqlite::ToSql; 5] = [key, value, is_binary, &etag, lifetime];
                match condition {
                    Condition::Always => (run(&statements.set, &row)?, false),
                    Condition::Absent => (run(&statements.create, &row)?, true),
                    Condition::Current(current) => {
                        let row: [&dyn rusqlite::ToSql; 6] =
                            [key, value, is_binary, &etag, lifetime, current];
                        (run(&statements.update, &row)?, true)
                    }
                }
            }
            Self::Remove { key, etag: None } => (run(&statements.delete, &[key])?, false),
            Self::Remove {
                key,
                etag: Some(etag),
            } => (run(&statements.delete_current, &[key, etag])?, true),
        };
        if conditional && changed == 0 {
            return Err(Error::new(
                ErrorKind::EtagMismatch,
                "possible etag mismatch. error from state store: the entity tag is not the current one",
            ));
        }
        Ok(())
    }
}
