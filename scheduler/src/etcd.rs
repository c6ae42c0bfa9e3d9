//! The part of etcd's API that tools use, served for the embedded store (contract 8.2, process behaviour 5.2): reading and
//! writing of keys, what `etcdctl` asks of a member, and the leases there are.

use bytes::Bytes;
use futures::stream::Empty;
use proto::etcd::KeyValue;
use proto::etcd::rpc::{
    self, alarm_request::AlarmAction, kv_server::Kv, lease_server::Lease,
    maintenance_server::Maintenance,
};
use tonic::{Request, Response, Status, Streaming};

use crate::store::embedded::Embedded;
use crate::store::{self, End, Entry, Op, Range, Store as _};

/// The three services. Cheap to clone. Compat: Q-scheduler-etcd
#[derive(Clone)]
pub(crate) struct Etcd {
    pub store: Embedded,
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Kv for Etcd {
    async fn range(&self, request: Request<rpc::RangeRequest>) -> Answer<rpc::RangeResponse> {
        let request = request.into_inner();
        let range = Range {
            start: request.key,
            end: end(request.range_end),
            limit: usize::try_from(request.limit)
                .ok()
                .filter(|limit| *limit > 0),
            keys_only: request.keys_only || request.count_only,
        };
        let page = self.store.range(range).await.map_err(refused)?;
        // To count what is behind a page would be to read it all, for each page.
        let count = page.entries.len() + usize::from(page.more);
        let mut kvs: Vec<_> = page.entries.into_iter().map(key_value).collect();
        if request.count_only {
            kvs.clear();
        }
        Ok(Response::new(rpc::RangeResponse {
            header: header(page.revision),
            more: page.more,
            kvs,
            count: i64::try_from(count).unwrap_or(i64::MAX),
        }))
    }

    async fn put(&self, request: Request<rpc::PutRequest>) -> Answer<rpc::PutResponse> {
        let request = request.into_inner();
        if request.key.is_empty() {
            return Err(Status::invalid_argument("etcdserver: key is not provided"));
        }
        let op = Op::Put {
            key: request.key,
            value: request.value,
            lease: request.lease,
        };
        let done = self.write(op).await?;
        Ok(Response::new(rpc::PutResponse {
            header: header(done.revision),
            prev_kv: None,
        }))
    }

    async fn delete_range(
        &self,
        request: Request<rpc::DeleteRangeRequest>,
    ) -> Answer<rpc::DeleteRangeResponse> {
        let request = request.into_inner();
        let range = (request.key, end(request.range_end));
        let done = self.store.clear(vec![range]).await.map_err(refused)?;
        Ok(Response::new(rpc::DeleteRangeResponse {
            header: header(done.revision),
            deleted: i64::try_from(done.deleted).unwrap_or(i64::MAX),
            prev_kvs: Vec::new(),
        }))
    }

    async fn txn(&self, _: Request<rpc::TxnRequest>) -> Answer<rpc::TxnResponse> {
        Err(not_served())
    }

    async fn compact(&self, _: Request<rpc::CompactionRequest>) -> Answer<rpc::CompactionResponse> {
        // Only the last revision is kept.
        let header = self.header().await?;
        Ok(Response::new(rpc::CompactionResponse { header }))
    }
}

#[tonic::async_trait]
impl Lease for Etcd {
    type LeaseKeepAliveStream = Empty<Result<rpc::LeaseKeepAliveResponse, Status>>;

    async fn lease_revoke(
        &self,
        request: Request<rpc::LeaseRevokeRequest>,
    ) -> Answer<rpc::LeaseRevokeResponse> {
        let id = request.into_inner().id;
        if !self.store.revoke(id).await.map_err(refused)? {
            return Err(Status::not_found("etcdserver: requested lease not found"));
        }
        let header = self.header().await?;
        Ok(Response::new(rpc::LeaseRevokeResponse { header }))
    }

