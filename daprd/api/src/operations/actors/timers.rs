//! Timers of actors.

use ::actors::{ActorId, Timer};
use proto::runtime::v1::{RegisterActorTimerRequest, UnregisterActorTimerRequest};

use super::{actor_error, bad_request, check_actor, check_name, check_type, quoted};
use crate::{Api, ApiError, CallContext, reason::actors as reason};

impl Api {
    /// Keeps a timer; one of the same name is replaced.
    pub async fn register_actor_timer(
        &self,
        _call: &CallContext,
        request: RegisterActorTimerRequest,
    ) -> Result<(), ApiError> {
        self.register_timer(Timer {
            actor: ActorId {
                kind: request.actor_type,
                id: request.actor_id,
            },
            name: request.name,
            due_time: request.due_time,
            period: request.period,
            ttl: request.ttl,
            callback: request.callback,
            data: quoted(&request.data).unwrap_or_default(),
        })
    }

    /// The same with data that are JSON.
    pub(crate) fn register_timer(&self, timer: Timer) -> Result<(), ApiError> {
        check_type(&timer.actor.kind)?;
        self.check_actors()?;
        check_actor(&timer.actor)?;
        check_name(&timer.name).map_err(|problem| bad_request(&problem))?;
        let kept = self.options.actors.register_timer(timer);
        kept.map_err(|error| {
            actor_error(error, |text| {
                let text = format!("error creating actor timer: {text}");
                ApiError::new(&reason::TIMER_CREATE, text)
            })
        })
    }

    /// Takes a timer away; one that is not there is fine.
    pub async fn unregister_actor_timer(
        &self,
        _call: &CallContext,
        request: UnregisterActorTimerRequest,
    ) -> Result<(), ApiError> {
        check_type(&request.actor_type)?;
        let actor = ActorId {
            kind: request.actor_type,
            id: request.actor_id,
        };
        let gone = self.options.actors.unregister_timer(&actor, &request.name);
        gone.map_err(|error| actor_error(error, |text| ApiError::new(&reason::TIMER_CREATE, text)))
    }
}
