//! The tables of a component, in upstream's layout: a row of the metadata table counts what has been done.

use component::{Error, Result};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use crate::{client::failure, metadata::Settings};

/// What a component needs in its file.
#[derive(Clone, Debug)]
pub struct Migrations {
    /// The row of the metadata table that counts them.
    pub level: &'static str,
    /// Statements, in the order in which they have come to be needed. They may be carried out where they have been already: a
    /// table may be older than the bookkeeping.
    pub steps: Vec<String>,
}

/// Brings the tables up to date. One transaction that keeps every other process out: several sidecars start at once.
pub fn perform(
    connection: &mut Connection,
    settings: &Settings,
    migrations: &Migrations,
) -> Result<()> {
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
            [migrations.level],
            |row| row.get(0),
        )
        .optional()
        .map_err(|error| failure("failed to read the migration level", error))?;
    let level = level.map_or(Ok(0), |level| {
        level.parse::<usize>().map_err(|_| {
            Error::invalid_metadata(
                "metadataTableName",
                format!(
                    "the table {table} holds the migration level {level:?}, which is no number"
                ),
            )
        })
    })?;
    for step in migrations.steps.iter().skip(level) {
        run(step)?;
    }
    if level < migrations.steps.len() {
        transaction
            .execute(
                &format!("REPLACE INTO {table} (key, value) VALUES (?, ?)"),
                (migrations.level, migrations.steps.len().to_string()),
            )
            .map_err(|error| failure("failed to write the migration level", error))?;
    }
    transaction
        .commit()
        .map_err(|error| failure("failed to commit the migrations", error))
}
