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

impl ActorId {
    /// Whether the names keep to their places in a path of the app. Q-actor-names
    ///
    /// # Errors
    /// Says which one does not, and why.
    pub fn check(&self) -> Result<(), String> {
        for (what, name) in [("actorType", &self.kind), ("actorId", &self.id)] {
            check_name(name).map_err(|problem| format!("invalid {what}: {problem}"))?;
        }
        Ok(())
    }
}

/// Whether a name keeps to its place in a path of the app.
///
/// # Errors
/// Says why not.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.contains(['#', '?', '\0', '/', '\\']) {
        return Err(format!("name contains forbidden character: {name:?}"));
    }
    if let Some(at) = name.find(|c: char| c < ' ' || c == '\u{7f}') {
        return Err(format!(
            "name contains control character at position {at}: {name:?}"
        ));
    }
    match name {
        "." | ".." => Err(format!("name is a path traversal sequence: {name:?}")),
        _ => Ok(()),
    }
}

/// Whether a method stays below its actor. Sidecars send methods in that form; whoever sends another is none.
pub(crate) fn check_method(method: &str) -> Result<(), String> {
    let parts = &mut method.split('/');
    parts.try_for_each(|part| {
        check_name(part).map_err(|problem| format!("invalid method: {problem}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_place() {
        for name in ["", "a", "a b", "a||b", "...", "\u{e9}"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["a/b", "..", ".", "a\\b", "a?b", "a#b", "a\nb", "\0"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        let actor = |kind: &str, id: &str| ActorId {
            kind: kind.to_owned(),
            id: id.to_owned(),
        };
        assert!(actor("kind", "1").check().is_ok());
        let refused = actor("kind", "../1").check().unwrap_err();
        assert!(refused.starts_with("invalid actorId"), "{refused}");
    }

    #[test]
    fn methods_stay_below_their_actor() {
        for method in ["a", "a/b", "a//b", "a.b/..c"] {
            assert!(check_method(method).is_ok(), "{method}");
        }
        for method in ["..", "a/../../b", "./a", "a?b", "a\\..\\b"] {
            assert!(check_method(method).is_err(), "{method}");
        }
    }
}
