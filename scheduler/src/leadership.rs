//! The record by which a replica says that it lives (contract 8.2), `dapr/leadership/<id>` under a lease: brings about what
//! [`Ownership`] asks for, and tells what this replica may drive.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use prost::Message as _;
use proto::scheduler::v1::Host;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::names::LEADERSHIP;
use crate::ownership::{AGAIN, Effect, Moment, Owned, Ownership};
use crate::spec;
use crate::store::{self, Compare, Lease, Op, Page, Range, Seen, Txn};

/// The replicas there are, once they agree.
pub(crate) type Hosts = watch::Receiver<Option<Arc<[Host]>>>;

/// A replica's part in driving the jobs.
pub(crate) struct Leadership {
    machine: Ownership,
    key: String,
    store: store::Shared,
    began: Instant,
    records: store::Watch,
    asked: FuturesUnordered<BoxFuture<'static, Answer>>,
    reading: Reading,
    hosts: watch::Sender<Option<Arc<[Host]>>>,
}

/// What a request came to.
enum Answer {
    Granted(Moment, Result<Lease, store::Error>),
    Renewed(Moment, i64, Result<Option<Duration>, store::Error>),
    Revoked,
    Wrote(Result<store::Committed, store::Error>),
    Seen(Result<Page, store::Error>),
    /// Reading is to be tried again.
    Again,
}

/// Records are read once at a time.
#[derive(Clone, Copy, PartialEq)]
enum Reading {
    Not,
    Begun,
    /// They may have changed since it began.
    Stale,
}

impl Leadership {
    /// The replica `id`, which is reached as `host`. It leads nothing before it is polled with [`Leadership::next`].
    pub fn new(store: store::Shared, id: &str, host: &Host) -> (Self, Hosts) {
        let key = format!("{LEADERSHIP}{id}");
        let uids = fastrand::Rng::new();
        let (hosts, receiver) = watch::channel(None);
        let leadership = Self {
            machine: Ownership::new(key.clone().into(), spec::any(host), uids),
            key,
            records: store.watch(LEADERSHIP),
            store,
            began: Instant::now(),
            asked: FuturesUnordered::new(),
            reading: Reading::Not,
            hosts,
        };
        (leadership, receiver)
    }

    /// Whether the lease has ended meanwhile: nothing may be driven then.
    pub fn lapsed(&mut self) -> Option<Owned> {
        self.machine.advance(self.began.elapsed());
        self.machine.lapsed()
    }

