//! Command lines that tests and charts give, and those that cannot work.

use super::*;

fn parse(args: &[&str]) -> Flags {
    Flags::try_parse_from(std::iter::once("scheduler").chain(args.iter().copied())).unwrap()
}

fn embedded(settings: &Settings) -> &Embedded {
    match &settings.store {
        Store::Embedded(store) => store,
        Store::Etcd(_) => panic!("not the store of the program"),
    }
}

fn error(args: &[&str]) -> String {
    parse(args).settings().err().unwrap().to_string()
}

#[test]
fn defaults() {
    let flags = parse(&[]);
    assert_eq!(flags.unused.given(), Vec::<&str>::new());
    let settings = flags.settings().unwrap();
    assert_eq!((settings.port, &*settings.host), (50006, ""));
    let store = embedded(&settings);
    assert_eq!(
        (store.client_port, &*store.client_host),
        (2379, "localhost")
    );
    assert_eq!(store.quota, 9_200_000_000_000_000_000);
    assert!(
        store
            .folder
            .ends_with("default-dapr-scheduler-server-0/dapr-0.1")
    );
    assert!(settings.broadcast.ends_with(":50006"));
}

#[test]
fn what_tests_and_charts_pass() {
    let flags = parse(&[
        "--log-level=debug",
        "--id=x",
        "--port=1",
        "--healthz-port=2",
        "--healthz-listen-address=127.0.0.1",
        "--metrics-port=3",
        "--etcd-data-dir=/d",
        "--etcd-client-port=4",
        "--listen-address=127.0.0.1",
        "--identity-directory-write=/i",
        "--etcd-backend-batch-interval=50ms",
        "--etcd-initial-cluster=x=http://127.0.0.1:5",
        "--workers=128",
        "--etcd-space-quota=16Mi",
        "--etcd-embed",
        "--etcd-metrics=extensive",
    ]);
    let given = ["etcd-backend-batch-interval", "etcd-metrics", "workers"];
    assert_eq!(flags.unused.given(), given);
    let settings = flags.settings().unwrap();
    assert_eq!(settings.broadcast, "127.0.0.1:1");
    assert_eq!(settings.identity, Some("/i".into()));
    assert_eq!(embedded(&settings).quota, 16 << 20);
    let told = parse(&["--override-broadcast-host-port=h:9"])
        .settings()
        .unwrap();
    assert_eq!(told.broadcast, "h:9");
}

#[test]
fn replicas_share_an_etcd() {
    let settings = parse(&[
        "--id=dapr-scheduler-server-2",
        "--etcd-embed=false",
        "--etcd-client-endpoints=a:1,https://b:2",
        "--etcd-client-username=u",
        "--etcd-client-password=p",
    ]);
    let Store::Etcd(store) = settings.settings().unwrap().store else {
        panic!("the store of the program");
    };
    assert_eq!(store.endpoints, ["a:1", "https://b:2"]);
    assert_eq!((&*store.username, &*store.password), ("u", "p"));
}

#[test]
fn what_does_not_go_together() {
    for (args, text) in [
        (
            &["--etcd-client-endpoints=h:1"][..],
            "cannot use --etcd-client-endpoints with --etcd-embed",
        ),
        (
            &["--etcd-client-username=u"],
            "cannot use --etcd-client-username with --etcd-embed",
        ),
        (
            &["--etcd-client-password=p"],
            "cannot use --etcd-client-password with --etcd-embed",
        ),
        (
            &["--etcd-embed=false"],
            "must specify --etcd-client-endpoints when not using embedded etcd",
        ),
        (
            &["--id=other"],
            "scheduler ID: other is not found in initial cluster",
        ),
        (
            &["--id=a", "--etcd-initial-cluster=a=http://h:1,b=http://h:2"],
            "lists 2 members",
        ),
        (
            &["--id=a", "--etcd-initial-cluster=a=h:1"],
            "not of the form",
        ),
        (
            &["--etcd-client-listen-address=0.0.0.0"],
            "\"0.0.0.0\" is not of the loopback",
        ),
        (
            &["--etcd-client-listen-address="],
            "\"\" is not of the loopback",
        ),
        (
            &["--kubeconfig=/k"],
            "kubeconfig flag is only valid in --mode=kubernetes",
        ),
    ] {
        let error = error(args);
        assert!(error.contains(text), "{error}");
    }
}
