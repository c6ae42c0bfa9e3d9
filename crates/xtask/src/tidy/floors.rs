//! Every crate stands on a floor and depends only on lower floors. The few edges inside a floor are written
//! here, as they are in ARCHITECTURE.md; whoever adds one changes both.

use cargo_metadata::{DependencyKind, Metadata};
use serde_json::Value;

/// The highest floor: programs.
const TOP: u8 = 4;
/// The floor of the platform.
const PLATFORM: u8 = 1;

/// Edges inside a floor, besides `values` on floor 0 and `transport` on floor 1.
const SIDEWAYS: [(&str, &str); 7] = [
    ("daprd", "api"),
    ("actors", "jobs"),
    ("workflow", "actors"),
    ("workflow", "jobs"),
    ("mcp", "workflow"),
    ("resiliency", "telemetry"),
    ("resiliency", "expressions"),
];

/// What components may use of the workspace.
const FOR_COMPONENTS: [&str; 3] = ["component", "values", "tokens"];
/// Components that speak a wire protocol of ours, or of a server, may use `proto` too.
const WITH_PROTO: [&str; 2] = ["component-pluggable", "component-etcd"];

/// What only the tests of a crate on a floor may use.
const FOR_TESTS: [&str; 3] = [
    "component-builtin",
    "component-conformance",
    "kubernetes-fake",
];

/// Where a crate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On a floor, from 0 (contracts) to 4 (programs).
    Floor(u8),
    /// Outside: tests and chores, which nothing else builds on.
    Outside,
    /// The manifest does not say.
    Unknown,
}

/// A crate of the workspace.
#[derive(Clone, Debug)]
pub struct Member {
    /// Name of the crate.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// Crates of the workspace that it uses, and whether only its tests do.
    pub uses: Vec<(String, bool)>,
}

/// Reads the members from cargo's description of the workspace.
pub fn members(metadata: &Metadata) -> Vec<Member> {
    metadata
        .workspace_packages()
        .into_iter()
        .map(|package| {
            let inside = package
                .dependencies
                .iter()
                .filter(|dependency| dependency.path.is_some());
            Member {
                name: package.name.to_string(),
                place: place(&package.metadata),
                uses: inside
                    .map(|dependency| {
                        (
                            dependency.name.clone(),
                            dependency.kind == DependencyKind::Development,
                        )
                    })
                    .collect(),
            }
        })
        .collect()
}

fn place(metadata: &Value) -> Place {
    let dapr = &metadata["dapr"];
    let floor = dapr["floor"]
        .as_u64()
        .and_then(|floor| u8::try_from(floor).ok());
    match (floor, dapr["outside"].as_bool().unwrap_or(false)) {
        (Some(floor), false) if floor <= TOP => Place::Floor(floor),
        (None, true) => Place::Outside,
        _ => Place::Unknown,
    }
}

/// Complaints about members without a place and about edges that do not go down.
pub fn complaints(members: &[Member]) -> Vec<String> {
    let mut found = Vec::new();
    for member in members {
        if member.place == Place::Unknown {
            found.push(format!(
                "{}: say `[package.metadata.dapr] floor = 0..{TOP}` or `outside = true` in its manifest",
                member.name
            ));
        }
        for (name, tests_only) in &member.uses {
            let Some(used) = members.iter().find(|other| other.name == *name) else {
                continue;
            };
            if let Some(reason) = objection(member, used, *tests_only) {
                found.push(format!("{} may not use {name}: {reason}", member.name));
            }
        }
    }
    found
}

fn is_component(member: &Member) -> bool {
    member.name.starts_with("component-") && member.place != Place::Outside
}

