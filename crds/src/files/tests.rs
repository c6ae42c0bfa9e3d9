//! Tests of reading resource files.

use super::*;

const TWO: &str = "\
# a comment first
apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: store
spec:
  type: state.redis
  version: v1
  metadata:
  - name: redisHost
    value: localhost:6379
  - name: maxRetries
    value: 3
  - name: enableTLS
    value: off
  - name: mode
    value: 0644
---
apiVersion: v1
kind: Secret
metadata: {name: skipped}
---
apiVersion: dapr.io/v1alpha1
kind: Subscription
metadata: {name: orders}
spec: {pubsubName: bus, topic: orders, route: /orders}
scopes: [a, b]
";

#[test]
fn documents_become_resources_and_strangers_are_skipped() {
    let resources = from_documents("two.yaml", TWO).unwrap();
    let [
        Resource::Component(component),
        Resource::Subscription(subscription),
    ] = resources.as_slice()
    else {
        panic!("{resources:?}");
    };
    let text = |name: &str| component.spec.property(name).unwrap().text().into_owned();
    assert_eq!(text("REDISHOST"), "localhost:6379");
    assert_eq!(text("maxRetries"), "3");
    assert_eq!(text("enableTLS"), "false");
    assert_eq!(text("mode"), "420");
    assert_eq!(subscription.spec.pubsubname, "bus");
    assert_eq!(
        subscription.spec.routes.default_path.as_deref(),
        Some("/orders")
    );
    assert!(subscription.in_scope("a") && !subscription.in_scope("c"));
}

#[test]
fn the_head_of_a_document_is_read_in_any_case() {
    let text = "ApiVersion: dapr.io/v1alpha1\nKind: Subscription\nMetadata: {Name: orders}\n\
        Spec: {PubsubName: bus, Topic: orders, Route: /orders}\n";
    let read = each_document("caps.yaml", text);
    let [Ok(read)] = read.as_slice() else {
        panic!("{read:?}");
    };
    let Resource::Subscription(subscription) = &read.resource else {
        panic!("{read:?}");
    };
    assert_eq!(subscription.name(), "orders");
    assert_eq!(subscription.spec.topic, "orders");
    assert!(read.unknown.is_empty(), "{read:?}");
}

#[test]
fn the_last_of_two_equal_keys_wins() {
    let text = "apiVersion: dapr.io/v1alpha1\nkind: Component\nkind: Component\nmetadata: {name: a, name: b}\n";
    assert_eq!(from_documents("f", text).unwrap()[0].name(), "b");
}

#[test]
fn a_broken_document_does_not_hide_the_others() {
    let text = format!("a: [unclosed\n---\n{TWO}");
    let read = each_document("mixed.yaml", &text);
    assert_eq!(read.iter().filter(|result| result.is_ok()).count(), 2);
    let error = from_documents("mixed.yaml", &text).unwrap_err();
    assert_eq!(
        error.to_string(),
        "mixed.yaml: document 1 is not valid YAML"
    );
}

#[test]
fn errors_name_file_document_and_field() {
    let text = "---\n---\napiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: c}\nspec: {type: x, metadata: {a: b}}\n";
    let error = from_documents("f.yaml", text).unwrap_err();
    assert_eq!(
        error.to_string(),
        "f.yaml: document 2: Component \"c\" failed validation: spec.metadata must be array, found a map"
    );
    let slash = "apiVersion: dapr.io/v1alpha1\nkind: Resiliency\nmetadata: {name: a/b}\n";
    assert!(matches!(from_documents("f", slash), Err(Error::Name(_))));
    let enumerated = "apiVersion: dapr.io/v1alpha1\nkind: HTTPEndpoint\nmetadata: {name: e}\nspec: {baseUrl: u, clientTLS: {renegotiation: Often}}\n";
    let error = from_documents("f", enumerated).unwrap_err().to_string();
    assert!(
        error.contains("spec.clientTLS.renegotiation") && error.contains("OnceAsClient"),
        "{error}"
    );
}

#[test]
fn comments_before_the_first_separator_are_no_document() {
    for head in [
        "# licence\n---\n",
        "\n# a\n\n# b\n---\n",
        "%YAML 1.1\n---\n",
        "---\r\n",
        "--- # c\n",
    ] {
        let text = format!(
            "{head}apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: c}}\nspec: {{metadata: 1}}\n"
        );
        let error = from_documents("f", &text).unwrap_err().to_string();
        assert!(error.starts_with("f: document 1: "), "{head:?}: {error}");
        let configuration = configuration(
            [(
                "f",
                format!("{head}spec: {{features: [{{name: A, enabled: true}}]}}").as_str(),
            )],
            |_| None,
            |_| {},
        );
        assert!(configuration.unwrap().spec.feature_enabled("A"), "{head:?}");
    }
}

#[test]
fn nothing_is_no_resource() {
    for text in [
        "",
        "\n\n",
        "---\n",
        "---\n---\n",
        "# words\n",
        "just text",
        "[1, 2]",
    ] {
        assert_eq!(from_documents("f", text).unwrap(), [], "{text:?}");
    }
    let long = " ".repeat(MAX_FILE_BYTES + 1);
    assert!(matches!(
        from_documents("f", &long),
        Err(Error::TooLong { .. })
    ));
}

fn component(name: &str, namespace: &str, scope: &str) -> Resource {
    let text = format!(
        "{{apiVersion: dapr.io/v1alpha1, kind: Component, metadata: {{name: {name}, namespace: {namespace}}}, scopes: [{scope}]}}"
    );
    from_documents("f", &text).unwrap().remove(0)
}

#[test]
fn selection_goes_by_namespace_then_name_then_scope() {
    let names = |(picked, doubled): (Vec<Resource>, Vec<Doubled>)| -> Vec<String> {
        assert_eq!(doubled, []);
        picked
            .iter()
            .map(|resource| resource.name().to_owned())
            .collect()
    };
    let both = || {
        vec![
            component("a", "one", ""),
            component("b", "two", ""),
            component("c", "", ""),
        ]
    };
    assert_eq!(names(pick(both(), Some("one"), "app")), ["a", "c"]);
    assert_eq!(names(pick(both(), None, "app")), ["a", "b", "c"]);
    assert_eq!(names(pick(both(), Some(""), "app")), ["a", "b", "c"]);
    let twice = vec![component("a", "one", ""), component("a", "one", "other")];
    let (picked, doubled) = pick(twice, None, "app");
    assert_eq!((picked.len(), doubled.len()), (1, 1));
    assert_eq!((doubled[0].kind, &*doubled[0].name), ("Component", "a"));
    let scoped = vec![component("a", "one", "other"), component("a", "one", "app")];
    assert_eq!(names(pick(scoped, None, "app")), ["a"]);
    let apart = vec![component("a", "one", ""), component("a", "two", "")];
    assert_eq!(names(pick(apart, Some("two"), "app")), ["a"]);
}
