//! Sidecars that find each other by a file.

use std::{sync::Arc, time::Duration};

use component::{ErrorKind, Instance, NameResolver, Open, names::Target};
use component_conformance::open;
use rusqlite::Connection;

use crate::catalog;

const DEADLINE: Duration = Duration::from_secs(20);

struct File(tempfile::TempDir);

impl File {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn url(&self) -> String {
        format!("file:{}", self.0.path().join("names.db").display())
    }

    fn peek(&self) -> Connection {
        Connection::open(self.0.path().join("names.db")).expect("the file")
    }

    async fn sidecar(&self, app_id: &str, port: u16) -> Arc<dyn NameResolver> {
        let open = Open {
            instance: Arc::new(Instance {
                app_id: app_id.to_owned(),
                host_address: "127.0.0.1".to_owned(),
                internal_port: port,
                ..Instance::default()
            }),
            ..open(
                "sqlite",
                &[("connectionString", &self.url()), ("updateInterval", "2")],
            )
        };
        let opened = catalog().names.open("sqlite", "v1", open).await;
        opened.expect("a resolver")
    }
}

fn target(app_id: &str) -> Target {
    Target {
        app_id: app_id.to_owned(),
        namespace: String::new(),
        port: 1,
    }
}

#[tokio::test]
async fn sidecars_find_each_other_and_are_gone_when_they_close() {
    let file = File::new();
    let one = file.sidecar("one", 1001).await;
    let two = file.sidecar("two", 1002).await;
    let third = file.sidecar("two", 1003).await;
    assert_eq!(two.resolve(&target("one")).await.unwrap(), "127.0.0.1:1001");
    let mut both = [
        one.resolve(&target("two")).await.unwrap(),
        one.resolve(&target("two")).await.unwrap(),
    ];
    both.sort_unstable();
    assert_eq!(both, ["127.0.0.1:1002", "127.0.0.1:1003"]);
    two.close().await;
    third.close().await;
    let gone = one.resolve(&target("three")).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    let left: u32 = file
        .peek()
        .query_row(
            "SELECT COUNT(*) FROM hosts WHERE app_id = 'two'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_row_is_kept_fresh_and_comes_back() {
    let file = File::new();
    let _one = file.sidecar("one", 1001).await;
    let peek = file.peek();
    peek.busy_timeout(DEADLINE).unwrap();
    peek.execute("DELETE FROM hosts", []).unwrap();
    let back = tokio::time::timeout(DEADLINE, async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        loop {
            ticks.tick().await;
            let count: u32 = peek
                .query_row(
                    "SELECT COUNT(*) FROM hosts WHERE address = '127.0.0.1:1001'",
                    [],
                    |row| row.get(0),
                )
                .unwrap();
            if count == 1 {
                return;
            }
        }
    });
    back.await.expect("the row is announced again");
    // A sidecar that takes the address over is not pushed out.
    peek.execute(
        "UPDATE hosts SET registration_id = 'other', last_update = 0",
        [],
    )
    .unwrap();
    let two = file.sidecar("two", 1002).await;
    let error = two.resolve(&target("one")).await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::NotFound,
        "the row is not fresh any more"
    );
}
