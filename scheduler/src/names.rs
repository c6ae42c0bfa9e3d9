//! The names of jobs and the keys they are stored under (contract 8.2).

use proto::scheduler::v1::{JobMetadata, job_target_metadata::Type};

/// Where jobs are.
pub(crate) const JOBS: &str = "dapr/jobs/";
/// Where it is written how far they have come, under the same names.
pub(crate) const COUNTERS: &str = "dapr/counters/";
/// Where replicas say that they live.
pub(crate) const LEADERSHIP: &str = "dapr/leadership/";

/// What names of jobs begin with, and what names of reminders.
pub(crate) const KINDS: [&str; 2] = ["app", "actorreminder"];
/// Between the parts of a name.
pub(crate) const SEPARATOR: &str = "||";

/// Why there is no name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Error {
    /// Neither a job nor a reminder.
    #[error("unknown job type: the metadata name no target")]
    Target,
    #[error("job name cannot be empty")]
    Empty,
    #[error("job name is invalid {0:?}: must be at most {MAX_NAME} characters")]
    TooLong(String),
    #[error("job name is invalid {0:?}: must not contain '/', '\\', '#' or '?'")]
    Forbidden(String),
    #[error("job name is invalid {0:?}: must not contain control characters")]
    Control(String),
    #[error("job name is invalid {0:?}: must not be a path traversal sequence")]
    Traversal(String),
}

/// What the names of all jobs of a target begin with.
pub(crate) fn prefix(metadata: &JobMetadata) -> Result<String, Error> {
    let JobMetadata {
        app_id, namespace, ..
    } = metadata;
    match target(metadata)? {
        Type::Job(_) => Ok(format!("app||{namespace}||{app_id}||")),
        Type::Actor(actor) => Ok(format!(
            "actorreminder||{namespace}||{}||{}||",
            actor.r#type, actor.id
        )),
    }
}

/// The full name of one job.
pub(crate) fn job(metadata: &JobMetadata, name: &str) -> Result<String, Error> {
    let full = prefix(metadata)? + name;
    checked(&full)?;
    Ok(full)
}

/// What the names begin with that a target without a name means: reminders of one actor, or of all actors of the type if
/// no id is given. `open` leaves the end of the last part open.
pub(crate) fn range(metadata: &JobMetadata, open: bool) -> Result<String, Error> {
    let mut full = match target(metadata)? {
        Type::Actor(actor) if actor.id.is_empty() => {
            format!("actorreminder||{}||{}||", metadata.namespace, actor.r#type)
        }
        _ => prefix(metadata)?,
    };
    if open {
        full.truncate(full.len() - SEPARATOR.len());
    }
    checked(&full)?;
    Ok(full)
}

/// What the names of all jobs of a namespace begin with.
pub(crate) fn of_namespace(namespace: &str) -> [String; 2] {
    [
        format!("actorreminder||{namespace}||"),
        format!("app||{namespace}||"),
    ]
}

/// The streams that a job may go down: those of an app, or those of an actor type.
pub(crate) fn route(metadata: &JobMetadata) -> Result<String, Error> {
    match target(metadata)? {
        Type::Job(_) => Ok(app_route(&metadata.namespace, &metadata.app_id)),
        Type::Actor(actor) => Ok(actor_route(&metadata.namespace, &actor.r#type)),
    }
}

pub(crate) fn app_route(namespace: &str, app_id: &str) -> String {
    format!("app||{namespace}||{app_id}||")
}

pub(crate) fn actor_route(namespace: &str, actor_type: &str) -> String {
    format!("actorreminder||{namespace}||{actor_type}||")
}

/// Refuses names that would leave their place in the store, or in the URL that an app is called with.
pub(crate) fn checked(name: &str) -> Result<(), Error> {
    let shown = || name.chars().take(SHOWN).collect();
    if name.is_empty() {
        return Err(Error::Empty);
    }
    if name.len() > MAX_NAME {
        return Err(Error::TooLong(shown()));
    }
    if name.contains(['/', '\\', '#', '?']) {
        return Err(Error::Forbidden(shown()));
    }
    if name.contains(char::is_control) {
        return Err(Error::Control(shown()));
    }
    if name == "." || name == ".." {
        return Err(Error::Traversal(shown()));
    }
    Ok(())
}

/// The name below a prefix of keys.
pub(crate) fn of_key<'a>(key: &'a [u8], place: &str) -> Option<&'a str> {
    let name = key.strip_prefix(place.as_bytes())?;
    std::str::from_utf8(name).ok()
}

fn target(metadata: &JobMetadata) -> Result<&Type, Error> {
    let target = metadata.target.as_ref();
    target
        .and_then(|target| target.r#type.as_ref())
        .ok_or(Error::Target)
}

/// Bytes of a full name.
const MAX_NAME: usize = 512;

/// Characters of a refused name that the message shows.
const SHOWN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{app, reminder};

    #[test]
    fn names_of_jobs_and_reminders() {
        let app = app("ns", "app");
        assert_eq!(job(&app, "j").unwrap(), "app||ns||app||j");
        assert_eq!(range(&app, false).unwrap(), "app||ns||app||");
        assert_eq!(range(&app, true).unwrap(), "app||ns||app");
        let reminder = |id| reminder("ns", "app", "type", id);
        assert_eq!(
            job(&reminder("1"), "r").unwrap(),
            "actorreminder||ns||type||1||r"
        );
        assert_eq!(
            range(&reminder("1"), false).unwrap(),
            "actorreminder||ns||type||1||"
        );
        assert_eq!(
            range(&reminder("1"), true).unwrap(),
            "actorreminder||ns||type||1"
        );
        assert_eq!(
            range(&reminder(""), false).unwrap(),
            "actorreminder||ns||type||"
        );
        assert_eq!(route(&reminder("1")).unwrap(), "actorreminder||ns||type||");
        assert_eq!(prefix(&JobMetadata::default()), Err(Error::Target));
    }

    #[test]
    fn names_that_would_leave_their_place() {
        let app = app("ns", "app");
        for bad in ["a/b", "a\\b", "a#b", "a?b", "a\nb", "a\0", "\u{85}"] {
            assert!(job(&app, bad).is_err(), "{bad:?}");
        }
        for good in ["a b", "a|b", "a||b", "ünï", "a.b", "A_B:c"] {
            assert!(job(&app, good).is_ok(), "{good:?}");
        }
        assert!(job(&app, &"x".repeat(MAX_NAME)).is_err());
        assert_eq!(checked(".."), Err(Error::Traversal("..".to_owned())));
    }
}
