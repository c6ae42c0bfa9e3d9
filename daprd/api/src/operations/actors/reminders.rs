//! Reminders of actors. Only who hosts a type may ask for those of its actors.

use ::actors::{
    ActorId,
    json::packed,
    reminders::{Error, Registration, Reminder},
};
use proto::runtime::v1::{
    ActorReminder, GetActorReminderRequest, GetActorReminderResponse, ListActorRemindersRequest,
    ListActorRemindersResponse, NamedActorReminder, RegisterActorReminderRequest,
    UnregisterActorReminderRequest, UnregisterActorRemindersByTypeRequest,
    UnregisterActorRemindersByTypeResponse,
};

use super::{bad_request, check_actor, check_name, check_type, quoted};
use crate::{Api, ApiError, CallContext, Reason, reason::actors as reason};

impl Api {
    /// Keeps a reminder.
    pub async fn register_actor_reminder(
        &self,
        _call: &CallContext,
        request: RegisterActorReminderRequest,
    ) -> Result<(), ApiError> {
        if request.name.is_empty() {
            check_type(&request.actor_type)?;
            self.check_actors()?;
            return Err(bad_request("reminder name cannot be empty"));
        }
        self.register_reminder(Registration {
            actor: ActorId {
                kind: request.actor_type,
                id: request.actor_id,
            },
            name: request.name,
            due_time: request.due_time,
            period: request.period,
            ttl: request.ttl,
            data: quoted(&request.data).map(packed),
            overwrite: request.overwrite,
            failure_policy: request.failure_policy,
            concurrency_key: None,
        })
        .await
    }

    /// The same with data that are packed.
    pub(crate) async fn register_reminder(&self, asked: Registration) -> Result<(), ApiError> {
        check_type(&asked.actor.kind)?;
        self.check_actors()?;
        check_actor(&asked.actor)?;
        check_name(&asked.name).map_err(|problem| bad_request(&problem))?;
        self.check_hosted(&asked.actor.kind)?;
        let created = self.options.reminders.create(asked).await;
        created.map_err(|error| match error {
            Error::Exists(_) => ApiError::new(&reason::REMINDER_EXISTS, error.to_string()),
            _ => failed(
                &error,
                &reason::REMINDER_CREATE,
                "error creating actor reminder",
            ),
        })
    }

    /// A reminder as it is kept.
    pub async fn actor_reminder(
        &self,
        _call: &CallContext,
        request: GetActorReminderRequest,
    ) -> Result<GetActorReminderResponse, ApiError> {
        self.check_reminders(&request.actor_type)?;
        let actor = ActorId {
            kind: request.actor_type,
            id: request.actor_id,
        };
        let found = self.options.reminders.get(&actor, &request.name).await;
        let found = found.map_err(|error| {
            let what = match error {
                // Compat: Q-reminder-disabled
                Error::Disabled => {
                    "error getting actor reminder: api error: code = Internal desc = failed to get job due to"
                }
                _ => "error getting actor reminder",
            };
            failed(&error, &reason::REMINDER_GET, what)
        })?;
        let Some(found) = found else {
            let text = format!("actor reminder not found: {}", request.name);
            return Err(ApiError::new(&reason::REMINDER_NOT_FOUND, text));
        };
        Ok(GetActorReminderResponse {
            actor_type: found.actor.kind,
            actor_id: found.actor.id,
            due_time: found.due_time,
            period: found.period,
            data: found.data,
            ttl: found.ttl,
        })
    }

    /// Takes a reminder away; one that is not there is fine.
    pub async fn unregister_actor_reminder(
        &self,
        _call: &CallContext,
        request: UnregisterActorReminderRequest,
    ) -> Result<(), ApiError> {
        self.check_reminders(&request.actor_type)?;
        let actor = ActorId {
            kind: request.actor_type,
            id: request.actor_id,
        };
        let deleted = self.options.reminders.delete(&actor, &request.name).await;
        deleted.map_err(not_deleted)
    }

    /// Takes all reminders of an actor away, or of all actors of a type.
    pub async fn unregister_actor_reminders(
        &self,
        _call: &CallContext,
        request: UnregisterActorRemindersByTypeRequest,
    ) -> Result<UnregisterActorRemindersByTypeResponse, ApiError> {
        self.check_reminders(&request.actor_type)?;
        let id = request.actor_id.as_deref();
        let deleted = self.options.reminders.delete_all(&request.actor_type, id);
        deleted.await.map_err(not_deleted)?;
        Ok(UnregisterActorRemindersByTypeResponse {})
    }

    /// All reminders of an actor, or of all actors of a type.
    pub async fn actor_reminders(
        &self,
        _call: &CallContext,
        request: ListActorRemindersRequest,
    ) -> Result<ListActorRemindersResponse, ApiError> {
        self.check_reminders(&request.actor_type)?;
        let id = request.actor_id.as_deref();
        let listed = self.options.reminders.list(&request.actor_type, id).await;
        let listed = listed.map_err(|error| {
            failed(
                &error,
                &reason::REMINDER_GET,
                "error getting actor reminder",
            )
        })?;
        Ok(ListActorRemindersResponse {
            reminders: listed.into_iter().map(named).collect(),
        })
    }

    fn check_reminders(&self, kind: &str) -> Result<(), ApiError> {
        check_type(kind)?;
        self.check_actors()?;
        self.check_hosted(kind)
    }

    fn check_hosted(&self, kind: &str) -> Result<(), ApiError> {
        if self.options.actors.hosts(kind) {
            return Ok(());
        }
        Err(ApiError::new(
            &reason::REMINDER_NON_HOSTED,
            "operations on actor reminders are only possible on hosted actor types",
        ))
    }
}

fn named(reminder: Reminder) -> NamedActorReminder {
    NamedActorReminder {
        name: reminder.name,
        reminder: Some(ActorReminder {
            actor_type: reminder.actor.kind,
            actor_id: reminder.actor.id,
            due_time: reminder.due_time,
            period: reminder.period,
            data: reminder.data,
            ttl: reminder.ttl,
        }),
    }
}

fn not_deleted(error: Error) -> ApiError {
    failed(
        &error,
        &reason::REMINDER_DELETE,
        "error deleting actor reminder",
    )
}

fn failed(error: &Error, row: &'static Reason, what: &str) -> ApiError {
    ApiError::new(row, format!("{what}: {error}"))
}