/// Why a member may not use another one.
fn objection(user: &Member, used: &Member, tests_only: bool) -> Option<&'static str> {
    if user.place == Place::Outside {
        return None;
    }
    if tests_only && FOR_TESTS.contains(&used.name.as_str()) {
        return None;
    }
    if used.place == Place::Outside {
        return Some("it stands outside and is for tests only");
    }
    if is_component(used) {
        return (user.name != "daprd").then_some("only daprd knows components");
    }
    if is_component(user) {
        let allowed = FOR_COMPONENTS.contains(&used.name.as_str())
            || (used.name == "proto" && WITH_PROTO.contains(&user.name.as_str()));
        return (!allowed).then_some("components use component, values and tokens only");
    }
    let (Place::Floor(above), Place::Floor(below)) = (user.place, used.place) else {
        return None;
    };
    let sideways = (above == 0 && used.name == "values")
        || (above == PLATFORM && used.name == "transport")
        || SIDEWAYS.contains(&(user.name.as_str(), used.name.as_str()));
    match above.cmp(&below) {
        std::cmp::Ordering::Greater => None,
        std::cmp::Ordering::Equal if sideways => None,
        std::cmp::Ordering::Equal => Some("it stands on the same floor"),
        std::cmp::Ordering::Less => Some("it stands on a higher floor"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, place: Place, uses: &[(&str, bool)]) -> Member {
        let uses = uses
            .iter()
            .map(|(name, tests_only)| ((*name).to_owned(), *tests_only))
            .collect();
        Member {
            name: name.to_owned(),
            place,
            uses,
        }
    }

    fn judge(user: &str, place: Place, used: &str, tests_only: bool) -> usize {
        let others = [
            member("values", Place::Floor(0), &[]),
            member("proto", Place::Floor(0), &[]),
            member("component", Place::Floor(0), &[]),
            member("transport", Place::Floor(1), &[]),
            member("telemetry", Place::Floor(1), &[]),
            member("blocks", Place::Floor(2), &[]),
            member("component-builtin", Place::Floor(2), &[]),
            member("component-redis", Place::Floor(2), &[]),
            member("component-conformance", Place::Outside, &[]),
            member("kubernetes-fake", Place::Outside, &[]),
            member("api", Place::Floor(4), &[]),
        ];
        let mut members = others.to_vec();
        members.push(member(user, place, &[(used, tests_only)]));
        complaints(&members).len()
    }

    #[test]
    fn edges_go_down() {
        assert_eq!(judge("pubsub", Place::Floor(3), "blocks", false), 0);
        assert_eq!(judge("security", Place::Floor(1), "blocks", false), 1);
        assert_eq!(judge("security", Place::Floor(1), "transport", false), 0);
        assert_eq!(judge("security", Place::Floor(1), "telemetry", false), 1);
        assert_eq!(judge("resiliency", Place::Floor(1), "telemetry", false), 0);
        assert_eq!(judge("settings", Place::Floor(0), "values", false), 0);
        assert_eq!(judge("settings", Place::Floor(0), "proto", false), 1);
        assert_eq!(judge("daprd", Place::Floor(4), "api", false), 0);
        assert_eq!(judge("sentry", Place::Floor(4), "api", false), 1);
        let fake = "kubernetes-fake";
        assert_eq!(judge("sentry", Place::Floor(4), fake, true), 0);
        assert_eq!(judge("sentry", Place::Floor(4), fake, false), 1);
    }

    #[test]
    fn components_keep_to_themselves() {
        assert_eq!(
            judge("component-kafka", Place::Floor(2), "component", false),
            0
        );
        assert_eq!(judge("component-kafka", Place::Floor(2), "proto", false), 1);
        assert_eq!(judge("component-etcd", Place::Floor(2), "proto", false), 0);
        assert_eq!(
            judge("component-kafka", Place::Floor(2), "transport", false),
            1
        );
        assert_eq!(
            judge(
                "component-kafka",
                Place::Floor(2),
                "component-conformance",
                true
            ),
            0
        );
        assert_eq!(
            judge(
                "component-kafka",
                Place::Floor(2),
                "component-conformance",
                false
            ),
            1
        );
        assert_eq!(judge("daprd", Place::Floor(4), "component-redis", false), 0);
        assert_eq!(judge("pubsub", Place::Floor(3), "component-redis", true), 1);
        assert_eq!(
            judge("pubsub", Place::Floor(3), "component-builtin", true),
            0
        );
        assert_eq!(
            judge("pubsub", Place::Floor(3), "component-builtin", false),
            1
        );
    }

    #[test]
    fn every_member_has_a_place() {
        assert_eq!(judge("stray", Place::Unknown, "values", false), 1);
        assert_eq!(judge("e2e", Place::Outside, "api", false), 0);
        assert_eq!(
            place(&serde_json::json!({"dapr": {"floor": 5}})),
            Place::Unknown
        );
        assert_eq!(
            place(&serde_json::json!({"dapr": {"floor": 2}})),
            Place::Floor(2)
        );
        assert_eq!(place(&Value::Null), Place::Unknown);
    }
}
