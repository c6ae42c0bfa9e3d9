//! SQL databases: SQLite state.
