//! Publish and subscribe (contract 2.4, 2.9, 9.7): CloudEvents, scopes and policies around what the app publishes;
//! subscriptions of resources, of the app itself and of streams, with routing, batches and dead letter topics around what it
//! receives; and the transactional outbox. Brokers are components; what is said to the app goes through its channel.

mod batch;
mod brokers;
mod bulk;
mod cloud_event;
mod consumer;
mod consumers;
pub mod content_type;
mod core;
mod declarations;
mod delivery;
mod dispatch;
mod engine;
mod error;
mod metrics;
pub mod outbox;
mod outcome;
mod publish;
mod request;
mod scopes;
mod stream;
mod subscription;

use values::json;

pub use core::{Options, Settings};
pub use engine::{Engine, Run};
pub use error::Error;
pub use outbox::{Outbox, Transaction};
pub use publish::{BulkEntry, BulkPublish, Failed, HttpStatus, Publish};
pub use stream::{StreamRequest, Streaming};
pub use subscription::{Listed, SubscriptionKind};
