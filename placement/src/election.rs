//! Which member of the cluster leads (contract 7.2). Members elect one by Raft, whose log carries nothing else: what a
//! leader knows of hosts it hears from them again.
//!
//! A leader that has not heard of a majority for [`LEASE`] does not lead any more, which is before the others elect
//! another one. One member alone needs nobody, and nothing of this runs.

mod log;
mod machine;
mod network;
mod service;
mod types;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::Fatal;
use openraft::{Membership, Raft, ServerState, SnapshotPolicy};
use proto::extensions::placement::v1::members_server::MembersServer;
use security::{Expect, Security};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use transport::{Connector, Listener, ServerOptions};

use crate::members::Members;
use types::Config;

/// How a member takes part.
pub(crate) struct Options {
    pub members: Members,
    pub security: Security,
    /// Where the vote is kept.
    pub folder: Option<PathBuf>,
}

/// This member's part, to be run.
pub(crate) struct Election {
    raft: Raft<Config, machine::Machine>,
    listener: Listener,
    security: Security,
    votes_from: Instant,
    leads: watch::Sender<Leads>,
}

/// Whether a member leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leads {
    /// Another does, or nobody.
    No,
    /// It does, and knows of nobody who has led before.
    First,
    /// It does, and hosts of another leader come to it.
    Next,
}

impl Leads {
    /// Whether it leads at all.
    #[must_use]
    pub fn is_yes(self) -> bool {
        self != Self::No
    }
}

impl Election {
    /// Listens for the others. The receiver tells whether this member leads.
    ///
    /// # Errors
    /// Where the port is taken, or the folder of the vote cannot be used.
    pub async fn open(options: Options) -> anyhow::Result<(watch::Receiver<Leads>, Self)> {
        let Options {
            members,
            security,
            folder,
        } = options;
        let listener = members.own.listen().await?;
        let nodes = members.nodes();
        let membership = Membership::new(vec![nodes.keys().cloned().collect()], nodes)
            .context("the members of flag --initial-cluster")?;
        let log = log::Log::open(membership, folder.as_deref())
            .context("the vote in the folder of flag --raft-logstore-path")?;
        let connector = Connector::maybe_tls(match security.id() {
            Some(id) => security.client(Expect::Id(id)),
            None => None,
        });
        let raft = Raft::new(
            members.id.clone(),
            Arc::new(timing()?),
            network::Network { connector },
            log,
            machine::Machine::default(),
        )
        .await?;
        // Without its vote a member does not know whether it has voted in the term that is on: it waits until that one is
        // over or has its leader.
        let silence = match folder {
            Some(_) => Duration::ZERO,
            None => 2 * PATIENCE,
        };
        let votes_from = Instant::now() + silence;
        let (leads, receiver) = watch::channel(Leads::No);
        let election = Self {
            raft,
            listener,
            security,
            votes_from,
            leads,
        };
        Ok((receiver, election))
    }

    /// Takes part until shutdown.
    ///
    /// # Errors
    /// Where this member can take part no more: one that cannot keep its vote might give it twice.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self {
            raft,
            listener,
            security,
            votes_from,
            leads,
        } = self;
        let service = service::Service {
            raft: raft.clone(),
            members: security.id(),
            votes_from,
        };
        let service = MembersServer::new(service).max_decoding_message_size(network::MAX_FRAME);
        let options = ServerOptions {
            tls: security.server(),
            http1: false,
            max_connections: MAX_CONNECTIONS,
            drain: Duration::ZERO,
            ..ServerOptions::default()
        };
        let candidacy = async {
            sleep_until(votes_from).await;
            raft.runtime_config().elect(true);
            watch_leadership(&raft, &leads).await
        };
        let stop = shutdown.child_token();
        let part = async {
            let ended = shutdown.run_until_cancelled(candidacy).await;
            leads.send_replace(Leads::No);
            stop.cancel();
            ended
        };
        let served = transport::serve(listener, options, service, stop.clone());
        let ((), ended) = tokio::join!(served, part);
        if let Some(fatal) = ended {
            return Err(fatal).context("this member takes part in no election any more");
        }
        if let Err(error) = raft.shutdown().await {
            tracing::warn!("the election did not end by itself: {error}");
        }
        Ok(())
    }
}

/// Tells whether this member leads, until it takes part no more.
async fn watch_leadership(
    raft: &Raft<Config, machine::Machine>,
    leads: &watch::Sender<Leads>,
) -> Fatal<Config> {
    let metrics = raft.metrics();
    let mut others_have_led = false;
    let mut looks = interval(HEARTBEAT / 2);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let now = {
            let metrics = metrics.borrow_watched();
            if let Err(fatal) = &metrics.running_state {
                return fatal.clone();
            }
            let heard = metrics.last_quorum_acked.as_deref();
            let leader = metrics.current_leader.as_ref();
            others_have_led |= leader.is_some_and(|leader| *leader != metrics.id);
            let leads = metrics.state == ServerState::Leader;
            match leads && heard.is_some_and(|at| at.elapsed() < LEASE) {
                false => Leads::No,
                true if others_have_led => Leads::Next,
                true => Leads::First,
            }
        };
        leads.send_if_modified(|before| std::mem::replace(before, now) != now);
    }
}

fn timing() -> anyhow::Result<openraft::Config> {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let config = openraft::Config {
        cluster_name: "placement".to_owned(),
        heartbeat_interval: milliseconds(HEARTBEAT),
        election_timeout_min: milliseconds(LEAST_PATIENCE),
        election_timeout_max: milliseconds(PATIENCE),
        // The log grows by an entry an election, and is cut now and then.
        snapshot_policy: SnapshotPolicy::LogsSinceLast(LOG_ENTRIES),
        max_in_snapshot_log_to_keep: LOG_ENTRIES,
        enable_pre_vote: Some(true),
        // Not before votes are given, either.
        enable_elect: false,
        // A member that comes back has an empty log.
        allow_log_reversion: Some(true),
        ..openraft::Config::default()
    };
    config.validate().context("timing of elections")
}

/// How often a leader says that it is there.
const HEARTBEAT: Duration = Duration::from_millis(100);

/// A leader that no majority has answered for this long does not lead. Members refuse votes for a little longer after
/// they heard of a leader, so nobody is elected sooner.
const LEASE: Duration = Duration::from_millis(300);

/// How long members refuse votes after they heard of a leader, and the longest time after that before somebody is a
/// candidate: the two are one setting of the library. Sidecars look for the leader for less than a second.
const PATIENCE: Duration = Duration::from_millis(400);

/// The shortest time before somebody is a candidate; the wider it is from the longest, the fewer elections are split.
const LEAST_PATIENCE: Duration = Duration::from_millis(200);

/// Elections whose entries are kept.
const LOG_ENTRIES: u64 = 64;

/// Other members have a few each.
const MAX_CONNECTIONS: usize = 256;

#[cfg(test)]
mod tests;
