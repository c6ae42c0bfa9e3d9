//! The access list of the own app: which callers may invoke what (contract 10.3). Compiled once; asked per call.

use std::{borrow::Cow, collections::BTreeMap};

use crds::configuration::AccessControl as Written;
use security::SpiffeId;

use crate::method::MethodPath;

/// A compiled access list; the default lets everybody in.
#[derive(Clone, Debug, Default)]
pub struct AccessControl {
    rules: Option<Rules>,
}

#[derive(Clone, Debug)]
struct Rules {
    allow_by_default: bool,
    /// By app id and namespace of the caller.
    callers: BTreeMap<(String, String), Caller>,
    /// HTTP paths are matched without regard to case.
    ignore_case: bool,
}

#[derive(Clone, Debug)]
struct Caller {
    trust_domain: String,
    default_allow: Option<bool>,
    operations: Vec<Operation>,
}

#[derive(Clone, Debug)]
struct Operation {
    segments: Vec<String>,
    verbs: Vec<String>,
    allow: bool,
}

/// A policy that says too little.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("accessControl: policy of app {app_id:?} has no {field}")]
pub struct Error {
    app_id: String,
    field: &'static str,
}

/// A verdict, and whether a policy for that caller gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub allowed: bool,
    pub by_policy: bool,
}

/// How the app is asked: gRPC methods have no verbs, and their case counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call<'a> {
    Http { verb: &'a str },
    Grpc,
}

impl AccessControl {
    /// Compiles what the Configuration says, if it says anything.
    ///
    /// # Errors
    /// Names the policy that lacks its trust domain or namespace.
    pub fn compile(written: Option<&Written>, app_is_http: bool) -> Result<Self, Error> {
        let Some(written) = written else {
            return Ok(Self::default());
        };
        let written = written.clone().with_defaults();
        let mut callers = BTreeMap::new();
        for policy in &written.policies {
            let required = |value: &Option<String>, field| {
                let value = value.clone().filter(|value| !value.is_empty());
                value.ok_or_else(|| Error {
                    app_id: policy.app_id.clone(),
                    field,
                })
            };
            let namespace = required(&policy.namespace, "namespace")?;
            let caller = Caller {
                trust_domain: required(&policy.trust_domain, "trustDomain")?,
                default_allow: policy
                    .default_action
                    .as_deref()
                    .filter(|it| !it.is_empty())
                    .map(is_allow),
                operations: policy
                    .operations
                    .iter()
                    .map(|operation| Operation {
                        segments: segments(&read(operation), app_is_http),
                        verbs: operation.http_verb.clone(),
                        allow: is_allow(&operation.action),
                    })
                    .collect(),
            };
            callers.insert((policy.app_id.clone(), namespace), caller);
        }
        Ok(Self {
            rules: Some(Rules {
                allow_by_default: written.default_action.as_deref().is_some_and(is_allow),
                callers,
                ignore_case: app_is_http,
            }),
        })
    }

    /// Whether a caller may invoke a method. Without an identity the default holds. An app may take a path for another than
    /// the one that is sent, so every reading is judged, and one that is denied denies. Q-access-readings
    pub fn judge(&self, caller: Option<&SpiffeId>, method: &MethodPath, call: Call<'_>) -> Verdict {
        let Some(rules) = &self.rules else {
            return Verdict {
                allowed: true,
                by_policy: false,
            };
        };
        let default = Verdict {
            allowed: rules.allow_by_default,
            by_policy: false,
        };
        let Some(policy) = caller.and_then(|id| rules.policy(id)) else {
            return default;
        };
        let mut verdict = None;
        for reading in method.readings() {
            let path = segments(&reading, rules.ignore_case);
            let one = policy.judge(&path, call).unwrap_or(default);
            if !one.allowed {
                return one;
            }
            verdict.get_or_insert(one);
        }
        verdict.unwrap_or(default)
    }
}

impl Rules {
    fn policy(&self, id: &SpiffeId) -> Option<&Caller> {
        let key = (id.app_id().to_owned(), id.namespace().to_owned());
        let policy = self.callers.get(&key)?;
        (policy.trust_domain == id.trust_domain()).then_some(policy)
    }
}

impl Caller {
    /// What the policy says of one reading of a path, if it says anything.
    fn judge(&self, path: &[String], call: Call<'_>) -> Option<Verdict> {
        let best = self
            .operations
            .iter()
            .filter(|operation| operation.covers(path, call))
            .max_by_key(|operation| operation.segments.len());
        let allowed = best.map_or(self.default_allow, |operation| Some(operation.allow))?;
        Some(Verdict {
            allowed,
            by_policy: true,
        })
    }
}

impl Operation {
    fn covers(&self, path: &[String], call: Call<'_>) -> bool {
        let verb = match call {
            Call::Grpc => true,
            Call::Http { verb } => self
                .verbs
                .iter()
                .any(|own| own == "*" || own.eq_ignore_ascii_case(verb)),
        };
        verb && matches(&self.segments, path)
    }
}

/// `*` stands for one segment, at the end for all that is left; a shorter pattern covers what is below it.
fn matches(pattern: &[String], path: &[String]) -> bool {
    if pattern.len() > path.len() {
        return pattern.len() == path.len() + 1 && pattern.last().is_some_and(|last| last == "*");
    }
    pattern
        .iter()
        .zip(path)
        .all(|(pattern, segment)| pattern == "*" || pattern == segment)
}

