//! One trigger: whom it is for, and what came of it.

use std::{panic::AssertUnwindSafe, time::Instant};

use app_channel::Triggered;
use futures::FutureExt;
use prost_types::Any;
use proto::scheduler::v1::{
    TargetActorReminder, WatchJobsRequestResult, WatchJobsRequestResultStatus as Status,
    WatchJobsResponse, job_target_metadata::Type,
};

use crate::{LOG, Outcome, Trigger, engine::Inner};

impl Inner {
    /// Hands a trigger on. A panic on the way is a failure of this trigger and of nothing else.
    pub async fn deliver(&self, trigger: WatchJobsResponse) -> WatchJobsRequestResult {
        let id = trigger.id;
        let delivered = AssertUnwindSafe(self.hand_on(trigger)).catch_unwind();
        let outcome = delivered.await.unwrap_or_else(|_| {
            tracing::error!(target: LOG, "a trigger has panicked");
            Outcome::Failed
        });
        let status = match outcome {
            Outcome::Done => Status::Success,
            Outcome::Failed => Status::Failed,
        };
        WatchJobsRequestResult {
            id,
            status: status.into(),
        }
    }

    async fn hand_on(&self, trigger: WatchJobsResponse) -> Outcome {
        let WatchJobsResponse {
            name,
            data,
            metadata,
            ..
        } = trigger;
        let target = metadata.and_then(|metadata| metadata.target?.r#type);
        match target {
            Some(Type::Job(_)) => self.call_app(&name, data).await,
            Some(Type::Actor(actor)) => self.remind(name, data, actor).await,
            None => {
                tracing::error!(target: LOG, "job {name} is for nobody");
                Outcome::Failed
            }
        }
    }

    async fn call_app(&self, name: &str, data: Option<Any>) -> Outcome {
        let began = Instant::now();
        let answer = match self.app.trigger_job(name, data).await {
            Ok(answer) => answer,
            Err(error) => {
                let problem = component::error::chain(&error);
                tracing::error!(target: LOG, "failed to call the app with job {name}: {problem}");
                return Outcome::Failed;
            }
        };
        let success = answer == Triggered::Done;
        self.metrics.triggered(success, began.elapsed());
        match answer {
            Triggered::Done => Outcome::Done,
            // It would not know it the next time either.
            Triggered::Unknown => {
                tracing::error!(target: LOG, "the app does not know job {name}");
                Outcome::Done
            }
            Triggered::Refused(said) => {
                tracing::error!(target: LOG, "the app has not taken job {name}: {said}");
                Outcome::Failed
            }
        }
    }

    async fn remind(&self, name: String, data: Option<Any>, actor: TargetActorReminder) -> Outcome {
        let TargetActorReminder { id, r#type: kind } = actor;
        let Some(reminders) = self
            .reminders
            .get()
            .filter(|_| !kind.is_empty() && !id.is_empty())
        else {
            tracing::error!(target: LOG, "reminder {name} came with invalid actor target metadata, rejecting it: {kind:?} {id:?}");
            return Outcome::Failed;
        };
        let trigger = Trigger {
            actor_type: kind,
            actor_id: id,
            name,
            data,
        };
        reminders.remind(trigger).await
    }
}
