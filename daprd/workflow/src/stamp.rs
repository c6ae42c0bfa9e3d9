//! By which it is told whether anybody has written an instance since it was looked at.

use actors::{ActorId, state::State};
use bytes::Bytes;

use crate::{Error, record::rows::METADATA};

/// The row of lengths, as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp(pub Option<Bytes>);

impl Stamp {
    /// Whether it still is so in the store.
    ///
    /// # Errors
    /// [`Error::State`].
    pub async fn is_current(&self, state: &State, actor: &ActorId) -> Result<bool, Error> {
        let row = state.get(actor, METADATA).await?;
        Ok(row.map(|row| row.value) == self.0)
    }
}
