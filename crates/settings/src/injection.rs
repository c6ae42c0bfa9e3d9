//! Which pods get a sidecar, for all who have to agree on it: the injector, which gives it, and the operator's watchdog,
//! which restarts pods that missed theirs.

use std::collections::BTreeMap;

use crate::ANNOTATION_PREFIX;

/// The annotation that asks for a sidecar, without its prefix.
pub const ENABLED: &str = "enabled";

/// Whether a pod asks for a sidecar. The injector takes `true` in any case and nothing else, which is stricter than
/// other switches.
pub fn is_wanted(annotations: Option<&BTreeMap<String, String>>) -> bool {
    let value = annotations
        .and_then(|annotations| annotations.get(&format!("{ANNOTATION_PREFIX}{ENABLED}")));
    value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

#[cfg(test)]
mod tests {
    use super::is_wanted;

    #[test]
    fn asking_is_strict() {
        let pod = |value: &str| [("dapr.io/enabled".to_owned(), value.to_owned())].into();
        assert!(is_wanted(Some(&pod("true"))) && is_wanted(Some(&pod("TRUE"))));
        for other in ["yes", "1", "", "true "] {
            assert!(!is_wanted(Some(&pod(other))), "{other}");
        }
        assert!(!is_wanted(None));
    }
}
