//! What the log amounts to: the members. There is nothing else in it, so a snapshot is that and where it was taken.

use std::io;
use std::sync::Arc;

use futures::{Stream, TryStreamExt as _};
use openraft::entry::RaftEntry as _;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf, StoredMembershipOf};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, StoredMembership};
use parking_lot::Mutex;

use super::types::{Config, LogId};

/// Clones share the state.
#[derive(Clone, Default)]
pub(crate) struct Machine(Arc<Mutex<State>>);

#[derive(Clone, Default)]
struct State {
    applied: Option<LogId>,
    members: StoredMembershipOf<Config>,
}

impl Machine {
    fn snapshot(&self) -> SnapshotOf<Config, ()> {
        let State { applied, members } = self.0.lock().clone();
        SnapshotOf::<Config, ()> {
            meta: SnapshotMetaOf::<Config> {
                last_log_id: applied,
                last_membership: members,
            },
            snapshot: (),
        }
    }
}

impl RaftSnapshotBuilder<Config> for Machine {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Config, ()>> {
        Ok(self.snapshot())
    }
}

impl RaftStateMachine<Config> for Machine {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembershipOf<Config>)> {
        let State { applied, members } = self.0.lock().clone();
        Ok((applied, members))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Config>>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let id = entry.log_id();
            let mut state = self.0.lock();
            state.applied = Some(id);
            if let EntryPayload::Membership(members) = entry.payload {
                state.members = StoredMembership::new(Some(id), members);
            }
            drop(state);
            if let Some(responder) = responder {
                responder.send(String::new());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf<Config>, (): ()) -> io::Result<()> {
        *self.0.lock() = State {
            applied: meta.last_log_id,
            members: meta.last_membership.clone(),
        };
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Config, ()>>> {
        let taken = self.0.lock().applied.is_some();
        Ok(taken.then(|| self.snapshot()))
    }
}
