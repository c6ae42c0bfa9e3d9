//! `nameresolution.sqlite`: sidecars on one machine find each other by a table in a file, in which each keeps a row of its
//! own fresh.

use std::time::Duration;

use async_trait::async_trait;
use component::{
    Component, Error, NameResolver, Open, Result, Scope,
    error::chain,
    fields::SECOND,
    names::{Cached, Lookup, Target},
};
use values::GoDuration;

use crate::{
    client::{Client, failure},
    metadata,
    migrations::Migrations,
};

component::metadata! {
    /// The fields of the resolver. Durations below zero count as zero.
    pub struct Declared {
        /// The database: a path, or a `file:` URI.
        connection: String => "connectionString" | "url", absent("missing connection string");
        /// How long one request may take, at least a second.
        timeout: GoDuration => "timeout" | "timeoutInSeconds", default(GoDuration::from_secs(1)), unit(SECOND);
        /// How long a request waits for another process that is writing; zero for not at all.
        busy_timeout: GoDuration => "busyTimeout", default(GoDuration::from_nanos(800_000_000)), unit(SECOND);
        /// Keeps the journal beside the file instead of writing ahead.
        disable_wal: bool => "disableWAL";
        /// The table of the sidecars.
        table: String => "tableName", default("hosts".to_owned());
        /// The table of the migration level and the last cleanup.
        metadata_table: String => "metadataTableName", default("metadata".to_owned());
        /// How long a row counts without being renewed: whole seconds, at least one more than `timeout`.
        update_interval: GoDuration => "updateInterval", default(GoDuration::from_secs(5)), unit(SECOND);
        /// How often rows that do not count any more are deleted; zero for never.
        cleanup_interval: GoDuration => "cleanupInterval" | "cleanupIntervalInSeconds",
            default(GoDuration::from_secs(3600)), unit(SECOND);
    }
}

/// Where sidecars are, by a file.
pub struct Sqlite {
    hosts: Cached<Hosts>,
    own: Own,
    scope: Scope,
}

/// The table.
#[derive(Clone)]
struct Hosts {
    client: Client,
    /// Seconds after which a row does not count any more.
    life: i64,
}

/// The row of this sidecar.
#[derive(Clone)]
struct Own {
    hosts: Hosts,
    id: String,
    address: String,
    app_id: String,
}

impl Sqlite {
    /// Opens the file, creates its tables, announces this sidecar and keeps it announced.
    ///
    /// # Errors
    /// Wrong metadata, or a file that is no database.
    pub async fn open(open: Open) -> Result<Self> {
        let declared = Declared::read(&open.metadata)?;
        let life = declared.update_interval.saturating_std();
        if life.subsec_nanos() != 0 {
            return Err(Error::invalid_metadata(
                "updateInterval",
                "has fractions of seconds",
            ));
        }
        let timeout = declared.timeout.saturating_std();
        if life < timeout + SECOND {
            let problem = "has to be at least a second longer than timeout";
            return Err(Error::invalid_metadata("updateInterval", problem));
        }
        let settings = metadata::Settings::check(metadata::Declared {
            connection: declared.connection,
            timeout: declared.timeout,
            busy_timeout: declared.busy_timeout,
            disable_wal: declared.disable_wal,
            table: declared.table,
            metadata_table: declared.metadata_table,
            cleanup_interval: declared.cleanup_interval,
        })?;
        if settings.in_memory {
            tracing::warn!("sidecars are looked up in memory: no app finds another one");
        }
        let migrations = migrations(&settings.table);
        let hosts = Hosts {
            client: Client::open(settings, migrations).await?,
            life: i64::try_from(life.as_secs()).unwrap_or(i64::MAX),
        };
        let instance = &open.instance;
        let host = match instance.host_address.contains(':') {
            true => format!("[{}]", instance.host_address),
            false => instance.host_address.clone(),
        };
        let own = Own {
            hosts: hosts.clone(),
            id: uuid::Uuid::new_v4().to_string(),
            address: format!("{host}:{}", instance.internal_port),
            app_id: instance.app_id.clone(),
        };
        own.announce("REPLACE").await?;
        // A renewal may take as long as one request, and has to be through before the row does not count any more.
        let pause = life.saturating_sub(timeout).max(SECOND).mul_f64(0.8);
        open.scope.spawn(own.clone().renew(pause));
        if let Some(every) = hosts.client.settings().cleanup_interval {
            open.scope.spawn(hosts.clone().clean_up(every));
        }
        Ok(Self {
            hosts: Cached::new(hosts),
            own,
            scope: open.scope,
        })
    }
}

