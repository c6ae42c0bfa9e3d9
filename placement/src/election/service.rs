//! What other members ask.

use openraft::Raft;
use openraft::raft::VoteRequest;
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use proto::extensions::placement::v1::{Frame, members_server::Members};
use security::SpiffeId;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;
use tonic::{Request, Response, Status};
use transport::Peer;

use super::machine::Machine;
use super::types::{Config, Vote};

/// The service between members.
pub(crate) struct Service {
    pub raft: Raft<Config, Machine>,
    /// Whom it answers; all with mutual TLS off.
    pub members: Option<SpiffeId>,
    /// No vote is given before.
    pub votes_from: Instant,
}

impl Service {
    fn read<T: DeserializeOwned>(&self, request: Request<Frame>) -> Result<T, Status> {
        if let Some(members) = &self.members {
            let peer = request.extensions().get::<Peer>();
            let caller = peer.and_then(|peer| security::peer_id(peer).ok().flatten());
            if caller.as_ref() != Some(members) {
                return Err(Status::permission_denied(format!(
                    "only {members} may speak to a member of the placement cluster"
                )));
            }
        }
        serde_json::from_slice(&request.into_inner().json)
            .map_err(|error| Status::invalid_argument(format!("the frame is no request: {error}")))
    }

    /// Somebody who does not know how it voted says so by silence, which candidates take for a member that is away.
    fn may_vote(&self) -> Result<(), Status> {
        if Instant::now() < self.votes_from {
            return Err(Status::unavailable("this member has just started"));
        }
        Ok(())
    }
}

fn answer(
    answer: Result<impl Serialize, impl std::fmt::Display>,
) -> Result<Response<Frame>, Status> {
    let answer = answer.map_err(|error| Status::unavailable(error.to_string()))?;
    let json = serde_json::to_vec(&answer).map_err(|error| Status::internal(error.to_string()))?;
    Ok(Response::new(Frame { json: json.into() }))
}

#[tonic::async_trait]
impl Members for Service {
    async fn append(&self, request: Request<Frame>) -> Result<Response<Frame>, Status> {
        let request = self.read(request)?;
        answer(self.raft.append_entries(request).await)
    }

    async fn vote(&self, request: Request<Frame>) -> Result<Response<Frame>, Status> {
        let request: VoteRequest<Config> = self.read(request)?;
        self.may_vote()?;
        answer(self.raft.vote(request).await)
    }

    async fn pre_vote(&self, request: Request<Frame>) -> Result<Response<Frame>, Status> {
        let request: VoteRequest<Config> = self.read(request)?;
        self.may_vote()?;
        answer(self.raft.pre_vote(request).await)
    }

    async fn snapshot(&self, request: Request<Frame>) -> Result<Response<Frame>, Status> {
        let (vote, meta): (Vote, SnapshotMetaOf<Config>) = self.read(request)?;
        let snapshot = SnapshotOf::<Config, ()> { meta, snapshot: () };
        answer(self.raft.install_full_snapshot(vote, snapshot).await)
    }
}
