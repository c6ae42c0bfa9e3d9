//! The allow and deny lists of `spec.api` (contract 10.6). What is denied is not there: 404 on HTTP, Unimplemented on gRPC.

use crate::Transport;

/// One entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Group of operations, or in the older HTTP form a path below the version.
    pub name: String,
    /// `v1`, `v1alpha1`; in the older HTTP form `v1.0`.
    pub version: String,
    /// `http` or `grpc`; anything else matches neither.
    pub protocol: String,
}

/// The compiled lists.
#[derive(Clone, Debug, Default)]
pub struct Access {
    pub allowed: Vec<Rule>,
    pub denied: Vec<Rule>,
}

impl Access {
    /// Whether an operation is served. `path` is the HTTP path, empty for gRPC. Health is always served.
    pub fn allows(&self, transport: Transport, group: &str, version: &str, path: &str) -> bool {
        if group == "healthz" {
            return true;
        }
        let protocol = match transport {
            Transport::Http => "http",
            Transport::Grpc => "grpc",
        };
        let matches = |rule: &&Rule| {
            rule.protocol.eq_ignore_ascii_case(protocol) && covers(rule, group, version, path)
        };
        if self.denied.iter().any(|rule| matches(&rule)) {
            return false;
        }
        // A list for the other protocol leaves this one open.
        let mut listed = self
            .allowed
            .iter()
            .filter(|rule| rule.protocol.eq_ignore_ascii_case(protocol))
            .peekable();
        listed.peek().is_none() || listed.any(|rule| matches(&rule))
    }
}

fn covers(rule: &Rule, group: &str, version: &str, path: &str) -> bool {
    if rule.version == version && rule.name == group {
        return true;
    }
    let below = format!("/{}/", rule.version);
    !rule.name.is_empty()
        && path
            .strip_prefix(&below)
            .is_some_and(|rest| rest.starts_with(rule.name.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, version: &str, protocol: &str) -> Rule {
        Rule {
            name: name.into(),
            version: version.into(),
            protocol: protocol.into(),
        }
    }

    fn allows(access: &Access, group: &str) -> bool {
        let path = format!("/v1.0/{group}/x");
        access.allows(Transport::Http, group, "v1", &path)
    }

    #[test]
    fn nothing_listed_allows_everything() {
        assert!(allows(&Access::default(), "state"));
    }

    #[test]
    fn an_allow_list_is_exclusive_for_its_protocol() {
        let access = Access {
            allowed: vec![rule("state", "v1", "http")],
            denied: vec![],
        };
        assert!(allows(&access, "state"));
        assert!(!allows(&access, "publish"));
        assert!(allows(&access, "healthz"));
        assert!(access.allows(Transport::Grpc, "publish", "v1", ""));
    }

    #[test]
    fn denial_wins_and_the_older_form_names_a_path() {
        let access = Access {
            allowed: vec![rule("state", "v1", "http")],
            denied: vec![rule("state/x", "v1.0", "http")],
        };
        assert!(!allows(&access, "state"));
    }

    #[test]
    fn a_rule_without_protocol_matches_neither() {
        let access = Access {
            allowed: vec![],
            denied: vec![rule("state", "v1", "")],
        };
        assert!(allows(&access, "state"));
    }
}
