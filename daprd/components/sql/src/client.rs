//! Connections to a SQLite file. Writes take turns on one connection, because SQLite has a single writer and waiting in a
//! queue is faster than polling its lock; reads have a few connections of their own.

use std::{sync::Arc, time::Duration};

use component::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use rusqlite::{Connection, InterruptHandle, OpenFlags, ffi::ErrorCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    metadata::Settings,
    migrations::{self, Migrations},
};

/// Connections for reading.
const READERS: usize = 4;

/// Prepared statements kept by each connection.
const STATEMENTS: usize = 32;

/// Two sidecars on one file must not both clean up; this much early still counts as due.
const CLEANUP_SLACK: Duration = Duration::from_millis(100);

/// Opening goes on trying this long while another process switches the journal or creates the tables.
const OPEN_DEADLINE: Duration = Duration::from_secs(15);
const OPEN_PAUSE: Duration = Duration::from_millis(20);

/// An open database. Cloning shares it.
#[derive(Clone)]
pub struct Client {
    settings: Arc<Settings>,
    writer: Lane,
    readers: Lane,
}

/// Some connections and the right to use them.
#[derive(Clone)]
struct Lane {
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Lane {
    fn new(most: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(most)),
            idle: Arc::default(),
        }
    }
}

impl Client {
    /// Opens the file, creates what is missing in it.
    ///
    /// # Errors
    /// Where the file cannot be opened, or is no database.
    pub async fn open(settings: Settings, migrations: Migrations) -> Result<Self> {
        let settings = Arc::new(settings);
        let migrations = Arc::new(migrations);
        let writer = Lane::new(1);
        let readers = match settings.in_memory {
            // A second connection would only wait for table locks.
            true => writer.clone(),
            false => Lane::new(READERS),
        };
        let client = Self {
            settings,
            writer,
            readers,
        };
        let deadline = tokio::time::Instant::now() + OPEN_DEADLINE;
        loop {
            let (settings, migrations) = (Arc::clone(&client.settings), Arc::clone(&migrations));
            let opened = client
                .write(move |connection| migrations::perform(connection, &settings, &migrations))
                .await;
            match opened {
                Ok(()) => return Ok(client),
                Err(error)
                    if error.kind() == ErrorKind::Unavailable
                        && tokio::time::Instant::now() < deadline =>
                {
                    tokio::time::sleep(OPEN_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What it was opened with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Runs `job` on the connection that writes.
    ///
    /// # Errors
    /// Those of `job`; [`ErrorKind::Unavailable`] after the timeout, or once closed.
    pub async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(&self.writer, job).await
    }

    /// Runs `job` on a connection that only reads.
    ///
    /// # Errors
    /// As [`Client::write`].
    pub async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(&self.readers, job).await
    }

    /// Deletes by the statement `delete`, unless another process has done so just now, which the row `last` of the metadata
    /// table tells.
    ///
    /// # Errors
    /// As [`Client::write`].
    pub async fn clean_up(
        &self,
        last: &'static str,
        every: Duration,
        delete: String,
    ) -> Result<usize> {
        let due = format!(
            "INSERT INTO {} (key, value) VALUES (?, CURRENT_TIMESTAMP)
             ON CONFLICT (key) DO UPDATE SET value = CURRENT_TIMESTAMP
             WHERE (unixepoch(CURRENT_TIMESTAMP) - unixepoch(value)) * 1000 > ?",
            self.settings.metadata_table
        );
        let at_least = every.saturating_sub(CLEANUP_SLACK).as_millis();
        let at_least = i64::try_from(at_least).unwrap_or(i64::MAX);
        self.write(move |connection| {
            let run = || -> rusqlite::Result<usize> {
                match connection.execute(&due, (last, at_least))? {
                    0 => Ok(0),
                    _ => connection.execute(&delete, []),
                }
            };
            run().map_err(|error| failure("failed to delete expired rows", error))
        })
        .await
    }

    /// Closes all connections; calls after it fail.
    pub async fn close(&self) {
        for lane in [&self.readers, &self.writer] {
            lane.permits.close();
            let idle = std::mem::take(&mut *lane.idle.lock());
            // The last connection writes the journal back.
            let _ = tokio::task::spawn_blocking(move || drop(idle)).await;
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        lane: &Lane,
        job: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let work = async {
            let permit = Arc::clone(&lane.permits)
                .acquire_owned()
                .await
                .map_err(|_| Error::new(ErrorKind::Unavailable, "the database is closed"))?;
            let settings = Arc::clone(&self.settings);
            let lane = lane.clone();
            let current = Current::default();
            let _interrupt = InterruptOnDrop(current.clone());
            tokio::task::spawn_blocking(move || on_thread(&lane, permit, &settings, &current, job))
                .await
                .map_err(|error| Error::internal("a database request broke off", error))?
        };
        let Ok(result) = tokio::time::timeout(self.settings.timeout, work).await else {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!(
                    "the database did not answer within {:?}",
                    self.settings.timeout
                ),
            ));
        };
        result
    }
}

/// The interrupt of the connection that a request is using at the moment; nothing before and after.
#[derive(Clone, Default)]
struct Current(Arc<Mutex<Option<InterruptHandle>>>);

/// A caller that has gone away must not hold the connection any longer.
struct InterruptOnDrop(Current);

impl Drop for InterruptOnDrop {
    fn drop(&mut self) {
        // Under the lock: the connection cannot be at work for somebody else meanwhile.
        if let Some(handle) = &*self.0.0.lock() {
            handle.interrupt();
        }
    }
}

fn on_thread<T>(
    lane: &Lane,
    permit: OwnedSemaphorePermit,
    settings: &Settings,
    current: &Current,
    job: impl FnOnce(&mut Connection) -> Result<T>,
) -> Result<T> {
    let idle = lane.idle.lock().pop();
    let mut connection = match idle {
        Some(connection) => connection,
        None => connect(settings)?,
    };
    *current.0.lock() = Some(connection.get_interrupt_handle());
    let result = job(&mut connection);
    *current.0.lock() = None;
    // A connection that is still within a transaction would hand it to the next request.
    if connection.is_autocommit() && !lane.permits.is_closed() {
        lane.idle.lock().push(connection);
    }
    drop(permit);
    result
}

fn connect(settings: &Settings) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&settings.uri, flags)
        .map_err(|error| failure("failed to open the database", error))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    let prepare = || {
        connection.busy_timeout(settings.busy_timeout)?;
        // Switching the journal needs the file alone; it is a no-op where the file is in that mode already.
        connection.query_row(
            &format!("PRAGMA journal_mode = {}", settings.journal_mode),
            [],
            |_| Ok(()),
        )?;
        for pragma in &settings.pragmas {
            connection.execute_batch(&format!("PRAGMA {pragma}"))?;
        }
        Ok(())
    };
    prepare().map_err(|error| failure("failed to set up the database connection", error))?;
    Ok(connection)
}

/// An error of SQLite as one of the component: another writer, or an interrupt, passes; anything else does not.
pub fn failure(what: &str, error: rusqlite::Error) -> Error {
    let kind = match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::OperationInterrupted,
        ) => ErrorKind::Unavailable,
        Some(ErrorCode::TooBig) => ErrorKind::InvalidRequest,
        Some(ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied) => {
            ErrorKind::Unauthorized
        }
        _ => ErrorKind::Internal,
    };
    Error::new(kind, what).with_source(error)
}
