//! Members on the loopback, without identities.

use component_conformance::ports;
use tempfile::TempDir;

use super::*;

/// Longest wait for what an election brings about.
const LIMIT: Duration = Duration::from_secs(20);

async fn member(list: &str, id: &str, folder: &TempDir) -> (watch::Receiver<Leads>, Election) {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    let registry = prometheus::Registry::new();
    let options = security::Options::without_identity(security::PLACEMENT, &registry);
    let (security, _) = security::new(options).expect("no identity");
    let options = Options {
        members: Members::parse(list, id).expect("members"),
        security,
        folder: Some(folder.path().to_owned()),
    };
    Election::open(options).await.expect("it listens")
}

/// One that went on might give its vote twice in a term.
#[tokio::test]
async fn a_member_that_cannot_keep_its_vote_takes_part_no_more() {
    let [a, b] = ports::several().map(ports::Reserved::release);
    let list = format!("a=127.0.0.1:{a},b=127.0.0.1:{b}");
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (_, good) = member(&list, "a", &folders[0]).await;
    let (leads, bad) = member(&list, "b", &folders[1]).await;
    // Root may write everywhere, but not into a folder that is none.
    std::fs::remove_dir_all(folders[1].path()).unwrap();
    std::fs::write(folders[1].path(), "").unwrap();
    let shutdown = CancellationToken::new();
    let ended = async {
        let ended = tokio::time::timeout(LIMIT, bad.run(shutdown.clone())).await;
        shutdown.cancel();
        ended.expect("it ends by itself")
    };
    let folder = folders[1].path().to_owned();
    let (ended, other) = tokio::join!(ended, good.run(shutdown.clone()));
    std::fs::remove_file(folder).unwrap();
    let error = ended.expect_err("it says why");
    let text = format!("{error:#}");
    assert!(text.contains("takes part in no election"), "{text}");
    assert!(text.contains("Vote"), "{text}");
    assert_eq!(*leads.borrow(), Leads::No);
    other.expect("the other one goes on until it is stopped");
}
