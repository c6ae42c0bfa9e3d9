//! What every store does alike: the one of this program, and an etcd of Debian's.

use std::net::TcpListener;

use futures::StreamExt as _;
use tokio::time::timeout;

use super::embedded::Embedded;
use super::etcd::{Etcd, Options};
use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

/// An etcd that answers.
struct Server(component_conformance::servers::Etcd);

impl Server {
    async fn start() -> Self {
        let server = Self(component_conformance::servers::Etcd::start());
        let store = server.store(&[]);
        let ready = async {
            while store.range(Range::one("a")).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, ready).await.expect("in time");
        server
    }

    /// A client of it, which knows these endpoints first.
    fn store(&self, others: &[&str]) -> Etcd {
        let others = others.iter().map(|other| (*other).to_owned());
        let options = Options {
            endpoints: others.chain([self.0.address()]).collect(),
            ..Options::default()
        };
        Etcd::new(&options).expect("endpoints")
    }
}

async fn next(watch: &mut Watch) -> Seen {
    let next = timeout(DEADLINE, watch.next()).await;
    next.expect("in time").expect("the store is open")
}

/// The changes of a watch, however they are divided.
async fn changes(watch: &mut Watch, count: usize) -> Vec<Change> {
    let mut all = Vec::new();
    while all.len() < count {
        match next(watch).await {
            Seen::Changes(changes) => all.extend(changes),
            Seen::Resync => panic!("nothing was missed"),
        }
    }
    all
}

async fn keys(store: &dyn Store, range: Range) -> Vec<String> {
    let page = store.range(range).await.expect("it is readable");
    let text = |entry: Entry| String::from_utf8_lossy(&entry.key).into_owned();
    page.entries.into_iter().map(text).collect()
}

async fn conforms(store: &dyn Store, watch: &mut Watch) {
    let first = store
        .commit(vec![Op::put("t/a", "1"), Op::put("t/b", "1")].into())
        .await
        .expect("it works");
    let second = store
        .commit(vec![Op::put("t/a", "2")].into())
        .await
        .expect("it works");
    assert_eq!((first.held, second.revision), (true, first.revision + 1));
    let page = store.range(Range::one("t/a")).await.expect("it works");
    let entry = &page.entries[0];
    assert_eq!(
        (
            &entry.value[..],
            entry.created,
            entry.modified,
            entry.version
        ),
        (&b"2"[..], first.revision, second.revision, 2)
    );
    assert_eq!((page.revision, page.more), (second.revision, false));

    let txn = |compare, then| Txn {
        compare: vec![compare],
        then: vec![then],
    };
    for (compare, held) in [
        (Compare::Absent("t/a".into()), false),
        (Compare::Modified("t/a".into(), first.revision), false),
        (Compare::Modified("t/none".into(), first.revision), false),
        (Compare::Modified("t/a".into(), second.revision), true),
        (Compare::Absent("t/c".into()), true),
    ] {
        let done = store
            .commit(txn(compare.clone(), Op::put("t/c", "1")))
            .await
            .expect("it works");
        assert_eq!(done.held, held, "{compare:?}");
        store
            .commit(vec![Op::delete("t/c")].into())
            .await
            .expect("it works");
    }

    leases_conform(store).await;
    let rest = vec![Op::delete_prefix("t/"), Op::delete("t")];
    assert_eq!(
        store.commit(rest.into()).await.expect("it works").deleted,
        2
    );

    let seen = changes(watch, 11).await;
    let told: Vec<_> = seen
        .iter()
        .map(|change| {
            (
                String::from_utf8_lossy(&change.key).into_owned(),
                change.value.is_some(),
            )
        })
        .collect();
    let expected = [
        ("a", true),
        ("b", true),
        ("a", true),
        ("c", true),
        ("c", false),
    ];
    let expected =
        expected
            .into_iter()
            .chain([("c", true), ("c", false), ("l", true), ("l", false)]);
    let expected = expected.chain([("a", false), ("b", false)]);
    let expected: Vec<_> = expected
        .map(|(key, there)| (format!("t/{key}"), there))
        .collect();
    assert_eq!(told, expected);
    assert!(seen.is_sorted_by_key(|change| change.revision));
}

/// With `t/a` and `t/b` there.
async fn leases_conform(store: &dyn Store) {
    let lease = store
        .grant(Duration::from_secs(20))
        .await
        .expect("it works");
    let under = |key: &'static str| Op::Put {
        key: key.into(),
        value: "l".into(),
        lease: lease.id,
    };
    store
        .commit(vec![under("t/l")].into())
        .await
        .expect("it works");
    assert_eq!(
        store.renew(lease.id).await.expect("it works"),
        Some(lease.ttl)
    );
    let limited = Range {
        limit: Some(2),
        ..Range::prefix("t/")
    };
    assert!(store.range(limited.clone()).await.expect("it works").more);
    assert_eq!(keys(store, limited).await, ["t/a", "t/b"]);
    assert!(store.revoke(lease.id).await.expect("it works"));
    assert!(!store.revoke(lease.id).await.expect("it works"));
    assert_eq!(store.renew(lease.id).await.expect("it works"), None);
    assert_eq!(keys(store, Range::prefix("t/")).await, ["t/a", "t/b"]);
}

#[tokio::test]
async fn the_store_of_this_program_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _writer) = Embedded::open(&folder.path().join("store"), u64::MAX).unwrap();
    let mut watch = store.watch("t/");
    conforms(&store, &mut watch).await;
}

#[tokio::test]
async fn an_etcd_conforms_also_behind_an_endpoint_that_is_dead() {
    let server = Server::start().await;
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let store = server.store(&[&closed.to_string()]);
    let mut watch = store.watch("t/");
    assert_eq!(
        next(&mut watch).await,
        Seen::Resync,
        "what was before is not told"
    );
    conforms(&store, &mut watch).await;
}

#[tokio::test]
async fn an_etcd_that_is_away_is_said_to_be() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let options = Options {
        endpoints: vec![closed.to_string()],
        ..Options::default()
    };
    let store = Etcd::new(&options).unwrap();
    let error = store.range(Range::one("a")).await.unwrap_err();
    assert!(error.is_passing(), "{error}");
    assert!(error.to_string().contains("cannot connect"), "{error}");
}

#[test]
fn where_prefixes_end() {
    assert_eq!(
        End::of_prefix(b"ab"),
        End::Before(Bytes::from_static(b"ac"))
    );
    assert_eq!(
        End::of_prefix(b"a\xff\xff"),
        End::Before(Bytes::from_static(b"b"))
    );
    assert_eq!(End::of_prefix(b"\xff"), End::Open);
    assert_eq!(End::of_prefix(b""), End::Open);
}
