//! What sidecars say about their components: which have opened them, and which could not, and why. Every replica takes reports
//! while it leads, and the leader writes them into the status of the Components and, where something has failed, as Events.
//! Q-component-status

mod board;
mod event;
mod service;
mod writer;

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use self::board::Board;
use crate::resources::Informer;

pub use board::LARGEST_REPORT;
pub use service::Reports;
pub use writer::run;

/// What is known, shared by the API and the writer. Cheap to clone.
#[derive(Clone)]
pub struct Statuses {
    shared: Arc<Mutex<State>>,
    components: Informer,
}

impl Statuses {
    pub fn new(components: Informer) -> Self {
        Self {
            shared: Arc::default(),
            components,
        }
    }
}

#[derive(Default)]
struct State {
    board: Board,
    /// Since when this replica leads, if it does.
    leading: Option<Instant>,
}
