//! The types of the election: members by the names of `--initial-cluster`, and a log that carries nothing but elections.

use openraft::BasicNode;
use openraft::type_config::alias::{EntryOf, LogIdOf, VoteOf};

openraft::declare_raft_types!(
    /// One leader a term; nothing is ever written.
    pub(crate) Config:
        D = String,
        R = String,
        NodeId = String,
        Node = BasicNode,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, String>,
);

pub(crate) type Entry = EntryOf<Config>;
pub(crate) type LogId = LogIdOf<Config>;
pub(crate) type Vote = VoteOf<Config>;
