//! Which schedulers there are: one of them, taken at random, tells, and tells again whenever it changes.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use proto::scheduler::v1::{self as wire, scheduler_client::SchedulerClient};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};

use crate::{LOG, MAX_MESSAGE, engine::Inner, stream};

/// How long a scheduler may take to tell of the others, before another is asked. Q-job-hosts
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// The pause around which the next attempt comes.
const PAUSE: Duration = Duration::from_secs(1);

/// Most schedulers that are believed to be there.
const MOST_HOSTS: usize = 64;

/// The schedulers that are known.
#[derive(Clone, Default)]
pub struct Hosts {
    /// `None` until one of them has told.
    list: Option<Arc<[Arc<Host>]>>,
}

/// A scheduler.
pub struct Host {
    pub address: String,
    channel: Channel,
    /// It is not there any more, or is dialled anew.
    pub gone: CancellationToken,
}

impl Hosts {
    pub fn addresses(&self) -> Vec<String> {
        let list = self.list.iter().flat_map(|list| list.iter());
        list.map(|host| host.address.clone()).collect()
    }
}

impl Host {
    pub fn client(&self) -> SchedulerClient<Channel> {
        client(self.channel.clone())
    }
}

fn client(channel: Channel) -> SchedulerClient<Channel> {
    SchedulerClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE)
}

/// Follows the schedulers; never comes back.
pub async fn follow(inner: &Arc<Inner>, known: impl FnOnce() + Send) {
    let mut known = Some(known);
    let mut failures = 0_u32;
    loop {
        // There is one, or nothing would be followed.
        let at = fastrand::usize(..inner.addresses.len().max(1));
        let address = inner.addresses.get(at).map_or("", String::as_str);
        let told = |addresses: Vec<String>| {
            inner.set_hosts(&addresses);
            if let Some(known) = known.take() {
                known();
            }
        };
        match follow_one(inner, address, told, &mut failures).await {
            Ok(()) => tracing::debug!(target: LOG, "scheduler {address} tells of hosts no longer"),
            Err(status) => {
                let problem = transport::describe(&status);
                let text = format!("Failed to watch the hosts of scheduler {address}: {problem}");
                // Said once, until it works again.
                match failures {
                    0 => tracing::error!(target: LOG, "{text}; it is tried again"),
                    _ => tracing::debug!(target: LOG, "{text}"),
                }
                failures = failures.saturating_add(1);
            }
        }
        sleep(values::around(PAUSE, fastrand::f64())).await;
    }
}

/// Follows what one scheduler tells until it ends.
async fn follow_one(
    inner: &Inner,
    address: &str,
    mut told: impl FnMut(Vec<String>),
    failures: &mut u32,
) -> Result<(), Status> {
    let channel = (inner.dial)(address)
        .ok_or_else(|| Status::invalid_argument("it is no address of a host"))?;
    let mut client = client(channel);
    let first = async {
        let request = wire::WatchHostsRequest {};
        let mut stream = client.watch_hosts(request).await?.into_inner();
        let first = stream.message().await?;
        Ok((stream, first))
    };
    let late = |_| Status::deadline_exceeded(format!("no answer within {ANSWER_LIMIT:?}"));
    let (mut stream, mut next) = match timeout(ANSWER_LIMIT, first).await.map_err(late)? {
        // Schedulers that do not know the call are those of the addresses, and stay.
        Err(status) if Status::code(&status) == Code::Unimplemented => {
            told(inner.addresses.clone());
            return std::future::pending().await;
        }
        answer => answer?,
    };
    while let Some(answer) = next {
        *failures = 0;
        told(answer.hosts.into_iter().map(|host| host.address).collect());
        next = stream.message().await?;
    }
    Ok(())
}

impl Inner {
    /// These are the schedulers from now on. One that was there before keeps its streams.
    pub fn set_hosts(self: &Arc<Self>, addresses: &[String]) {
        if addresses.is_empty() {
            tracing::warn!(target: LOG, "a scheduler says that there are none; those that are known stay");
            return;
        }
        if addresses.len() > MOST_HOSTS {
            tracing::warn!(target: LOG, "there are more than {MOST_HOSTS} schedulers; others are left out");
        }
        let _changing = self.changing.lock();
        let before = self.hosts.borrow().list.clone();
        let before = before.as_deref().unwrap_or_default();
        let mut list: Vec<Arc<Host>> = Vec::new();
        for address in addresses.iter().take(MOST_HOSTS) {
            if list.iter().any(|host| host.address == *address) {
                continue;
            }
            match before.iter().find(|host| host.address == *address) {
                Some(host) => list.push(Arc::clone(host)),
                None => list.extend(self.connect(address)),
            }
        }
        let gone = before
            .iter()
            .filter(|old| !list.iter().any(|host| Arc::ptr_eq(host, old)));
        gone.for_each(|host| host.gone.cancel());
        self.keep(list);
    }

    /// Dials a scheduler anew that does not answer on the connection that there is.
    pub fn renew(self: &Arc<Self>, host: &Arc<Host>) {
        let _changing = self.changing.lock();
        let before = self.hosts.borrow().list.clone();
        let mut list = before.as_deref().unwrap_or_default().to_vec();
        let found = list.iter_mut().find(|known| Arc::ptr_eq(known, host));
        if let Some(known) = found
            && let Some(new) = self.connect(&host.address)
        {
            *known = new;
            host.gone.cancel();
            self.keep(list);
        }
    }

    fn keep(&self, list: Vec<Arc<Host>>) {
        let list = Some(list.into());
        self.hosts.send_replace(Hosts { list });
    }

    /// A new host, and its streams.
    fn connect(self: &Arc<Self>, address: &str) -> Option<Arc<Host>> {
        let Some(channel) = (self.dial)(address) else {
            tracing::error!(target: LOG, "a scheduler is announced at {address:?}, which is no address");
            return None;
        };
        tracing::info!(target: LOG, "Scheduler host at {address}");
        let host = Arc::new(Host {
            address: address.to_owned(),
            channel,
            gone: CancellationToken::new(),
        });
        if !self.closed.is_cancelled() {
            for _ in 0..self.streams {
                let follow = stream::follow(Arc::clone(self), Arc::clone(&host));
                self.tasks.spawn("a stream of the scheduler", follow);
            }
        }
        Some(host)
    }

    /// The host whose turn it is; waits until there is one.
    pub async fn next_host(&self) -> Option<Arc<Host>> {
        let mut hosts: watch::Receiver<Hosts> = self.hosts.subscribe();
        let known = hosts.wait_for(|hosts| hosts.list.as_ref().is_some_and(|it| !it.is_empty()));
        let hosts = known.await.ok()?;
        let list = hosts.list.as_deref()?;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        list.get(turn.checked_rem(list.len())?).cloned()
    }
}
