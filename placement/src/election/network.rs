//! Calls to other members, over mutual TLS to the identity that all of them share.

use std::future::Future;
use std::time::Duration;

use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::SnapshotOf;
use openraft::{BasicNode, OptionalSend};
use proto::extensions::placement::v1::{Frame, members_client::MembersClient};
use serde::{Serialize, de::DeserializeOwned};
use tonic::transport::Channel;
use transport::{ChannelOptions, Connector};

use super::types::{Config, Vote};

/// Makes the clients of members.
pub(crate) struct Network {
    pub connector: Connector,
}

/// One member.
pub(crate) struct Member {
    /// Absent where its address is no `host:port`.
    client: Option<MembersClient<Channel>>,
    address: String,
}

impl RaftNetworkFactory<Config> for Network {
    type Network = Member;

    async fn new_client(&mut self, _: String, node: &BasicNode) -> Member {
        let uri = format!("http://{}", node.addr).parse();
        let client = uri.ok().map(|uri| {
            let channel =
                transport::channel(uri, self.connector.clone(), ChannelOptions::default());
            MembersClient::new(channel).max_decoding_message_size(MAX_FRAME)
        });
        Member {
            client,
            address: node.addr.clone(),
        }
    }
}

/// The RPCs of a member.
#[derive(Clone, Copy)]
enum Rpc {
    Append,
    Vote,
    PreVote,
    Snapshot,
}

impl Member {
    async fn call<T: DeserializeOwned>(
        &mut self,
        rpc: Rpc,
        request: &impl Serialize,
        limit: Duration,
    ) -> Result<T, Unreachable<Config>> {
        let unreachable = |why: &dyn std::fmt::Display| {
            Unreachable::from_string(format!("member at {}: {why}", self.address))
        };
        let Some(client) = &mut self.client else {
            return Err(unreachable(&"no address"));
        };
        let json = serde_json::to_vec(request).map_err(|error| unreachable(&error))?;
        let frame = Frame { json: json.into() };
        let call = async {
            match rpc {
                Rpc::Append => client.append(frame).await,
                Rpc::Vote => client.vote(frame).await,
                Rpc::PreVote => client.pre_vote(frame).await,
                Rpc::Snapshot => client.snapshot(frame).await,
            }
        };
        let answer = tokio::time::timeout(limit, call).await;
        let answer = answer
            .map_err(|elapsed| unreachable(&elapsed))?
            .map_err(|status| unreachable(&status.message()))?;
        serde_json::from_slice(&answer.into_inner().json).map_err(|error| unreachable(&error))
    }
}

type Answer<T> = Result<T, RPCError<Config>>;

impl RaftNetworkV2<Config> for Member {
    type SnapshotData = ();

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Config>,
        option: RPCOption,
    ) -> Answer<AppendEntriesResponse<Config>> {
        Ok(self.call(Rpc::Append, &rpc, option.hard_ttl()).await?)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Config>,
        option: RPCOption,
    ) -> Answer<VoteResponse<Config>> {
        Ok(self.call(Rpc::Vote, &rpc, option.hard_ttl()).await?)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Config>,
        option: RPCOption,
    ) -> Answer<VoteResponse<Config>> {
        Ok(self.call(Rpc::PreVote, &rpc, option.hard_ttl()).await?)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<Config, ()>,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Config>, StreamingError<Config>> {
        let request = (vote, snapshot.meta);
        Ok(self
            .call(Rpc::Snapshot, &request, option.hard_ttl())
            .await?)
    }
}

/// Bytes of a request or an answer: a few entries, each with the names and addresses of the members.
pub(super) const MAX_FRAME: usize = 1 << 20;
