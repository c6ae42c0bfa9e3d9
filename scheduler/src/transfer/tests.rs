//! From one file of the embedded store to another.

use proto::scheduler::v1 as wire;

use super::*;
use crate::spec::{self, any};
use crate::testing::{app, at};

struct Opened {
    store: store::Shared,
    folder: tempfile::TempDir,
}

fn opened() -> Opened {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, _) = Embedded::open(&folder.path().join("store"), u64::MAX).expect("a new file");
    Opened {
        store: Arc::new(store),
        folder,
    }
}

fn job(name: &str, partition: u64) -> Op {
    let job = wire::Job {
        schedule: Some("@every 10s".to_owned()),
        ..wire::Job::default()
    };
    let now = at("2026-01-01T00:00:00Z");
    let stored = spec::stored(job, any(&app("ns", "app")), now, partition).expect("a job");
    let key = format!("{JOBS}app||ns||app||{name}");
    Op::put(key, stored.encode_to_vec())
}

fn counter(name: &str, count: u32) -> Op {
    let counter = Counter {
        job_partition_id: 1,
        count,
        ..Counter::default()
    };
    Op::put(
        format!("{COUNTERS}app||ns||app||{name}"),
        counter.encode_to_vec(),
    )
}

async fn all(store: &store::Shared) -> Vec<(Bytes, Bytes)> {
    let page = store
        .range(Range::prefix(""))
        .await
        .expect("it is readable");
    let entries = page.entries.into_iter();
    entries.map(|entry| (entry.key, entry.value)).collect()
}

fn count(written: u64, same: u64, kept: u64) -> Count {
    Count {
        written,
        same,
        kept,
    }
}

#[tokio::test]
async fn jobs_move_with_their_counters_and_may_do_so_twice() {
    let (from, to) = (opened(), opened());
    // More than a page of them.
    let jobs = (0..1500).map(|n| job(&format!("j{n:04}"), n));
    let ops: Vec<_> = jobs.chain([counter("j0007", 3)]).collect();
    from.store.commit(ops.into()).await.unwrap();
    let file = from.folder.path().join("file");
    assert_eq!(export(&from.store, &file).await.unwrap(), 1500);
    let again = export(&from.store, &file).await.unwrap_err();
    assert!(format!("{again:#}").contains("cannot make"), "{again:#}");
    assert_eq!(
        import(&to.store, &file, false).await.unwrap(),
        count(1500, 0, 0)
    );
    assert_eq!(all(&to.store).await, all(&from.store).await);
    assert_eq!(
        import(&to.store, &file, false).await.unwrap(),
        count(0, 1500, 0)
    );

    // What has been written since stays, unless it is told to go.
    to.store
        .commit(vec![job("j0007", 9), counter("j0007", 1)].into())
        .await
        .unwrap();
    assert_eq!(
        import(&to.store, &file, false).await.unwrap(),
        count(0, 1499, 1)
    );
    assert_ne!(all(&to.store).await, all(&from.store).await);
    assert_eq!(
        import(&to.store, &file, true).await.unwrap(),
        count(1, 1499, 0)
    );
    assert_eq!(all(&to.store).await, all(&from.store).await);
}

#[tokio::test]
async fn files_that_are_none_or_cut_off_are_named() {
    let from = opened();
    from.store
        .commit(vec![job("a", 1), job("b", 2)].into())
        .await
        .unwrap();
    let path = from.folder.path().join("file");
    export(&from.store, &path).await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().collect();
    for (lines, error) in [
        (&lines[..3], "has no last line"),
        (&lines[1..], "does not begin as an export"),
        (&[lines[0], lines[1], lines[3]], "has 1 jobs instead of 2"),
        (&[lines[0], "{}"], "line 2 of"),
        (
            &[lines[0], r#"{"name":"a/b","job":""}"#],
            "must not contain",
        ),
        (&[lines[0], r#"{"name":"a","job":"!"}"#], "line 2 of"),
        (&[lines[0], r#"{"name":"a","job":"AAAA"}"#], "line 2 of"),
    ] {
        let to = opened();
        std::fs::write(&path, lines.join("\n")).unwrap();
        let refused = import(&to.store, &path, false).await.unwrap_err();
        assert!(format!("{refused:#}").contains(error), "{refused:#}");
        assert_eq!(all(&to.store).await, [], "nothing of it is written");
    }
}

#[tokio::test]
async fn a_store_that_is_not_there_is_not_exported() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("typo");
    let refused = ensure_store(&missing).unwrap_err();
    assert!(
        format!("{refused}").contains("there is no store in"),
        "{refused}"
    );
    assert!(!missing.exists());
    std::fs::write(folder.path().join(crate::server::FILE), "").unwrap();
    assert!(ensure_store(folder.path()).is_err());
    std::fs::write(folder.path().join(crate::server::FILE), "x").unwrap();
    assert!(ensure_store(folder.path()).is_ok());
}
