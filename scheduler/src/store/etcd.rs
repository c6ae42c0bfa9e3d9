//! The store in an etcd that runs elsewhere, which several replicas have in common.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream;
use proto::etcd::rpc;
use tokio::sync::Semaphore;
use tonic::{Code, Status};

use super::{Committed, Error, Lease, Page, Range, Size, Store, Txn, Watch};
use client::Client;

mod client;
mod connect;
mod watch;
mod wire;

pub(crate) use connect::Options;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Etcd {
    client: Arc<Client>,
    writing: Arc<Semaphore>,
}

impl Etcd {
    /// An etcd with these endpoints, which is dialled when it is first asked.
    ///
    /// # Errors
    /// For endpoints that are none.
    pub fn new(options: &Options) -> anyhow::Result<Self> {
        Ok(Self {
            client: Arc::new(Client::new(options)?),
            writing: Arc::new(Semaphore::new(WRITES)),
        })
    }
}

#[async_trait]
impl Store for Etcd {
    async fn range(&self, range: Range) -> Result<Page, Error> {
        let request = wire::range(&range);
        let reply = self.client.call(true, |to| {
            let request = to.request(request.clone());
            async move { to.kv().range(request).await }
        });
        let reply = reply.await.map_err(failed)?;
        Ok(Page {
            revision: wire::revision(reply.header.as_ref()),
            more: reply.more,
            entries: reply.kvs.into_iter().map(wire::entry).collect(),
        })
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, Error> {
        let _turn = self.writing.acquire().await.map_err(|_| Error::Closed)?;
        let request = wire::txn(&txn);
        let reply = self.client.call(false, |to| {
            let request = to.request(request.clone());
            async move { to.kv().txn(request).await }
        });
        let reply = reply.await.map_err(failed)?;
        Ok(Committed {
            held: reply.succeeded,
            revision: wire::revision(reply.header.as_ref()),
            deleted: wire::deleted(&reply.responses),
        })
    }

    fn watch(&self, prefix: &str) -> Watch {
        let watching = watch::Watching::new(self.client.clone(), prefix);
        let news = |mut watching: watch::Watching| async {
            let seen = watching.next().await;
            Some((seen, watching))
        };
        stream::unfold(watching, news).boxed()
    }

    async fn grant(&self, ttl: Duration) -> Result<Lease, Error> {
        let request = rpc::LeaseGrantRequest {
            ttl: i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX),
            id: 0,
        };
        // One that is granted and not heard of ends by itself.
        let reply = self.client.call(true, |to| {
            let request = to.request(request);
            async move { to.lease().lease_grant(request).await }
        });
        let reply = reply.await.map_err(failed)?;
        Ok(Lease {
            id: reply.id,
            ttl: wire::seconds(reply.ttl),
        })
    }

    async fn renew(&self, lease: i64) -> Result<Option<Duration>, Error> {
        let reply = self.client.call(true, |to| {
            let one = stream::iter([rpc::LeaseKeepAliveRequest { id: lease }]);
            let request = to.request(one);
            async move {
                let mut answers = to.lease().lease_keep_alive(request).await?.into_inner();
                let answer = answers.message().await?;
                let answer = answer.ok_or_else(|| Status::unavailable("no answer"))?;
                Ok(tonic::Response::new(answer))
            }
        });
        let ttl = wire::seconds(reply.await.map_err(failed)?.ttl);
        Ok((!ttl.is_zero()).then_some(ttl))
    }

    async fn revoke(&self, lease: i64) -> Result<bool, Error> {
        let request = rpc::LeaseRevokeRequest { id: lease };
        let reply = self.client.call(true, |to| {
            let request = to.request(request);
            async move { to.lease().lease_revoke(request).await }
        });
        match reply.await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(failed(status)),
        }
    }

    async fn size(&self) -> Result<Size, Error> {
        let reply = self.client.call(true, |to| {
            let request = to.request(rpc::StatusRequest {});
            async move { to.maintenance().status(request).await }
        });
        let reply = reply.await.map_err(failed)?;
        let bytes = |bytes: i64| u64::try_from(bytes).unwrap_or_default();
        Ok(Size {
            allocated: bytes(reply.db_size),
            used: bytes(reply.db_size_in_use),
            full: reply.errors.iter().any(|error| error.contains("NOSPACE")),
            revision: wire::revision(reply.header.as_ref()),
        })
    }
}

fn failed(status: Status) -> Error {
    if status.code() == Code::ResourceExhausted && status.message().contains("space exceeded") {
        return Error::Full;
    }
    Error::Unavailable(transport::describe(&status).into())
}

/// Writes that are under way at a time.
const WRITES: usize = 1024;
