//! The name of an actor.

use std::fmt;

/// An actor: its type and its id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActorId {
    /// The type, which selects the ring of hosts.
    pub kind: String,
    /// The id, by which the ring selects the host.
    pub id: String,
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}||{}", self.kind, self.id)
    }
}
