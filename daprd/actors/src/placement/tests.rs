//! Rounds of placement while actors go.

use std::sync::Arc;

use proto::placement::v1::{PlacementTable, PlacementTables};

use super::*;
use crate::tests::{Plain, engine, request};

fn order(operation: &str, version: u64) -> Result<PlacementOrder, Status> {
    let other = Host {
        name: "127.0.0.1:2".to_owned(),
        id: "app".to_owned(),
        ..Host::default()
    };
    let table = PlacementTable {
        load_map: [(other.name.clone(), other)].into(),
        ..PlacementTable::default()
    };
    let tables = PlacementTables {
        entries: [("kind".to_owned(), table)].into(),
        replication_factor: 100,
        ..PlacementTables::default()
    };
    Ok(PlacementOrder {
        operation: operation.to_owned(),
        version,
        tables: (operation == "update").then_some(tables),
    })
}

/// What placement gives a host for a round by default.
const ROUND: Duration = Duration::from_secs(8);

#[tokio::test(start_paused = true)]
async fn an_app_that_hangs_in_farewells_holds_up_no_round() {
    let engine = engine(Arc::new(Plain { hangs: true }));
    engine.invoke(request("call")).await.unwrap();
    engine.0.line.ready.store(true, Ordering::Relaxed);
    let (orders, incoming) = mpsc::channel(REPORTS);
    let (reports, mut answers) = mpsc::channel(REPORTS);
    let advertised = engine.0.hosting.advertised();
    let incoming = ReceiverStream::new(incoming);
    let conversation = engine.converse(incoming, &reports, advertised);
    let placement = async {
        let mut said = async |operation, version, limit| {
            orders.send(order(operation, version)).await.unwrap();
            let answer = timeout(limit, answers.recv()).await;
            answer.map(|answer| {
                let answer = answer.expect("the stream goes on");
                (answer.operation(), answer.version())
            })
        };
        let soon = Duration::from_millis(100);
        let locked = said("lock", 1, soon).await;
        assert_eq!(locked, Ok((HostOperation::Lock, 1)));
        let early = said("update", 1, soon).await;
        assert!(early.is_err(), "others may not have the actor yet");
        // It begins anew, for others.
        let locked = said("lock", 2, soon).await;
        assert_eq!(locked, Ok((HostOperation::Lock, 2)));
        let updated = said("update", 2, ROUND).await;
        assert_eq!(updated, Ok((HostOperation::Update, 2)));
        let unlocked = said("unlock", 2, soon).await;
        assert_eq!(unlocked, Ok((HostOperation::Unlock, 2)));
    };
    tokio::select! {
        ended = conversation => panic!("{ended:?}"),
        () = placement => {}
    }
}
