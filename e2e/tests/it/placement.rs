//! Several members of placement (contract 7.2): one leads, the others send hosts on, and the next one leads when it is gone.

use std::time::Duration;

use e2e::{Placement, Sentry, mesh, ports, wait};
use proto::extensions::placement::v1::{Frame, members_client::MembersClient};
use proto::placement::v1::{Host, HostOperation, placement_client::PlacementClient};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};

const NAMES: [&str; 3] = ["one", "two", "three"];

/// Members that know of each other; with sentry under mutual TLS.
pub struct Cluster {
    list: String,
    /// Where hosts find them.
    pub ports: [u16; 3],
    sentry: Option<Sentry>,
    pub members: Vec<Option<Placement>>,
}

impl Cluster {
    pub async fn start(sentry: Option<Sentry>) -> Self {
        let [a, b, c, d, e, f] = ports::several().map(ports::Reserved::release);
        let list: Vec<String> = NAMES
            .iter()
            .zip([a, b, c])
            .map(|(name, port)| format!("{name}=127.0.0.1:{port}"))
            .collect();
        let mut cluster = Self {
            list: list.join(","),
            ports: [d, e, f],
            sentry,
            members: Vec::new(),
        };
        for index in 0..NAMES.len() {
            let member = cluster.member(index).await;
            cluster.members.push(Some(member));
        }
        cluster
    }

    async fn member(&self, index: usize) -> Placement {
        let builder = Placement::builder()
            .port(self.ports[index])
            .arg(&format!("--id={}", NAMES[index]))
            .arg(&format!("--initial-cluster={}", self.list));
        match &self.sentry {
            Some(sentry) => builder.sentry(sentry),
            None => builder,
        }
        .start()
        .await
    }

    /// Where hosts find them, in no order of rank.
    pub fn addresses(&self) -> String {
        let ports = self.ports.iter().map(|port| format!("127.0.0.1:{port}"));
        ports.collect::<Vec<_>>().join(",")
    }

    /// Starts a member again that is gone, where it was.
    pub async fn restart(&mut self, index: usize) {
        let again = self.member(index).await;
        self.members[index] = Some(again);
    }

    pub fn alive(&self) -> impl Iterator<Item = (usize, &Placement)> {
        let members = self.members.iter().enumerate();
        members.filter_map(|(index, member)| Some((index, member.as_ref()?)))
    }

    /// Who says that it leads.
    async fn leaders(&self) -> Vec<usize> {
        let mut leaders = Vec::new();
        for (index, member) in self.alive() {
            let metrics = member.metrics().get("/metrics").await;
            if metrics.text().contains("\ndapr_placement_leader_status 1") {
                leaders.push(index);
            }
        }
        leaders
    }

    /// The one that leads, once one does.
    pub async fn leader(&self) -> usize {
        wait::until("one leader", wait::DEADLINE, || async {
            match self.leaders().await.as_slice() {
                [leader] => Some(*leader),
                _ => None,
            }
        })
        .await
    }
}

fn host() -> Host {
    Host {
        name: "127.0.0.1:4000".into(),
        id: "orders".into(),
        namespace: "default".into(),
        entities: vec!["Cart".into()],
        operation: HostOperation::Report.into(),
        ..Host::default()
    }
}

/// Reports a host, and waits for the first order or the refusal.
async fn report(member: &Placement) -> Result<String, Status> {
    let channel = mesh::plain(member.port());
    let reports = tokio_stream::once(host()).chain(tokio_stream::pending());
    let orders = PlacementClient::new(channel)
        .report_dapr_status(reports)
        .await?;
    let order = orders.into_inner().message().await?;
    Ok(order.map(|order| order.operation).unwrap_or_default())
}

#[tokio::test]
async fn one_of_several_members_leads() {
    let mut cluster = Cluster::start(None).await;
    let first = cluster.leader().await;
    for (index, member) in cluster.alive() {
        let answer = report(member).await;
        if index == first {
            assert_eq!(answer.expect("the leader takes hosts"), "lock");
        } else {
            assert_eq!(
                answer.expect_err("refused").code(),
                Code::FailedPrecondition
            );
        }
        member.health().get("/healthz").await.expect_status(200);
    }

    // A host of the leader's is told to look for the next one, and finds it.
    drop(cluster.members[first].take());
    let second = cluster.leader().await;
    assert_ne!(second, first);
    let next = cluster.members[second].as_ref().expect("it leads");
    assert_eq!(report(next).await.expect("a host"), "lock");

    // It comes back without a memory, and follows.
    cluster.restart(first).await;
    let refused = wait::until(
        "a refusal by the member that is back",
        wait::DEADLINE,
        || async { report(cluster.members[first].as_ref()?).await.err() },
    );
    assert_eq!(refused.await.code(), Code::FailedPrecondition);
    assert_eq!(cluster.leader().await, second);
}

#[tokio::test]
async fn a_leader_without_a_majority_does_not_lead() {
    let mut cluster = Cluster::start(None).await;
    let leader = cluster.leader().await;
    for (index, member) in cluster.members.iter_mut().enumerate() {
        if index != leader {
            drop(member.take());
        }
    }
    wait::eventually("nobody leads", wait::DEADLINE, || async {
        cluster.leaders().await.is_empty()
    })
    .await;
    let left = cluster.members[leader].as_ref().expect("it runs");
    let refused = report(left).await.expect_err("refused");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(left.state().await["tables"], serde_json::json!({}));
}

#[tokio::test]
async fn members_know_each_other_by_identity() {
    mesh::install_provider();
    let sentry = Sentry::start().await;
    let anchor = sentry.anchor();
    let cluster = Cluster::start(Some(sentry)).await;
    cluster.leader().await;

    // A workload of the same trust domain is no member.
    let port = cluster.list.rsplit(':').next().expect("a port");
    let port: u16 = port.parse().expect("a number");
    let sentry = cluster.sentry.as_ref().expect("it runs");
    let orders = sentry.ca().identity("default", "orders");
    let channel = mesh::Tls::new(anchor, Some(orders)).channel(port);
    let call = MembersClient::new(channel).vote(Frame::default()).await;
    assert_eq!(call.expect_err("refused").code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_vote_is_kept_where_it_is_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let ports: [u16; 2] = ports::several().map(ports::Reserved::release);
    let list = format!("one=127.0.0.1:{},two=127.0.0.1:{}", ports[0], ports[1]);
    let start = |name: &str| {
        Placement::builder()
            .arg(&format!("--id={name}"))
            .arg(&format!("--initial-cluster={list}"))
            .arg("--inmem-store-enabled=false")
            .arg(&format!(
                "--raft-logstore-path={}",
                folder.path().join(name).display()
            ))
            .start()
    };
    let (one, two) = (start("one").await, start("two").await);
    for name in ["one", "two"] {
        let vote = folder.path().join(name).join("vote.json");
        wait::eventually("a vote on disk", Duration::from_secs(10), || async {
            vote.exists()
        })
        .await;
    }
    one.stop().await;
    two.stop().await;
}
