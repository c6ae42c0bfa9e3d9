//! Who of the other apps may do what with the workflows and activities of this one (contract 10.4). Without policies everybody may do
//! everything; with any, only what a rule allows. The app itself may always.

mod glob;
mod known;
mod requires;

use crds::{
    Kind, WorkflowAccessPolicy,
    workflow_access_policy::{Operation, RequiredEvent, Spec},
};
use http::HeaderMap;
use proto::durabletask::{HistoryEvent, PropagatedHistory, history_event::EventType};

pub use known::{Judged, Known, Version};

/// What somebody wants to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Workflow,
    Activity,
}

/// Who wants what.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub caller: &'a str,
    pub what: What,
    pub operation: Operation,
    pub name: &'a str,
    /// The history that the caller shows, where it is proven that nobody has made it up.
    pub proven: Option<&'a PropagatedHistory>,
}

/// What the rules say to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    /// A rule would allow it, if what it requires were proven to have happened.
    Unproven,
    Denied,
}

/// The rules of all policies.
#[derive(Debug, Default)]
pub struct Access {
    names: Vec<String>,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    caller: String,
    what: What,
    operation: Operation,
    pattern: String,
    requires: Vec<RequiredEvent>,
}

impl Access {
    /// The rules of policies, where there are any. One that makes no sense is said, and is none.
    pub fn of(policies: &[WorkflowAccessPolicy]) -> Option<Self> {
        let mut access = Self::default();
        for policy in policies {
            let name = policy.name();
            if let Err(problem) = check(&policy.spec) {
                tracing::error!("WorkflowAccessPolicy \"{name}\" failed validation: {problem}");
                continue;
            }
            access.names.push(name.to_owned());
            for rule in &policy.spec.rules {
                for caller in &rule.callers {
                    access.add(name, &caller.app_id, rule);
                }
            }
        }
        (!access.names.is_empty()).then_some(access)
    }

    fn add(&mut self, policy: &str, caller: &str, rule: &crds::workflow_access_policy::Rule) {
        let mut put = |what, operation, pattern: &str, requires: &[RequiredEvent]| {
            if !glob::is_valid(pattern) {
                tracing::warn!(
                    "Invalid glob pattern '{pattern}' in WorkflowAccessPolicy '{policy}', skipping it"
                );
                return;
            }
            self.rules.push(Rule {
                caller: caller.to_owned(),
                what,
                operation,
                pattern: pattern.to_owned(),
                requires: requires.to_vec(),
            });
        };
        for workflow in &rule.workflows {
            for operation in &workflow.operations {
                put(
                    What::Workflow,
                    *operation,
                    &workflow.name,
                    &workflow.requires,
                );
            }
        }
        for activity in &rule.activities {
            put(
                What::Activity,
                Operation::Schedule,
                &activity.name,
                &activity.requires,
            );
        }
    }

    /// Names of the policies.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether any rule requires something to have happened.
    pub fn asks_for_proof(&self) -> bool {
        self.rules.iter().any(|rule| !rule.requires.is_empty())
    }

    /// Whether an app may do something: one rule that allows it is enough.
    pub fn judge(&self, ask: &Ask<'_>) -> Verdict {
        let mut verdict = Verdict::Denied;
        for rule in self.rules.iter().filter(|rule| rule.is_about(ask)) {
            let proven = |history| requires::are_met(&rule.requires, history);
            if rule.requires.is_empty() || ask.proven.is_some_and(proven) {
                return Verdict::Allowed;
            }
            verdict = Verdict::Unproven;
        }
        verdict
    }
}

impl Rule {
    fn is_about(&self, ask: &Ask<'_>) -> bool {
        self.caller == ask.caller
            && self.what == ask.what
            && self.operation == ask.operation
            && glob::matches(&self.pattern, ask.name)
    }
}

/// What a cluster checks by the definition of the resource, files have checked here.
fn check(spec: &Spec) -> Result<(), &'static str> {
    for rule in &spec.rules {
        if rule.callers.is_empty() || rule.callers.iter().any(|caller| caller.app_id.is_empty()) {
            return Err("a rule needs callers, and each an appID");
        }
        if rule.workflows.is_empty() && rule.activities.is_empty() {
            return Err("a rule needs a workflow or an activity");
        }
        for workflow in &rule.workflows {
            if workflow.name.is_empty() || workflow.operations.is_empty() {
                return Err("a workflow needs a name and operations");
            }
            if !workflow.requires.is_empty() && workflow.operations != [Operation::Schedule] {
                return Err("requires needs schedule as the only operation");
            }
        }
        if rule
            .activities
            .iter()
            .any(|activity| activity.name.is_empty())
        {
            return Err("an activity needs a name");
        }
        let required = rule.workflows.iter().flat_map(|it| &it.requires);
        let mut required = required.chain(rule.activities.iter().flat_map(|it| &it.requires));
        if required.any(|it| it.name.is_empty() || it.app_id.is_empty()) {
            return Err("what is required needs a name and an appID");
        }
    }
    Ok(())
}

