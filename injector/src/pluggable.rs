//! Containers of pluggable components, which Components carry as an annotation.

use crds::{Component, Kind as _};
use k8s_openapi::api::core::v1::Container;
use settings::ANNOTATION_PREFIX;

use crate::pod::COMPONENT_CONTAINER;

/// What the injector keeps of a Component.
#[derive(Clone, Debug, PartialEq)]
pub struct Pluggable {
    container: Container,
    scopes: Vec<String>,
}

impl Pluggable {
    /// The container that a Component asks for; `None` if it asks for none. A text that is no container is warned
    /// about and passed over, because it must not keep other pods from starting.
    pub fn of(component: &Component) -> Option<Self> {
        let name = format!("{ANNOTATION_PREFIX}{COMPONENT_CONTAINER}");
        let text = component
            .metadata
            .annotations
            .as_ref()?
            .get(&name)
            .filter(|text| !text.is_empty())?;
        match parse(text) {
            Ok(mut container) => {
                if container.name.is_empty() {
                    component.name().clone_into(&mut container.name);
                }
                Some(Self {
                    container,
                    scopes: component.scopes().to_vec(),
                })
            }
            Err(error) => {
                tracing::warn!(
                    "component {}/{}: annotation {name} is no container: {error}",
                    component.namespace().unwrap_or_default(),
                    component.name()
                );
                None
            }
        }
    }

    fn in_scope(&self, app_id: &str) -> bool {
        self.scopes.is_empty() || self.scopes.iter().any(|scope| scope == app_id)
    }
}

/// A container without a name gets one later.
fn parse(text: &str) -> serde_json::Result<Container> {
    let mut value: serde_json::Value = serde_json::from_str(text)?;
    if let Some(object) = value.as_object_mut() {
        object.entry("name").or_insert_with(|| "".into());
    }
    serde_json::from_value(value)
}

/// The containers that an app's pod gets, one for each image.
pub fn containers<'a>(
    all: impl IntoIterator<Item = &'a Pluggable>,
    app_id: &str,
) -> Vec<Container> {
    let mut found: Vec<Container> = Vec::new();
    for one in all {
        if one.in_scope(app_id)
            && !found
                .iter()
                .any(|container| container.image == one.container.image)
        {
            found.push(one.container.clone());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(name: &str, container: &str, scopes: &[&str]) -> Component {
        let mut component = Component::new(name, Default::default());
        let annotation = (
            "dapr.io/component-container".to_owned(),
            container.to_owned(),
        );
        component.metadata.annotations = Some([annotation].into());
        component.scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        component
    }

    #[test]
    fn containers_are_scoped_and_one_for_each_image() {
        let all: Vec<Pluggable> = [
            component("other", r#"{"image":"a"}"#, &["other"]),
            component("first", r#"{"image":"a"}"#, &[]),
            component("twin", r#"{"image":"a","name":"twin"}"#, &[]),
            component("second", r#"{"image":"b","name":"named"}"#, &["shop"]),
        ]
        .iter()
        .filter_map(Pluggable::of)
        .collect();
        let names: Vec<String> = containers(&all, "shop")
            .into_iter()
            .map(|container| container.name)
            .collect();
        assert_eq!(names, ["first", "named"]);
    }

    #[test]
    fn nonsense_is_passed_over() {
        assert_eq!(Pluggable::of(&component("x", "{", &[])), None);
        assert_eq!(Pluggable::of(&component("x", "[]", &[])), None);
        assert_eq!(Pluggable::of(&component("x", "", &[])), None);
        assert_eq!(
            Pluggable::of(&Component::new("x", Default::default())),
            None
        );
    }
}
