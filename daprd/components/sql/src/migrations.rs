//! The tables of the state store, in upstream's layout: `migrations` in the metadata table counts what has been done.

use component::{Error, Result};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use crate::{client::failure, metadata::Settings};

/// Row of the metadata table.
const LEVEL: &str = "migrations";

/// Brings the tables up to date. One transaction that keeps every other process out: several sidecars start at once.
pub fn perform(connection: &mut Connection, settings: &Settings) -> Result<()> {
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Exclusive)
        .map_err(|error| failure("failed to begin the migrations", error))?;
    let run = |statement: &str| {
        transaction
            .execute_batch(statement)
            .map_err(|error| failure("failed to create the tables", error))
    };
    let table = &settings.metadata_table;
    run(&format!(
        "CREATE TABLE IF NOT EXISTS {table} (key text NOT NULL PRIMARY KEY, value text NOT NULL)"
    ))?;
    let level: Option<String> = transaction
        .query_row(
            &format!("SELECT CAST(value AS TEXT) FROM {table} WHERE key = ?"),
            [LEVEL],
            |row| row.get(0),
        )
        .optional()
        .map_err(|error| failure("failed to read the migration level", error))?;
    let level = level.map_or(Ok(0), |level| {
        level.parse::<u32>().map_err(|_| {
            Error::invalid_metadata(
                "metadataTableName",
                format!(
                    "the table {table} holds the migration level {level:?}, which is no number"
                ),
            )
        })
    })?;
    if level < 1 {
        // The table may be older than the bookkeeping.
        run(&format!(
            "CREATE TABLE IF NOT EXISTS {} (
                key TEXT NOT NULL PRIMARY KEY,
                value TEXT NOT NULL,
                is_binary BOOLEAN NOT NULL,
                etag TEXT NOT NULL,
                expiration_time TIMESTAMP DEFAULT NULL,
                update_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
            )",
            settings.table
        ))?;
        transaction
            .execute(
                &format!("REPLACE INTO {table} (key, value) VALUES (?, '1')"),
                [LEVEL],
            )
            .map_err(|error| failure("failed to write the migration level", error))?;
    }
    transaction
        .commit()
        .map_err(|error| failure("failed to commit the migrations", error))
}
