//! Who may have sidecars injected (contract 4.2): the controllers that create pods, and whom the administrator adds.

use std::collections::HashSet;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::UserInfo;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client, api::ListParams};
use regex::Regex;

use kubernetes::client::status;

/// The rule that tells requesters apart.
#[derive(Clone, Debug)]
pub struct Requesters {
    patterns: Vec<Pattern>,
    /// Accounts that are named exactly, for their UIDs.
    exact: Vec<(String, String)>,
    uids: HashSet<String>,
}

#[derive(Clone, Debug)]
struct Pattern {
    namespace: Regex,
    name: Regex,
}

/// Why a pattern cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "invalid service account pattern {0:?}: needs exactly one ':' between namespace and name"
    )]
    Form(String),
    #[error("invalid service account pattern {0:?}: namespace and name are both empty")]
    Empty(String),
    #[error("invalid service account pattern {0:?}: syntax error in {1:?}")]
    Glob(String, String),
}

impl Requesters {
    /// The built-in accounts and the given patterns, `namespace:name` with `*`, `?` and `[...]`.
    pub fn new(patterns: &[String]) -> Result<Self, Error> {
        let mut requesters = Self {
            patterns: Vec::new(),
            exact: Vec::new(),
            uids: HashSet::new(),
        };
        let given = patterns
            .iter()
            .map(|pattern| pattern.trim())
            .filter(|pattern| !pattern.is_empty());
        for pattern in CONTROLLERS.into_iter().chain(given) {
            requesters.add(pattern)?;
        }
        Ok(requesters)
    }

    fn add(&mut self, pattern: &str) -> Result<(), Error> {
        let form = || Error::Form(pattern.to_owned());
        let (namespace, name) = pattern.split_once(':').ok_or_else(form)?;
        if name.contains(':') {
            return Err(form());
        }
        let (namespace, name) = (namespace.trim(), name.trim());
        if namespace.is_empty() && name.is_empty() {
            return Err(Error::Empty(pattern.to_owned()));
        }
        let compile =
            |part: &str| glob(part).ok_or_else(|| Error::Glob(pattern.to_owned(), part.to_owned()));
        self.patterns.push(Pattern {
            namespace: compile(namespace)?,
            name: compile(name)?,
        });
        if !pattern.contains(['*', '?', '[', '\\']) {
            self.exact.push((namespace.to_owned(), name.to_owned()));
        }
        Ok(())
    }

    /// Whether the requester may have a sidecar injected.
    pub fn allow(&self, user: &UserInfo) -> bool {
        self.allow_name(user.username.as_deref().unwrap_or_default())
            || user.uid.as_ref().is_some_and(|uid| self.uids.contains(uid))
            || user.groups.iter().flatten().any(|group| group == MASTERS)
    }

    fn allow_name(&self, username: &str) -> bool {
        let account = username
            .strip_prefix(ACCOUNT_PREFIX)
            .and_then(|account| account.split_once(':'));
        account.is_some_and(|(namespace, name)| {
            self.patterns
                .iter()
                .any(|p| p.namespace.is_match(namespace) && p.name.is_match(name))
        })
    }

    /// Looks up the UIDs of the accounts that are named exactly. What cannot be found is left out: names match by
    /// themselves, and a cluster without some controller is no reason not to start.
    pub async fn resolve(&mut self, client: &Client) {
        match tokio::time::timeout(LOOKUP_TIMEOUT, self.look_up(client)).await {
            Ok(uids) => self.uids = uids,
            Err(_) => tracing::warn!("no answer about service accounts within {LOOKUP_TIMEOUT:?}"),
        }
        tracing::debug!("{} service accounts are known by uid", self.uids.len());
    }

    async fn look_up(&self, client: &Client) -> HashSet<String> {
        let all: Api<ServiceAccount> = Api::all(client.clone());
        let uid = |account: ServiceAccount| account.metadata.uid.filter(|uid| !uid.is_empty());
        match all.list(&ListParams::default()).await {
            Ok(found) => {
                let wanted: HashSet<(&str, &str)> = self
                    .exact
                    .iter()
                    .map(|(namespace, name)| (namespace.as_str(), name.as_str()))
                    .collect();
                let named = |account: &ServiceAccount| {
                    let meta = &account.metadata;
                    let key = (meta.namespace.as_deref(), meta.name.as_deref());
                    matches!(key, (Some(namespace), Some(name)) if wanted.contains(&(namespace, name)))
                };
                found
                    .items
                    .into_iter()
                    .filter(named)
                    .filter_map(uid)
                    .collect()
            }
            Err(error) => {
                tracing::debug!("cannot list service accounts, asking one by one: {error}");
                let mut uids = HashSet::new();
                for (namespace, name) in &self.exact {
                    let one: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
                    match one.get(name).await {
                        Ok(account) => uids.extend(uid(account)),
                        Err(error) if status(&error) == Some(404) => {}
                        Err(error) => {
                            tracing::warn!("no uid of service account {namespace}:{name}: {error}")
                        }
                    }
                }
                uids
            }
        }
    }
}