fn migrations(table: &str) -> Migrations {
    Migrations {
        level: "nr-migrations",
        steps: vec![format!(
            "CREATE TABLE IF NOT EXISTS {table} (
                registration_id TEXT NOT NULL PRIMARY KEY,
                address TEXT NOT NULL,
                app_id TEXT NOT NULL,
                namespace TEXT NOT NULL,
                last_update INTEGER NOT NULL
            );
            CREATE UNIQUE INDEX IF NOT EXISTS {table}_address_idx ON {table} (address);
            CREATE INDEX IF NOT EXISTS {table}_last_update_idx ON {table} (last_update);"
        )],
    }
}

impl Own {
    /// Writes the row; with `REPLACE` in place of whoever had the address before.
    async fn announce(&self, how: &'static str) -> Result<bool> {
        let table = &self.hosts.client.settings().table;
        let statement = format!(
            "{how} INTO {table} (registration_id, address, app_id, namespace, last_update)
             VALUES (?, ?, ?, '', unixepoch(CURRENT_TIMESTAMP))"
        );
        let row = (self.id.clone(), self.address.clone(), self.app_id.clone());
        let written = self.hosts.client.write(move |connection| {
            connection
                .execute(&statement, row)
                .map_err(|error| failure("failed to announce this sidecar", error))
        });
        Ok(written.await? > 0)
    }

    /// Keeps the row fresh. One that has been taken away comes back, unless somebody else has the address. Q-sqlite-names
    async fn renew(self, pause: Duration) {
        loop {
            tokio::time::sleep(pause).await;
            let renewed = match self.touch().await {
                Ok(false) => self.announce("INSERT OR IGNORE").await,
                other => other,
            };
            match renewed {
                Ok(true) => {}
                Ok(false) => tracing::error!(
                    "another sidecar announces the address {} of this one",
                    self.address
                ),
                Err(error) => {
                    tracing::error!("this sidecar is not announced: {}", chain(&error));
                }
            }
        }
    }

    /// Whether the row is there still.
    async fn touch(&self) -> Result<bool> {
        let table = &self.hosts.client.settings().table;
        let statement = format!(
            "UPDATE {table} SET last_update = unixepoch(CURRENT_TIMESTAMP)
             WHERE registration_id = ? AND address = ?"
        );
        self.change(statement).await
    }

    async fn withdraw(&self) -> Result<bool> {
        let table = &self.hosts.client.settings().table;
        let statement = format!("DELETE FROM {table} WHERE registration_id = ? AND address = ?");
        self.change(statement).await
    }

    async fn change(&self, statement: String) -> Result<bool> {
        let row = (self.id.clone(), self.address.clone());
        let changed = self.hosts.client.write(move |connection| {
            connection
                .execute(&statement, row)
                .map_err(|error| failure("failed to change the row of this sidecar", error))
        });
        Ok(changed.await? > 0)
    }
}

impl Hosts {
    async fn clean_up(self, every: Duration) {
        let delete = format!(
            "DELETE FROM {} WHERE unixepoch(CURRENT_TIMESTAMP) - last_update > {}",
            self.client.settings().table,
            self.life
        );
        loop {
            tokio::time::sleep(every).await;
            let deleted = self
                .client
                .clean_up("nr-last-cleanup", every, delete.clone());
            if let Err(error) = deleted.await {
                tracing::warn!("rows of sidecars that are gone stay: {}", chain(&error));
            }
        }
    }
}

#[async_trait]
impl Lookup for Hosts {
    async fn lookup(&self, target: &Target) -> Result<Vec<String>> {
        let statement = format!(
            "SELECT address FROM {} WHERE app_id = ?
             AND unixepoch(CURRENT_TIMESTAMP) - last_update < ? ORDER BY RANDOM()",
            self.client.settings().table
        );
        let (app_id, life) = (target.app_id.clone(), self.life);
        self.client
            .read(move |connection| {
                let read = || {
                    let mut select = connection.prepare_cached(&statement)?;
                    let found = select.query_map((app_id, life), |row| row.get(0))?;
                    found.collect::<rusqlite::Result<Vec<String>>>()
                };
                read().map_err(|error| failure("failed to look sidecars up", error))
            })
            .await
    }
}

#[async_trait]
impl Component for Sqlite {
    async fn close(&self) {
        self.scope.end();
        if let Err(error) = self.own.withdraw().await {
            tracing::warn!("this sidecar stays announced: {}", chain(&error));
        }
        self.own.hosts.client.close().await;
    }
}

#[async_trait]
impl NameResolver for Sqlite {
    async fn resolve(&self, target: &Target) -> Result<String> {
        self.hosts.resolve(target, &self.scope).await
    }

    fn doubt(&self, address: &str) {
        self.hosts.doubt(address);
    }
}