/// Who asks, as far as that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// This app.
    Own,
    Other(String),
    /// The connection has proved nothing.
    Unknown,
}

/// Who has sent a call. The headers are the internal server's; what a caller sends under their names is dropped there.
pub fn caller(headers: &HeaderMap, own: &str) -> Caller {
    if !headers.contains_key(actors::REMOTE) {
        return Caller::Own;
    }
    let app_id = headers
        .get(actors::CALLER)
        .and_then(|app_id| app_id.to_str().ok());
    match app_id {
        Some(app_id) if app_id == own => Caller::Own,
        Some(app_id) => Caller::Other(app_id.to_owned()),
        None => Caller::Unknown,
    }
}

/// What an event asks for, where that is anything that somebody may be allowed.
pub fn operation_of(event: &HistoryEvent) -> Option<Operation> {
    Some(match event.event_type.as_ref()? {
        EventType::ExecutionTerminated(_) => Operation::Terminate,
        EventType::EventRaised(_) => Operation::Raise,
        EventType::ExecutionSuspended(_) => Operation::Pause,
        EventType::ExecutionResumed(_) => Operation::Resume,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event;

    fn policy(spec: &str) -> WorkflowAccessPolicy {
        let text = format!(
            r#"{{"apiVersion":"dapr.io/v1alpha1","kind":"WorkflowAccessPolicy","metadata":{{"name":"p"}},"spec":{spec}}}"#
        );
        serde_json::from_str(&text).expect("a policy")
    }

    fn ask<'a>(caller: &'a str, what: What, operation: Operation, name: &'a str) -> Ask<'a> {
        Ask {
            caller,
            what,
            operation,
            name,
            proven: None,
        }
    }

    #[test]
    fn a_rule_that_requires_something_allows_nothing_without_proof() {
        let one = policy(
            r#"{"rules":[{"callers":[{"appID":"a"}],"activities":[
                {"name":"pay","requires":[{"eventType":"event.raised","name":"ok","appID":"a"}]},
                {"name":"Pay*"}]}]}"#,
        );
        let access = Access::of(&[one]).expect("rules");
        let judge = |name| access.judge(&ask("a", What::Activity, Operation::Schedule, name));
        assert_eq!(judge("pay"), Verdict::Unproven);
        assert_eq!(judge("PayLater"), Verdict::Allowed);
        assert_eq!(judge("other"), Verdict::Denied);
        let raised = proto::durabletask::EventRaisedEvent {
            name: "ok".to_owned(),
            input: None,
        };
        let raised = event::plain(Default::default(), EventType::EventRaised(raised));
        let proven = PropagatedHistory {
            chunks: vec![proto::durabletask::PropagatedHistoryChunk {
                app_id: "a".to_owned(),
                raw_events: vec![prost::Message::encode_to_vec(&raised).into()],
                ..Default::default()
            }],
            ..PropagatedHistory::default()
        };
        let asked = Ask {
            proven: Some(&proven),
            ..ask("a", What::Activity, Operation::Schedule, "pay")
        };
        assert_eq!(access.judge(&asked), Verdict::Allowed);
    }

    #[test]
    fn what_no_rule_allows_is_denied() {
        let one = policy(
            r#"{"rules":[{"callers":[{"appID":"a"}],"workflows":[{"name":"Order*","operations":["schedule"]}]}]}"#,
        );
        let access = Access::of(&[one]).expect("rules");
        let allows = |caller, what, operation, name| {
            access.judge(&ask(caller, what, operation, name)) == Verdict::Allowed
        };
        assert!(allows(
            "a",
            What::Workflow,
            Operation::Schedule,
            "OrderShip"
        ));
        assert!(!allows(
            "b",
            What::Workflow,
            Operation::Schedule,
            "OrderShip"
        ));
        assert!(!allows("a", What::Workflow, Operation::Purge, "OrderShip"));
        assert!(!allows(
            "a",
            What::Activity,
            Operation::Schedule,
            "OrderShip"
        ));
        assert!(!allows("a", What::Workflow, Operation::Schedule, "Other"));
    }

    #[test]
    fn a_policy_that_makes_no_sense_is_none() {
        for spec in [
            r#"{"rules":[{"callers":[{"appID":""}],"workflows":[{"name":"W","operations":["schedule"]}]}]}"#,
            r#"{"rules":[{"callers":[{"appID":"a"}],"workflows":[{"name":"W","operations":[]}]}]}"#,
            r#"{"rules":[{"callers":[{"appID":"a"}]}]}"#,
        ] {
            assert!(Access::of(&[policy(spec)]).is_none(), "{spec}");
        }
        assert!(Access::of(&[policy(r#"{"rules":[]}"#)]).is_some());
    }
}
