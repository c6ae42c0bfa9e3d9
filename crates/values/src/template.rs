//! Templates in component metadata values: `{uuid}`, `{podName}`, `{namespace}` and `{appID}` (contract 3.1).

use uuid::Uuid;

/// What the templates stand for in one sidecar.
#[derive(Clone, Debug, Default)]
pub struct Template {
    /// Replaces `{podName}`; without it a value that asks for the pod name is refused.
    pub pod_name: Option<String>,
    /// First half of what replaces `{namespace}`.
    pub namespace: String,
    /// Replaces `{appID}`, and is the second half of `{namespace}`.
    pub app_id: String,
}

/// Why a value could not be rendered.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The value names `{podName}` and the sidecar knows no pod name (`POD_NAME` is unset or empty).
    #[error("value refers to {{podName}} but the pod name is not known")]
    PodName,
}

impl Template {
    /// Fills in the templates of one value. Each `{uuid}` becomes a random version 4 UUID of its own.
    pub fn render(&self, value: &str) -> Result<String, Error> {
        let mut value = value.to_owned();
        while value.contains(UUID) {
            value = value.replacen(UUID, &Uuid::new_v4().to_string(), 1);
        }
        if value.contains(POD_NAME) {
            let name = self
                .pod_name
                .as_deref()
                .filter(|name| !name.is_empty())
                .ok_or(Error::PodName)?;
            value = value.replace(POD_NAME, name);
        }
        // Compat: Q-namespace-template: the namespace template carries the app ID behind a dot.
        Ok(value
            .replace(NAMESPACE, &format!("{}.{}", self.namespace, self.app_id))
            .replace(APP_ID, &self.app_id))
    }
}

/// Whether a value asks for the namespace; a pub/sub component with such a value has namespaced topics (contract 9.7).
pub fn names_namespace(value: &str) -> bool {
    value.contains(NAMESPACE)
}

const UUID: &str = "{uuid}";
const POD_NAME: &str = "{podName}";
const NAMESPACE: &str = "{namespace}";
const APP_ID: &str = "{appID}";

#[cfg(test)]
mod tests {
    use super::*;

    fn template() -> Template {
        Template {
            pod_name: Some("shop-0".into()),
            namespace: "prod".into(),
            app_id: "shop".into(),
        }
    }

    #[test]
    fn every_template_is_filled_in() {
        assert_eq!(
            template().render("{appID}/{namespace}/{podName}"),
            Ok("shop/prod.shop/shop-0".into())
        );
        assert!(names_namespace("x-{namespace}"));
    }

    #[test]
    fn each_uuid_is_new() {
        let text = template().render("{uuid} {uuid}").expect("renders");
        let (one, two) = text.split_once(' ').expect("two values");
        assert!(Uuid::parse_str(one).is_ok() && one != two);
    }

    #[test]
    fn a_missing_pod_name_is_an_error_only_when_asked_for() {
        let template = Template {
            pod_name: None,
            ..template()
        };
        assert_eq!(template.render("{podName}"), Err(Error::PodName));
        assert_eq!(template.render("{appID}"), Ok("shop".into()));
    }
}
