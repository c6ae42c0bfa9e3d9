//! The resolver against an agent of ours, which answers as Consul's documentation says.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use component::{
    Body, Catalog, ErrorKind, Instance, Lent, NameResolver, Open, Result, body,
    names::Target,
    outgoing::{HttpClient, HttpClients, Tls},
};
use component_conformance::{fields, open};
use http::{Method, Request, Response, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    component_consul::register(&mut catalog).expect("no name is taken twice");
    catalog
}

/// What an agent knows, and what it was asked.
#[derive(Clone, Default)]
struct Agent(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    services: BTreeMap<String, Value>,
    asked: Vec<http::request::Parts>,
    away: bool,
}

impl State {
    fn answer(&mut self, request: &http::request::Parts, data: &[u8]) -> (StatusCode, Value) {
        let path = request.uri.path();
        let deregistered = path.strip_prefix("/v1/agent/service/deregister/");
        let service = path.strip_prefix("/v1/health/service/");
        match (&request.method, path, deregistered, service) {
            _ if self.away => (StatusCode::INTERNAL_SERVER_ERROR, json!("no leader")),
            (&Method::GET, "/v1/agent/self", ..) => (StatusCode::OK, json!({})),
            (&Method::PUT, "/v1/agent/service/register", ..) => {
                let service: Value = serde_json::from_slice(data).expect("JSON");
                let id = service["ID"].as_str().expect("an id").to_owned();
                self.services.insert(id, service);
                (StatusCode::OK, Value::Null)
            }
            (&Method::PUT, _, Some(id), _) => match self.services.remove(id) {
                Some(_) => (StatusCode::OK, Value::Null),
                None => (StatusCode::NOT_FOUND, Value::Null),
            },
            (&Method::GET, _, _, Some(name)) => {
                let of_name = self.services.values().filter(|it| it["Name"] == name);
                let found = of_name.map(|service| {
                    json!({"Node": {"Address": "10.0.0.1"}, "Service": service, "Checks": []})
                });
                (StatusCode::OK, found.collect())
            }
            _ => (StatusCode::NOT_FOUND, Value::Null),
        }
    }
}

#[async_trait]
impl HttpClient for Agent {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>> {
        let (parts, body) = request.into_parts();
        let data = body::read(body, 1 << 20).await.expect("a body");
        let mut state = self.0.lock();
        let (status, answer) = state.answer(&parts, &data);
        state.asked.push(parts);
        let mut response = Response::new(body::full(answer.to_string()));
        *response.status_mut() = status;
        Ok(response)
    }
}

impl HttpClients for Agent {
    fn client(&self, _: &Tls) -> Result<Arc<dyn HttpClient>> {
        Ok(Arc::new(self.clone()))
    }
}

impl Agent {
    async fn sidecar(
        &self,
        app_id: &str,
        fields: &[(&str, &str)],
    ) -> Result<Arc<dyn NameResolver>> {
        let open = Open {
            instance: Arc::new(Instance {
                app_id: app_id.to_owned(),
                host_address: "10.0.0.7".to_owned(),
                internal_port: 50002,
                http_port: 3500,
                app_port: 8080,
                ..Instance::default()
            }),
            lent: Lent {
                http: Arc::new(self.clone()),
                ..Lent::default()
            },
            ..open("consul", fields)
        };
        catalog().names.open("hashicorp.consul", "v1", open).await
    }
}

fn target(app_id: &str) -> Target {
    Target {
        app_id: app_id.to_owned(),
        namespace: String::new(),
        port: 1,
    }
}

#[test]
fn fields_are_declared_as_the_reference_lists_them() {
    fields::suite(&catalog());
}

#[tokio::test]
async fn an_app_announces_itself_and_is_found_until_it_withdraws() {
    let agent = Agent::default();
    let fields = [
        ("selfRegister", "true"),
        ("selfDeregister", "true"),
        ("tags", r#"["dapr"]"#),
        ("meta", r#"{"zone": "b"}"#),
        ("client", r#"{"token": "t", "datacenter": "dc1"}"#),
    ];
    let one = agent.sidecar("one", &fields).await.unwrap();
    let service = agent.0.lock().services["one-10.0.0.7-3500"].clone();
    assert_eq!(service["Port"], 8080);
    assert_eq!(service["Meta"], json!({"DAPR_PORT": "50002", "zone": "b"}));
    assert_eq!(
        service["Checks"][0]["HTTP"],
        "http://10.0.0.7:3500/v1.0/healthz?appid=one"
    );
    assert_eq!(one.resolve(&target("one")).await.unwrap(), "10.0.0.7:50002");
    let asked = agent.0.lock().asked.pop().unwrap();
    assert_eq!(asked.uri.query().unwrap(), "passing=1&dc=dc1&cached");
    assert_eq!(asked.headers["x-consul-token"], "t");
    one.close().await;
    assert!(agent.0.lock().services.is_empty());
}

#[tokio::test(start_paused = true)]
async fn services_of_others_are_found_by_the_key_in_their_metadata() {
    let agent = Agent::default();
    let other = |meta: Value| json!({"ID": "x", "Name": "other", "Address": "", "Meta": meta});
    let said = |meta| agent.0.lock().services.insert("x".into(), other(meta));
    let key = [
        ("daprPortMetaKey", "port"),
        ("queryOptions", r#"{"near": "_agent"}"#),
    ];
    let one = agent.sidecar("one", &key).await.unwrap();
    let none = one.resolve(&target("other")).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NotFound);
    said(json!({"DAPR_PORT": "1"}));
    // That there was none counts for a second.
    let second = std::time::Duration::from_secs(1);
    tokio::time::advance(second).await;
    let none = one.resolve(&target("other")).await.unwrap_err();
    assert!(
        none.to_string().contains("no port in its metadata"),
        "{none}"
    );
    said(json!({"port": "7"}));
    tokio::time::advance(second).await;
    let found = one.resolve(&target("other")).await.unwrap();
    assert_eq!(found, "10.0.0.1:7", "the address of the machine");
    let asked = agent.0.lock().asked.pop().unwrap();
    assert_eq!(asked.uri.query().unwrap(), "passing=1&near=_agent");
}

#[tokio::test]
async fn a_service_is_announced_as_it_is_given() {
    let agent = Agent::default();
    let text = r#"{"ID": "mine", "Name": "one", "Address": "fd00::1", "meta": {"a": "b"}}"#;
    let fields = [("advancedRegistration", text), ("selfDeregister", "true")];
    let one = agent.sidecar("one", &fields).await.unwrap();
    let service = agent.0.lock().services["mine"].clone();
    assert_eq!(service["meta"], json!({"a": "b", "DAPR_PORT": "50002"}));
    one.close().await;
    assert!(agent.0.lock().services.is_empty());
}

#[tokio::test]
async fn an_agent_that_refuses_keeps_the_resolver_from_opening() {
    let agent = Agent::default();
    agent.0.lock().away = true;
    let error = agent.sidecar("one", &[]).await.err().unwrap();
    assert!(error.to_string().contains("no leader"), "{error}");
    let error = agent
        .sidecar("one", &[("client", "{")])
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("client"), "{error}");
}
