//! Fields that no Resiliency resource has: a misspelt `maxRetry` would otherwise be a retry without end, and nobody told.

use std::collections::BTreeMap;

use crds::resiliency::{PolicyNames, Spec};

type Unknown = BTreeMap<String, serde_json::Value>;

/// The unknown fields of a resource, by their paths.
pub(crate) fn fields(spec: &Spec) -> Vec<String> {
    let mut found = Found(Vec::new());
    found.add("spec", &spec.unknown);
    let policies = &spec.policies;
    found.add("spec.policies", &policies.unknown);
    for (name, retry) in &policies.retries {
        let path = format!("spec.policies.retries.{name}");
        found.add(&path, &retry.unknown);
        if let Some(matching) = &retry.matching {
            found.add(&format!("{path}.matching"), &matching.unknown);
        }
    }
    for (name, breaker) in &policies.circuit_breakers {
        let path = format!("spec.policies.circuitBreakers.{name}");
        found.add(&path, &breaker.unknown);
    }
    let targets = &spec.targets;
    found.add("spec.targets", &targets.unknown);
    for (name, app) in &targets.apps {
        found.add(&format!("spec.targets.apps.{name}"), &app.unknown);
    }
    for (name, actor) in &targets.actors {
        found.add(&format!("spec.targets.actors.{name}"), &actor.unknown);
    }
    for (name, component) in &targets.components {
        let path = format!("spec.targets.components.{name}");
        found.add(&path, &component.unknown);
        found.side(&path, "inbound", component.inbound.as_ref());
        found.side(&path, "outbound", component.outbound.as_ref());
    }
    found.0
}

struct Found(Vec<String>);

impl Found {
    fn add(&mut self, path: &str, unknown: &Unknown) {
        self.0
            .extend(unknown.keys().map(|key| format!("{path}.{key}")));
    }

    fn side(&mut self, path: &str, side: &str, names: Option<&PolicyNames>) {
        if let Some(names) = names {
            self.add(&format!("{path}.{side}"), &names.unknown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_looked_at() {
        let spec: Spec = serde_json::from_value(serde_json::json!({
            "more": 1,
            "policies": {
                "timeout": {},
                "timeouts": {"t": "1s"},
                "retries": {"r": {"maxRetry": 3, "maxRetries": 3, "matching": {"httpCodes": "1"}}},
                "circuitBreakers": {"c": {"tripp": "x", "maxRequests": 1}},
            },
            "targets": {
                "app": {},
                "apps": {"a": {"retries": "r", "retry": "r"}},
                "actors": {"t": {"scope": "id"}},
                "components": {"s": {"retry": "r", "outbound": {"timeouts": "t"}, "inbound": {}}},
            },
        }))
        .unwrap();
        assert_eq!(
            fields(&spec),
            [
                "spec.more",
                "spec.policies.timeout",
                "spec.policies.retries.r.maxRetry",
                "spec.policies.retries.r.matching.httpCodes",
                "spec.policies.circuitBreakers.c.tripp",
                "spec.targets.app",
                "spec.targets.apps.a.retries",
                "spec.targets.actors.t.scope",
                "spec.targets.components.s.retry",
                "spec.targets.components.s.outbound.timeouts",
            ]
        );
    }
}
