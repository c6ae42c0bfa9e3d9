//! The shell around the election: reads and writes the Lease, and runs the leader's work while this replica leads.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::PostParams;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::elector::{Decision, Elector, Record, Terms};

/// The Lease that replicas share, and who this one is.
#[derive(Clone)]
pub struct Options {
    /// The Leases of the program's namespace.
    pub leases: Api<Lease>,
    /// The Lease's name.
    pub name: String,
    /// Unlike that of any other replica; see [`identity`].
    pub identity: String,
}

/// Runs `work` while this replica leads, until shutdown. The token `work` gets is cancelled when the lease is
/// lost; `work` starts anew when it is won again.
///
/// # Errors
/// Those of `work`.
pub async fn run<Work, Term>(
    options: Options,
    work: Work,
    shutdown: CancellationToken,
) -> anyhow::Result<()>
where
    Work: Fn(CancellationToken) -> Term,
    Term: Future<Output = anyhow::Result<()>>,
{
    let mut elector = Elector::new(options.identity.clone(), Terms::default());
    let mut held = None;
    let mut leadership = Leadership { work, term: None };
    loop {
        let expires = elector.expires();
        {
            let mut look = std::pin::pin!(look(&options, &mut elector, &mut held));
            loop {
                let led = leadership.term.is_some();
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    result = leadership.serve() => return result,
                    () = &mut look => break,
                    // An API server that takes its time does not make this replica lead for longer.
                    () = until(expires), if led => leadership.set(false).await?,
                }
            }
        }
        if shutdown.is_cancelled() {
            break;
        }
        let now = Instant::now();
        leadership.set(elector.leads(now)).await?;
        let pause = elector.pause(now, fastrand::f64());
        tokio::select! {
            () = shutdown.cancelled() => break,
            result = leadership.serve() => return result,
            () = tokio::time::sleep(pause) => {}
        }
    }
    leadership.set(false).await?;
    release(&options, &mut elector).await;
    Ok(())
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The leader's work, while there is any.
struct Leadership<Work, Term> {
    work: Work,
    term: Option<(CancellationToken, Pin<Box<Term>>)>,
}

impl<Work, Term> Leadership<Work, Term>
where
    Work: Fn(CancellationToken) -> Term,
    Term: Future<Output = anyhow::Result<()>>,
{
    /// Does the work; ends only with it.
    async fn serve(&mut self) -> anyhow::Result<()> {
        match &mut self.term {
            Some((_, term)) => {
                let result = term.as_mut().await;
                self.term = None;
                result
            }
            None => std::future::pending().await,
        }
    }

    /// Begins or ends the work.
    async fn set(&mut self, leads: bool) -> anyhow::Result<()> {
        match (leads, self.term.take()) {
            (true, None) => {
                tracing::info!("this replica leads now");
                let token = CancellationToken::new();
                self.term = Some((token.clone(), Box::pin((self.work)(token))));
                Ok(())
            }
            (false, Some((token, term))) => {
                tracing::info!("this replica leads no more");
                token.cancel();
                term.await
            }
            (_, term) => {
                self.term = term;
                Ok(())
            }
        }
    }
}

async fn look(options: &Options, elector: &mut Elector, held: &mut Option<Lease>) {
    let name = &options.name;
    match attempt(options, elector, held).await {
        Ok(()) => {}
        Err(Failure::Refused(error)) => tracing::warn!(%error, "cannot read or write lease {name}"),
        Err(Failure::Silent) => {
            tracing::warn!("the kubernetes api does not answer about lease {name}");
        }
    }
}

/// Why nothing came of an attempt.
enum Failure {
    Refused(kube::Error),
    Silent,
}

/// One request, for as long as the candidate has patience.
async fn within<T>(
    patience: Duration,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(patience, request).await {
        Ok(result) => result.map_err(Failure::Refused),
        Err(_) => Err(Failure::Silent),
    }
}

/// Reads the Lease and writes what that calls for. A leader knows what stands there, and writes over it at once: that is
/// one request less in which a slow server could make it lose the Lease. `held` is what it wrote last.
async fn attempt(
    options: &Options,
    elector: &mut Elector,
    held: &mut Option<Lease>,
) -> Result<(), Failure> {
    let Options { leases, name, .. } = options;
    let patience = elector.patience();
    let mine = held.take().filter(|_| elector.leads(Instant::now()));
    let found = match mine {
        Some(lease) => Some(lease),
        None => within(patience, leases.get_opt(name)).await?,
    };
    let record = found.as_ref().map(read);
    // Counted from before the request, so that this replica never believes in its lease longer than others do.
    let began = Instant::now();
    let params = PostParams::default();
    let (record, lease) = match elector.decide(record.as_ref(), began, Timestamp::now()) {
        Decision::Wait => {
            tracing::debug!(leader = elector.leader(), "another replica leads");
            return Ok(());
        }
        Decision::Create(record) => {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(name.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(write(&record)),
            };
            let created = within(patience, leases.create(&params, &lease)).await?;
            (record, created)
        }
        Decision::Update(record) => {
            let mut lease = found.unwrap_or_default();
            lease.spec = Some(write(&record));
            let replaced = within(patience, leases.replace(name, &params, &lease)).await?;
            (record, replaced)
        }
    };
    elector.written(record, began);
    *held = Some(lease);
    Ok(())
}

/// Gives the lease back, so that another replica need not wait for its end.
async fn release(options: &Options, elector: &mut Elector) {
    let Options { leases, name, .. } = options;
    let patience = elector.patience();
    let release = async {
        let Some(mut lease) = leases.get_opt(name).await? else {
            return Ok(());
        };
        let Some(free) = elector.resign(&read(&lease), Timestamp::now()) else {
            return Ok(());
        };
        lease.spec = Some(write(&free));
        let replaced = leases.replace(name, &PostParams::default(), &lease).await;
        replaced.map(drop)
    };
    match within(patience, release).await {
        Ok(()) => {}
        Err(Failure::Refused(error)) => tracing::warn!(%error, "cannot release lease {name}"),
        Err(Failure::Silent) => {
            tracing::warn!("the kubernetes api does not answer, lease {name} runs out by itself");
        }
    }
}

fn read(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        seconds: spec.lease_duration_seconds.unwrap_or_default(),
        acquired: spec.acquire_time.map(|time| time.0),
        renewed: spec.renew_time.map(|time| time.0),
        transitions: spec.lease_transitions.unwrap_or_default(),
    }
}

fn write(record: &Record) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(record.holder.clone()),
        lease_duration_seconds: Some(record.seconds),
        acquire_time: record.acquired.map(MicroTime),
        renew_time: record.renewed.map(MicroTime),
        lease_transitions: Some(record.transitions),
        ..LeaseSpec::default()
    }
}

/// A name no other replica has, nor this one after a restart.
pub fn identity(host: &str) -> String {
    format!("{host}_{:032x}", fastrand::u128(..))
}

#[cfg(test)]
mod tests;