    async fn lease_leases(
        &self,
        _: Request<rpc::LeaseLeasesRequest>,
    ) -> Answer<rpc::LeaseLeasesResponse> {
        let leases = self.store.leases().into_iter();
        Ok(Response::new(rpc::LeaseLeasesResponse {
            header: self.header().await?,
            leases: leases.map(|id| rpc::LeaseStatus { id }).collect(),
        }))
    }

    async fn lease_grant(
        &self,
        _: Request<rpc::LeaseGrantRequest>,
    ) -> Answer<rpc::LeaseGrantResponse> {
        Err(not_served())
    }

    async fn lease_keep_alive(
        &self,
        _: Request<Streaming<rpc::LeaseKeepAliveRequest>>,
    ) -> Answer<Self::LeaseKeepAliveStream> {
        Err(not_served())
    }
}

#[tonic::async_trait]
impl Maintenance for Etcd {
    async fn alarm(&self, request: Request<rpc::AlarmRequest>) -> Answer<rpc::AlarmResponse> {
        let size = self.store.size().await.map_err(refused)?;
        // The alarm is the state of the store, and goes when there is room again.
        let asked = request.into_inner().action() == AlarmAction::Get;
        let alarms = (asked && size.full).then(|| rpc::AlarmMember {
            member_id: MEMBER,
            alarm: rpc::AlarmType::Nospace.into(),
        });
        Ok(Response::new(rpc::AlarmResponse {
            header: header(size.revision),
            alarms: alarms.into_iter().collect(),
        }))
    }

    async fn status(&self, _: Request<rpc::StatusRequest>) -> Answer<rpc::StatusResponse> {
        let size = self.store.size().await.map_err(refused)?;
        let bytes = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        Ok(Response::new(rpc::StatusResponse {
            header: header(size.revision),
            version: VERSION.to_owned(),
            db_size: bytes(size.allocated),
            db_size_in_use: bytes(size.used),
            leader: MEMBER,
            raft_index: size.revision,
            raft_applied_index: size.revision,
            raft_term: 1,
            errors: Vec::new(),
            is_learner: false,
        }))
    }

    async fn defragment(
        &self,
        _: Request<rpc::DefragmentRequest>,
    ) -> Answer<rpc::DefragmentResponse> {
        // Space of deleted keys is used again.
        let header = self.header().await?;
        Ok(Response::new(rpc::DefragmentResponse { header }))
    }
}

impl Etcd {
    async fn write(&self, op: Op) -> Result<store::Committed, Status> {
        self.store.commit(vec![op].into()).await.map_err(refused)
    }

    async fn header(&self) -> Result<Option<rpc::ResponseHeader>, Status> {
        let size = self.store.size().await.map_err(refused)?;
        Ok(header(size.revision))
    }
}

fn header(revision: u64) -> Option<rpc::ResponseHeader> {
    Some(rpc::ResponseHeader {
        cluster_id: CLUSTER,
        member_id: MEMBER,
        revision: i64::try_from(revision).unwrap_or(i64::MAX),
        raft_term: 1,
    })
}

/// As etcd says it: nothing is one key, a zero byte is all that follow.
fn end(range_end: Bytes) -> End {
    match &range_end[..] {
        b"" => End::Single,
        b"\0" => End::Open,
        _ => End::Before(range_end),
    }
}

fn key_value(entry: Entry) -> KeyValue {
    let number = |number| i64::try_from(number).unwrap_or(i64::MAX);
    KeyValue {
        key: entry.key,
        value: entry.value,
        create_revision: number(entry.created),
        mod_revision: number(entry.modified),
        version: number(entry.version),
        lease: entry.lease,
    }
}

fn refused(error: store::Error) -> Status {
    crate::service::unavailable(error)
}

fn not_served() -> Status {
    Status::unimplemented("the store of this scheduler does not serve it")
}

/// The names of the one member, which are as good as any.
const CLUSTER: u64 = 1;
const MEMBER: u64 = 1;

/// What clients take for the version of a server.
const VERSION: &str = "3.5.0";