/// The path of a rule. One that denies is read like the paths of calls, with its dots resolved; one that allows covers
/// nothing but what it says.
fn read(operation: &crds::configuration::access_control::Operation) -> Cow<'_, str> {
    match is_allow(&operation.action) {
        true => Cow::Borrowed(&operation.name),
        false => Cow::Owned(values::path::clean(&operation.name)),
    }
}

/// The parts of a path, up to what can only follow one.
fn segments(path: &str, ignore_case: bool) -> Vec<String> {
    let path = path.split(['?', '#', '\0']).next().unwrap_or_default();
    path.split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| {
            if ignore_case {
                segment.to_lowercase()
            } else {
                segment.to_owned()
            }
        })
        .collect()
}

fn is_allow(action: &str) -> bool {
    action.eq_ignore_ascii_case("allow")
}

#[cfg(test)]
mod tests {
    use crds::configuration::access_control::{AppPolicy, Operation as WrittenOperation};

    use super::*;
    use crate::Escapes;

    fn written() -> Written {
        let operation = |name: &str, verbs: &[&str], action: &str| WrittenOperation {
            name: name.to_owned(),
            http_verb: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
            action: action.to_owned(),
        };
        Written {
            default_action: Some("deny".to_owned()),
            trust_domain: Some("public".to_owned()),
            policies: vec![AppPolicy {
                app_id: "caller".to_owned(),
                default_action: Some("deny".to_owned()),
                trust_domain: Some("td".to_owned()),
                namespace: Some("ns".to_owned()),
                operations: vec![
                    operation("/public", &["*"], "allow"),
                    operation("/public/secret", &["*"], "deny"),
                    operation("/orders/*/items", &["GET"], "allow"),
                ],
            }],
        }
    }

    fn judge(id: &str, method: &str, verb: &str) -> bool {
        let list = AccessControl::compile(Some(&written()), true).unwrap();
        let id: SpiffeId = id.parse().unwrap();
        let method = MethodPath::from_message(method).unwrap();
        list.judge(Some(&id), &method, Call::Http { verb }).allowed
    }

    const CALLER: &str = "spiffe://td/ns/ns/caller";

    #[test]
    fn the_longest_pattern_decides() {
        assert!(judge(CALLER, "public", "GET"));
        assert!(judge(CALLER, "Public/extra", "POST"));
        assert!(!judge(CALLER, "public/secret", "GET"));
        assert!(judge(CALLER, "orders/7/items", "get"));
        assert!(!judge(CALLER, "orders/7/items", "PUT"));
        assert!(!judge(CALLER, "other", "GET"));
    }

    #[test]
    fn one_reading_that_is_denied_denies() {
        let mut written = written();
        let policy = &mut written.policies[0];
        policy.default_action = Some("allow".to_owned());
        policy.operations.truncate(1);
        policy.operations[0].name = "/two words".to_owned();
        policy.operations[0].action = "deny".to_owned();
        let id: SpiffeId = CALLER.parse().unwrap();
        for (app_is_http, call) in [(true, Call::Http { verb: "GET" }), (false, Call::Grpc)] {
            let list = AccessControl::compile(Some(&written), app_is_http).unwrap();
            let judge = |method: MethodPath| list.judge(Some(&id), &method, call).allowed;
            let message = |method| judge(MethodPath::from_message(method).unwrap());
            assert!(message("two") && message("twowords") && message("two%2Bwords"));
            for denied in ["two words", "two%20words", "/two%2520words/more"] {
                assert!(!message(denied), "{denied}");
            }
            assert!(!judge(
                MethodPath::from_url("two%2520words", Escapes::Decoded).unwrap()
            ));
            let passed = http::Uri::from_static("/two%20words");
            assert!(!judge(MethodPath::from_grpc(&passed)));
        }
    }

    #[test]
    fn the_whole_identity_counts() {
        assert!(!judge("spiffe://other/ns/ns/caller", "public", "GET"));
        assert!(!judge("spiffe://td/ns/other/caller", "public", "GET"));
        assert!(!judge("spiffe://td/ns/ns/other", "public", "GET"));
    }

    #[test]
    fn without_a_list_everybody_may_call() {
        let list = AccessControl::compile(None, true).unwrap();
        let method = MethodPath::from_message("x").unwrap();
        assert!(list.judge(None, &method, Call::Grpc).allowed);
    }

    #[test]
    fn a_rule_that_denies_is_read_like_a_path() {
        let mut written = written();
        let policy = &mut written.policies[0];
        policy.default_action = Some("allow".to_owned());
        policy.operations.truncate(1);
        policy.operations[0].name = "/./orders/../secret/".to_owned();
        policy.operations[0].action = "deny".to_owned();
        let list = AccessControl::compile(Some(&written), true).unwrap();
        let id = SpiffeId::new("td", "ns", "caller").unwrap();
        let call = Call::Http { verb: "GET" };
        let allowed = |method: &str| {
            let path = MethodPath::from_message(method).unwrap();
            list.judge(Some(&id), &path, call).allowed
        };
        assert!(!allowed("/secret") && allowed("/orders"));
    }

    #[test]
    fn a_policy_without_namespace_is_named() {
        let mut written = written();
        written.policies[0].namespace = None;
        let error = AccessControl::compile(Some(&written), true).unwrap_err();
        assert!(error.to_string().contains("\"caller\""), "{error}");
    }
}