    /// What the replica may drive from now on; whatever is not in it has stopped when this is called again. Nothing is lost
    /// where it is broken off.
    ///
    /// # Errors
    /// When the store has broken.
    pub async fn next(&mut self) -> Result<Owned, store::Error> {
        loop {
            let now = self.began.elapsed();
            let wake = self.machine.advance(now);
            while let Some(effect) = self.machine.effect() {
                match effect {
                    Effect::Own(owned) => {
                        self.tell(&owned);
                        return Ok(owned);
                    }
                    effect => self.ask(now, effect),
                }
            }
            let wake = async {
                match wake {
                    Some(wake) => sleep_until(self.began + wake).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(answer) = self.asked.next() => self.heard(answer)?,
                news = self.records.next() => match news {
                    Some(Seen::Changes(_)) => self.read(),
                    Some(Seen::Resync) => {
                        self.machine.anew();
                        self.read();
                    }
                    None => return Err(store::Error::Closed),
                },
                () = wake => {}
            }
        }
    }

    /// What a write has to be compared with to be this replica's: none of another one that has taken over is undone by it.
    pub fn fence(&self, owned: &Owned) -> Compare {
        Compare::Modified(self.key.clone().into(), owned.fence)
    }

    /// Takes the record away: the replica stops, and has stopped driving.
    pub async fn resign(mut self) {
        let Some(lease) = self.machine.resign(self.began.elapsed()) else {
            return;
        };
        if let Err(error) = self.store.revoke(lease).await {
            tracing::warn!("the lease of this replica ends by itself: {error}");
        }
    }

    fn tell(&self, owned: &Owned) {
        let Some(hosts) = &owned.settled else {
            return;
        };
        let host = |any: &prost_types::Any| Host::decode(&any.value[..]).ok();
        let hosts = hosts.iter().filter_map(host).collect();
        self.hosts.send_replace(Some(hosts));
    }

    fn ask(&mut self, now: Moment, effect: Effect) {
        let store = self.store.clone();
        let answer = match effect {
            Effect::Own(_) => return,
            Effect::Read => return self.read(),
            Effect::Grant => async move { Answer::Granted(now, store.grant(TTL).await) }.boxed(),
            Effect::Renew(lease) => {
                async move { Answer::Renewed(now, lease, store.renew(lease).await) }.boxed()
            }
            Effect::Revoke(lease) => async move {
                // One that is out of reach ends by itself.
                let _ = store.revoke(lease).await;
                Answer::Revoked
            }
            .boxed(),
            Effect::Write {
                record,
                lease,
                over,
            } => {
                let key = bytes::Bytes::from(self.key.clone());
                let compare = match over {
                    Some(revision) => Compare::Modified(key.clone(), revision),
                    None => Compare::Absent(key.clone()),
                };
                let put = Op::Put {
                    key,
                    value: record,
                    lease,
                };
                let txn = Txn {
                    compare: vec![compare],
                    then: vec![put],
                };
                async move { Answer::Wrote(store.commit(txn).await) }.boxed()
            }
        };
        self.asked.push(answer);
    }

    fn read(&mut self) {
        if self.reading != Reading::Not {
            self.reading = Reading::Stale;
            return;
        }
        self.reading = Reading::Begun;
        let store = self.store.clone();
        let reading = async move { Answer::Seen(store.range(Range::prefix(LEADERSHIP)).await) };
        self.asked.push(reading.boxed());
    }

    fn heard(&mut self, answer: Answer) -> Result<(), store::Error> {
        let now = self.began.elapsed();
        match answer {
            Answer::Granted(asked, outcome) => match passing(outcome)? {
                Ok(lease) => self.machine.granted(asked, lease),
                Err(error) => {
                    tracing::warn!("no lease is granted: {error}");
                    self.machine.refused(now);
                }
            },
            Answer::Renewed(asked, lease, outcome) => {
                self.machine.renewed(now, asked, lease, passing(outcome)?);
            }
            Answer::Revoked => {}
            Answer::Wrote(outcome) => {
                let outcome = passing(outcome)?;
                if outcome.is_err() && self.reading == Reading::Not {
                    // What follows it is not to come at once.
                    self.again();
                }
                self.machine.wrote(outcome);
            }
            Answer::Seen(outcome) => {
                let stale = self.reading == Reading::Stale;
                match passing(outcome)? {
                    Ok(page) => {
                        self.reading = Reading::Not;
                        self.machine.seen(&page);
                        if stale {
                            self.read();
                        }
                    }
                    Err(error) => {
                        tracing::warn!("the records of replicas cannot be read: {error}");
                        self.again();
                    }
                }
            }
            Answer::Again => {
                self.reading = Reading::Not;
                self.read();
            }
        }
        Ok(())
    }

    /// Reads in a while.
    fn again(&mut self) {
        self.reading = Reading::Stale;
        self.asked
            .push(sleep(AGAIN).map(|()| Answer::Again).boxed());
    }
}

/// An error that may pass is for the machine; others end the program.
fn passing<T>(outcome: Result<T, store::Error>) -> Result<Result<T, store::Error>, store::Error> {
    match outcome {
        Err(error) if !error.is_passing() => Err(error),
        outcome => Ok(outcome),
    }
}

/// As upstream's: a replica that is gone is noticed within this time.
const TTL: Duration = Duration::from_secs(20);
