//! What the accounts of the control plane may do: nothing beyond a list that is written down, neither as the chart renders it
//! nor as the API server counts it. The golden files say it by account, by namespace (`*` is everywhere) and by object.

use std::collections::{BTreeMap, BTreeSet};

use e2e::golden;
use serde_json::{Value, json};

use crate::installation::{SYSTEM, control_plane};
use crate::kube::run;
use crate::render::{is_hook, render};

const NAMESPACED: &str = include_str!("values/namespaced.yaml");
const EVERYWHERE: &str = "*";
const ACCOUNTS: [&str; 5] = [
    "dapr-injector",
    "dapr-operator",
    "dapr-placement",
    "dapr-scheduler",
    "dapr-sentry",
];
/// The key of the certificate authority.
const KEY: &str = "secrets/dapr-trust-bundle";

/// Verbs by object: `resource.group`, and `/name` where a rule is about one alone.
type Rights = BTreeMap<String, BTreeSet<String>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_accounts_have_the_rights_on_the_list() {
    golden::compare("rights", &shown(&render("{}").await));
    golden::compare("rights-namespaced", &shown(&render(NAMESPACED).await));
}

/// The API server's own answer, for the namespace of the control plane and for another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_grants_what_the_chart_says() {
    let (_, _unchanged) = control_plane().await;
    let listed = render("{}").await;
    for namespace in [SYSTEM, "kube-system"] {
        let everybody = granted("nobody-in-particular", namespace).await;
        for account in ACCOUNTS {
            let mut granted = granted(account, namespace).await;
            for (object, verbs) in &everybody {
                if let Some(mine) = granted.get_mut(object) {
                    mine.retain(|verb| !verbs.contains(verb));
                }
            }
            granted.retain(|_, verbs| !verbs.is_empty());
            let mut expected = Rights::new();
            let places = rights(&listed, account);
            for place in [EVERYWHERE, namespace] {
                for (object, verbs) in places.get(place).into_iter().flatten() {
                    expected
                        .entry(object.clone())
                        .or_default()
                        .extend(verbs.clone());
                }
            }
            assert_eq!(granted, expected, "{account} in {namespace}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_are_evicted_only_where_the_watchdog_is_on() {
    let may_evict = async |values: &str| {
        let places = rights(&render(values).await, "dapr-operator");
        places
            .values()
            .any(|rights| rights.contains_key("pods/eviction"))
    };
    for off in [
        "{}",
        "dapr_operator: {watchInterval: 0}",
        "dapr_operator: {watchInterval: 'Off'}",
    ] {
        assert!(!may_evict(off).await, "{off}");
    }
    for on in [
        "dapr_operator: {watchInterval: 1m}",
        "dapr_operator: {watchInterval: once}",
    ] {
        assert!(may_evict(on).await, "{on}");
    }
}

/// Where Secrets of apps are elsewhere, sentry alone reads the authority's key. The operator reads the Secrets of apps, by
/// default those of all namespaces.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentry_alone_reads_the_key_of_the_authority() {
    for values in [
        "dapr_rbac: {operatorSecrets: {namespaces: [default, shop]}}",
        "dapr_rbac: {operatorSecrets: {names: [redis]}}",
        "global: {rbac: {namespaced: true, watchNamespace: shop}}",
        include_str!("../../../charts/dapr/hardened.yaml"),
    ] {
        let objects = render(values).await;
        let readers: Vec<&str> = ACCOUNTS
            .into_iter()
            .filter(|account| reads_the_key(&rights(&objects, account)))
            .collect();
        assert_eq!(readers, ["dapr-sentry"], "{values}");
    }
    // a Role for the account that all pods of a namespace have unless they ask for another one
    let there = render("dapr_rbac: {secretReader: {namespace: dapr-system}}").await;
    assert!(!reads_the_key(&rights(&there, "default")));
}

fn reads_the_key(places: &BTreeMap<String, Rights>) -> bool {
    [EVERYWHERE, SYSTEM]
        .iter()
        .filter_map(|place| places.get(*place))
        .any(|rights| rights.contains_key("secrets") || rights.contains_key(KEY))
}

fn shown(objects: &[Value]) -> Value {
    let of = |account: &str| {
        let places = rights(objects, account).into_iter().map(|(place, rights)| {
            let line = |(object, verbs): (String, BTreeSet<String>)| {
                let verbs: Vec<String> = verbs.into_iter().collect();
                json!(format!("{object}: {}", verbs.join(" ")))
            };
            (place, Value::Array(rights.into_iter().map(line).collect()))
        });
        (account.to_owned(), Value::Object(places.collect()))
    };
    Value::Object(ACCOUNTS.map(of).into_iter().collect())
}

/// The rights of an account by namespace, from the roles that the chart binds to it.
fn rights(objects: &[Value], account: &str) -> BTreeMap<String, Rights> {
    let mut places: BTreeMap<String, Rights> = BTreeMap::new();
    for binding in objects.iter().filter(|object| !is_hook(object)) {
        let kind = binding["kind"].as_str().unwrap_or_default();
        let subjects = binding["subjects"].as_array().into_iter().flatten();
        if !kind.ends_with("Binding") || !subjects.into_iter().any(|one| one["name"] == account) {
            continue;
        }
        let (reference, namespace) = (&binding["roleRef"], &binding["metadata"]["namespace"]);
        let role = objects.iter().find(|object| {
            object["kind"] == reference["kind"]
                && object["metadata"]["name"] == reference["name"]
                && (reference["kind"] == "ClusterRole"
                    || object["metadata"]["namespace"] == *namespace)
        });
        let role = role.unwrap_or_else(|| panic!("nothing has the role of {binding}"));
        let place = namespace.as_str().unwrap_or(EVERYWHERE).to_owned();
        add(places.entry(place).or_default(), &role["rules"]);
    }
    places
}

/// What the API server says that an account of the control plane may do in a namespace.
async fn granted(account: &str, namespace: &str) -> Rights {
    let user = format!("system:serviceaccount:{SYSTEM}:{account}");
    let question = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": { "namespace": namespace },
    });
    // who may ask this need not be one who may read the schema
    let args = [
        "create",
        "--as",
        &user,
        "-o",
        "json",
        "--validate=false",
        "-f",
        "-",
    ];
    let answer = run("kubectl", &args, &question.to_string()).await;
    let answer = answer.unwrap_or_else(|said| panic!("{said}"));
    let answer: Value = serde_json::from_str(&answer).expect("JSON of kubectl");
    assert_ne!(answer["status"]["incomplete"], true, "{answer}");
    let mut rights = Rights::new();
    add(&mut rights, &answer["status"]["resourceRules"]);
    rights
}

fn add(rights: &mut Rights, rules: &Value) {
    let texts = |rule: &Value, field: &str| -> Vec<String> {
        let list = rule[field].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    for rule in rules.as_array().into_iter().flatten() {
        let names = texts(rule, "resourceNames");
        for group in texts(rule, "apiGroups") {
            for resource in texts(rule, "resources") {
                let object = match group.as_str() {
                    "" => resource,
                    group => format!("{resource}.{group}"),
                };
                let named = names.iter().map(|name| format!("{object}/{name}"));
                let objects: Vec<String> = match names.is_empty() {
                    true => vec![object],
                    false => named.collect(),
                };
                for object in objects {
                    rights
                        .entry(object)
                        .or_default()
                        .extend(texts(rule, "verbs"));
                }
            }
        }
    }
}
