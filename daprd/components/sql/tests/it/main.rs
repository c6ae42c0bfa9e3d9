//! SQLite against the suite of state stores, and what is its own: the layout of the file, and several sidecars on it.

mod names;

use std::sync::Arc;

use bytes::Bytes;
use component::{
    Catalog, Component, ErrorKind, StateStore,
    state::{GetRequest, Operation, SetRequest},
};
use component_conformance::{fields, open, state, table};
use rusqlite::Connection;

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    component_sql::register(&mut catalog).expect("no name is taken twice");
    catalog
}

async fn store(fields: &[(&str, &str)]) -> component::Result<Arc<dyn StateStore>> {
    catalog()
        .state
        .open("sqlite", "v1", open("store", fields))
        .await
}

fn set(key: &str, value: &'static [u8], content_type: Option<&str>) -> SetRequest {
    SetRequest {
        key: key.to_owned(),
        value: Bytes::from_static(value),
        content_type: content_type.map(str::to_owned),
        ..SetRequest::default()
    }
}

fn read(key: &str) -> GetRequest {
    GetRequest {
        key: key.to_owned(),
        ..GetRequest::default()
    }
}

#[test]
fn fields_are_declared_as_the_reference_lists_them() {
    fields::suite(&catalog());
}

#[tokio::test]
async fn a_file_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let path = format!("file:{}", folder.path().join("a.db").display());
    let store = store(&[("connectionString", &path)]).await.unwrap();
    state::suite(&*store, table::row(table::STATE, "sqlite")).await;
    let error = store.get(&read("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "closed");
}

#[tokio::test]
async fn memory_conforms() {
    let store = store(&[("connectionString", ":memory:")]).await.unwrap();
    state::suite(&*store, table::row(table::STATE, "sqlite")).await;
}

#[tokio::test]
async fn a_missing_connection_string_is_told() {
    let error = store(&[]).await.err().unwrap();
    assert_eq!(error.to_string(), "missing connection string");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    std::fs::write(&path, [b'x'; 4096]).unwrap();
    let error = store(&[("url", path.to_str().unwrap())])
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
}

#[tokio::test]
async fn the_layout_is_the_one_that_other_programs_know() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let other = Connection::open(&path).unwrap();
    other.pragma_update(None, "journal_mode", "WAL").unwrap();
    other
        .execute_batch(
            "CREATE TABLE metadata (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL);
             INSERT INTO metadata VALUES ('migrations', '1');
             CREATE TABLE inttest (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL, is_binary BOOLEAN NOT NULL,
                etag TEXT NOT NULL, expiration_time TIMESTAMP DEFAULT NULL,
                update_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP);
             INSERT INTO inttest (key, value, is_binary, etag) VALUES ('old', 'AP8=', 1, 'e'), ('json', '{\"a\":1}', 0, 'e'),
                ('blob', x'6162', 0, 'e'), ('broken', '?', 1, 'e');
             INSERT INTO inttest (key, value, is_binary, etag, expiration_time)
                VALUES ('gone', '1', 0, 'e', '2001-01-01 00:00:00');",
        )
        .unwrap();
    let fields = [
        ("connectionString", path.to_str().unwrap()),
        ("tableName", "inttest"),
    ];
    let store = store(&fields).await.unwrap();
    for (key, expected) in [
        ("old", Some(&b"\x00\xff"[..])),
        ("json", Some(b"{\"a\":1}")),
        ("blob", Some(b"ab")),
        ("gone", None),
    ] {
        let item = store.get(&read(key)).await.unwrap();
        assert_eq!(item.map(|item| item.value).as_deref(), expected, "{key}");
    }
    assert!(store.get(&read("broken")).await.is_err());
    store.set(&set("new", b"\x01", None)).await.unwrap();
    store
        .set(&set("doc", b"[1]", Some("application/json; charset=utf-8")))
        .await
        .unwrap();
    for (key, expected) in [("new", ("AQ==", true)), ("doc", ("[1]", false))] {
        let row: (String, bool, String) = other
            .query_row(
                "SELECT value, is_binary, typeof(update_time) FROM inttest WHERE key = ?",
                [key],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .unwrap();
        assert_eq!((&*row.0, row.1), expected, "{key}");
        assert_eq!(row.2, "text");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sidecars_on_one_file_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let fields = [("connectionString", path.to_str().unwrap())];
    let opened = futures::future::join_all((0..6).map(|_| store(&fields))).await;
    let stores: Vec<_> = opened.into_iter().map(Result::unwrap).collect();
    let writes = stores.iter().enumerate().map(|(number, store)| async move {
        for round in 0..20 {
            let key = format!("{number}-{round}");
            let operations = vec![
                Operation::Upsert(set(&key, b"1", None)),
                Operation::Upsert(set("shared", b"2", None)),
            ];
            store
                .transact(&operations, &Default::default())
                .await
                .unwrap();
            assert!(store.get(&read(&key)).await.unwrap().is_some());
        }
    });
    futures::future::join_all(writes).await;
}

#[tokio::test]
async fn a_caller_that_goes_away_blocks_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let fields = [
        ("connectionString", path.to_str().unwrap()),
        ("busyTimeout", "30s"),
    ];
    let store = store(&fields).await.unwrap();
    let mut other = Connection::open(&path).unwrap();
    let lock = other
        .transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive)
        .unwrap();
    let write = set("a", b"1", None);
    let write = store.set(&write);
    let given_up = tokio::time::timeout(std::time::Duration::from_millis(50), write);
    assert!(given_up.await.is_err());
    lock.commit().unwrap();
    store.set(&set("b", b"1", None)).await.unwrap();
}

#[tokio::test]
async fn expired_rows_are_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let fields = [
        ("connectionString", path.to_str().unwrap()),
        ("cleanupInterval", "200ms"),
    ];
    let store = component_sql::state::Sqlite::open(open("store", &fields))
        .await
        .unwrap();
    let other = Connection::open(&path).unwrap();
    let insert = "INSERT INTO state (key, value, is_binary, etag, expiration_time)
                  VALUES ('gone', '1', 0, 'e', '2001-01-01 00:00:00')";
    other
        .busy_timeout(std::time::Duration::from_secs(5))
        .unwrap();
    other.execute(insert, []).unwrap();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let left: i64 = other
            .query_row("SELECT count(*) FROM state", [], |row| row.get(0))
            .unwrap();
        if left == 0 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "the row stays");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    store.close().await;
}