/// A shell pattern as a regular expression; `None` if it is malformed.
fn glob(pattern: &str) -> Option<Regex> {
    let mut out = String::from("^");
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' => out.push_str("[^/]*"),
            '?' => out.push_str("[^/]"),
            '\\' => out.push_str(&regex::escape(&chars.next()?.to_string())),
            '[' => out.push_str(&class(&mut chars)?),
            other => out.push_str(&regex::escape(&other.to_string())),
        }
    }
    out.push('$');
    Regex::new(&out).ok()
}

/// The rest of a character class, after its opening bracket.
fn class(chars: &mut std::str::Chars<'_>) -> Option<String> {
    let mut out = String::from("[");
    let mut rest = chars.clone();
    if rest.next() == Some('^') {
        out.push('^');
        *chars = rest;
    }
    let mut members = 0;
    loop {
        let low = match chars.next()? {
            ']' if members > 0 => break,
            ']' | '-' => return None,
            '\\' => chars.next()?,
            c => c,
        };
        out.push_str(&escape_member(low));
        let mut ahead = chars.clone();
        if ahead.next() == Some('-') {
            *chars = ahead;
            let high = match chars.next()? {
                ']' | '-' => return None,
                '\\' => chars.next()?,
                c => c,
            };
            out.push('-');
            out.push_str(&escape_member(high));
        }
        members += 1;
    }
    out.push(']');
    Some(out)
}

fn escape_member(c: char) -> String {
    if c.is_alphanumeric() {
        c.to_string()
    } else {
        format!("\\x{{{:X}}}", u32::from(c))
    }
}

/// Controllers that create pods for others.
const CONTROLLERS: [&str; 10] = [
    "kube-system:replicaset-controller",
    "kube-system:replication-controller",
    "kube-system:deployment-controller",
    "kube-system:cronjob-controller",
    "kube-system:job-controller",
    "kube-system:statefulset-controller",
    "kube-system:daemon-set-controller",
    "openshift-operator-lifecycle-manager:olm-operator-serviceaccount",
    "tekton-pipelines:tekton-pipelines-controller",
    "mirrord:mirrord-operator",
];
/// Group of administrators.
const MASTERS: &str = "system:masters";
/// How the user name of a service account begins.
const ACCOUNT_PREFIX: &str = "system:serviceaccount:";
/// For all questions about service accounts together.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserInfo {
        UserInfo {
            username: Some(format!("{ACCOUNT_PREFIX}{name}")),
            ..UserInfo::default()
        }
    }

    fn allows(patterns: &[&str], name: &str) -> bool {
        let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
        Requesters::new(&patterns).unwrap().allow(&user(name))
    }

    #[test]
    fn controllers_and_masters_may() {
        assert!(allows(&[], "kube-system:replicaset-controller"));
        assert!(!allows(&[], "default:replicaset-controller"));
        let masters = UserInfo {
            groups: Some(vec![MASTERS.into()]),
            ..UserInfo::default()
        };
        let requesters = Requesters::new(&[]).unwrap();
        assert!(requesters.allow(&masters));
        let plain = Some("kube-system:job-controller".to_owned());
        assert!(
            !requesters.allow(&UserInfo {
                username: plain,
                ..UserInfo::default()
            }),
            "not a service account"
        );
    }

    #[test]
    fn uids_match_alone() {
        let mut requesters = Requesters::new(&[]).unwrap();
        requesters.uids.insert("u-1".into());
        assert!(requesters.allow(&UserInfo {
            uid: Some("u-1".into()),
            ..UserInfo::default()
        }));
        assert!(!requesters.allow(&UserInfo {
            uid: Some(String::new()),
            ..UserInfo::default()
        }));
    }

    #[test]
    fn patterns() {
        assert!(allows(&["ns:sa"], "ns:sa"));
        assert!(!allows(&["ns:sa"], "ns:sa2"));
        assert!(allows(&["ns*:*-sa"], "ns-1:my-sa"));
        assert!(allows(&["*:*"], "any:thing"));
        assert!(allows(&["ns:sa-?"], "ns:sa-1"));
        assert!(!allows(&["ns:sa-?"], "ns:sa-10"));
        assert!(allows(&["ns:sa-[0-3x]"], "ns:sa-2"));
        assert!(!allows(&["ns:sa-[^0-3]"], "ns:sa-2"));
        assert!(allows(&["n.s:s+a"], "n.s:s+a"));
        assert!(!allows(&["n.s:sa"], "nxs:sa"));
    }

    #[test]
    fn malformed_patterns_are_errors() {
        for bad in ["ns", "a:b:c", ":", "ns:[a", "ns:[]", "ns:a\\", "ns:[a-]"] {
            assert!(Requesters::new(&[bad.to_owned()]).is_err(), "{bad}");
        }
        assert!(Requesters::new(&[" ".to_owned(), "a:".to_owned()]).is_ok());
    }
}
