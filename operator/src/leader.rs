//! The shell around the election: reads and writes the Lease, and runs the leader's work while this replica leads.

use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::Pin;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::PostParams;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::lease::{Decision, Elector, Record, Terms};

/// Name of the Lease (contract 5.2).
pub const LEASE: &str = "operator.dapr.io";

/// Runs `work` while this replica leads, until shutdown. The token `work` gets is cancelled when the lease is
/// lost; `work` starts anew when it is won again.
pub async fn run<Work, Term>(
    leases: Api<Lease>,
    identity: String,
    work: Work,
    shutdown: CancellationToken,
) -> anyhow::Result<()>
where
    Work: Fn(CancellationToken) -> Term,
    Term: Future<Output = anyhow::Result<()>>,
{
    let mut elector = Elector::new(identity, Terms::default());
    let mut office = Office { work, term: None };
    loop {
        let look = async {
            look(&leases, &mut elector).await;
        };
        tokio::select! {
            () = shutdown.cancelled() => break,
            result = office.serve() => return result,
            () = look => {}
        }
        let now = Instant::now();
        office.set(elector.leads(now)).await?;
        let pause = elector.pause(now, random());
        tokio::select! {
            () = shutdown.cancelled() => break,
            result = office.serve() => return result,
            () = tokio::time::sleep(pause) => {}
        }
    }
    office.set(false).await?;
    release(&leases, &mut elector).await;
    Ok(())
}

/// The leader's work, while there is any.
struct Office<Work, Term> {
    work: Work,
    term: Option<(CancellationToken, Pin<Box<Term>>)>,
}

impl<Work, Term> Office<Work, Term>
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

async fn look(leases: &Api<Lease>, elector: &mut Elector) {
    let patience = elector.patience();
    match tokio::time::timeout(patience, attempt(leases, elector)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "cannot read or write lease {LEASE}"),
        Err(_) => tracing::warn!("the kubernetes api does not answer about lease {LEASE}"),
    }
}

async fn attempt(leases: &Api<Lease>, elector: &mut Elector) -> Result<(), kube::Error> {
    let found = leases.get_opt(LEASE).await?;
    let record = found.as_ref().map(read);
    // Counted from before the request, so that this replica never believes in its lease longer than others do.
    let began = Instant::now();
    let written = match elector.decide(record.as_ref(), began, Timestamp::now()) {
        Decision::Wait => {
            tracing::debug!(leader = elector.leader(), "another replica leads");
            return Ok(());
        }
        Decision::Create(record) => {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(LEASE.to_owned()),
                    ..ObjectMeta::default()
                },
                spec: Some(write(&record)),
            };
            leases.create(&PostParams::default(), &lease).await?;
            record
        }
        Decision::Update(record) => {
            let mut lease = found.unwrap_or_default();
            lease.spec = Some(write(&record));
            leases
                .replace(LEASE, &PostParams::default(), &lease)
                .await?;
            record
        }
    };
    elector.written(written, began);
    Ok(())
}

/// Gives the lease back, so that another replica need not wait for its end.
async fn release(leases: &Api<Lease>, elector: &mut Elector) {
    let patience = elector.patience();
    let release = async {
        let Some(mut lease) = leases.get_opt(LEASE).await? else {
            return Ok(());
        };
        let Some(free) = elector.resign(&read(&lease), Timestamp::now()) else {
            return Ok(());
        };
        lease.spec = Some(write(&free));
        leases
            .replace(LEASE, &PostParams::default(), &lease)
            .await
            .map(drop)
    };
    match tokio::time::timeout(patience, release).await {
        Ok(Ok(())) => {}
        Ok(Err::<(), kube::Error>(error)) => tracing::warn!(%error, "cannot release lease {LEASE}"),
        Err(_) => {
            tracing::warn!("the kubernetes api does not answer, lease {LEASE} runs out by itself")
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
    format!("{host}_{:016x}{:016x}", draw(), draw())
}

fn random() -> f64 {
    const STEPS: f64 = (1_u64 << 53) as f64;
    (draw() >> 11) as f64 / STEPS
}

/// From the keys the standard library draws for its hash maps.
fn draw() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests;
