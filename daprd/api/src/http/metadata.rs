//! Metadata over HTTP: JSON that is older than the proto (contract 2.6).

use component::Body;
use http::Response;
use proto::runtime::v1::{
    AppConnectionProperties, GetMetadataRequest, GetMetadataResponse, PubsubSubscription,
    RegisteredComponents, SetMetadataRequest, actor_runtime,
};
use serde_json::{Map, Value, json};

use super::{Call, json_reply as respond, no_content};
use crate::{Api, ApiError};

/// GET `/v1.0/metadata`
pub async fn get(api: &Api, call: Call) -> Result<Response<Body>, ApiError> {
    let reply = api
        .metadata(&call.context, GetMetadataRequest::default())
        .await?;
    Ok(respond(body(reply).to_string()))
}

/// PUT `/v1.0/metadata/{key}`
pub async fn put(api: &Api, mut call: Call) -> Result<Response<Body>, ApiError> {
    let value = call.bytes().await?;
    let request = SetMetadataRequest {
        key: call.param("key").to_owned(),
        value: String::from_utf8_lossy(&value).into_owned(),
    };
    api.set_metadata(&call.context, request).await?;
    Ok(no_content())
}

/// Empty lists are left out, as upstream leaves them out.
fn body(reply: GetMetadataResponse) -> Value {
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| {
        let empty = match &value {
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::String(text) => text.is_empty(),
            Value::Null => true,
            _ => false,
        };
        if !empty {
            object.insert(key.to_owned(), value);
        }
    };
    let names = |list: Vec<String>| -> Value {
        list.into_iter()
            .map(|name| json!({ "name": name }))
            .collect()
    };
    put("id", json!(reply.id));
    put("runtimeVersion", json!(reply.runtime_version));
    put("enabledFeatures", json!(reply.enabled_features));
    put(
        "components",
        reply
            .registered_components
            .into_iter()
            .map(component)
            .collect(),
    );
    put("extended", json!(reply.extended_metadata));
    put(
        "subscriptions",
        reply.subscriptions.into_iter().map(subscription).collect(),
    );
    put(
        "httpEndpoints",
        names(
            reply
                .http_endpoints
                .into_iter()
                .map(|one| one.name)
                .collect(),
        ),
    );
    put(
        "appConnectionProperties",
        reply
            .app_connection_properties
            .map_or(Value::Null, app_connection),
    );
    if let Some(runtime) = reply.actor_runtime {
        let status = match runtime.runtime_status() {
            actor_runtime::ActorRuntimeStatus::Initializing => "INITIALIZING",
            actor_runtime::ActorRuntimeStatus::Disabled => "DISABLED",
            actor_runtime::ActorRuntimeStatus::Running => "RUNNING",
        };
        let active = runtime.active_actors.into_iter();
        let active: Value = active
            .map(|one| match one.count {
                0 => json!({ "type": one.r#type }),
                count => json!({ "type": one.r#type, "count": count }),
            })
            .collect();
        put("actors", active.clone());
        let mut shown = json!({
            "runtimeStatus": status,
            "hostReady": runtime.host_ready,
        });
        if !runtime.placement.is_empty() {
            shown["placement"] = runtime.placement.into();
        }
        if active.as_array().is_some_and(|active| !active.is_empty()) {
            shown["activeActors"] = active;
        }
        put("actorRuntime", shown);
    }
    put(
        "resiliencies",
        names(reply.resiliencies.into_iter().map(|one| one.name).collect()),
    );
    let servers = reply.mcp_servers.into_iter().map(|one| one.name);
    put("mcpServers", names(servers.collect()));
    let policies = reply.workflow_access_policies.into_iter();
    put(
        "workflowAccessPolicies",
        names(policies.map(|one| one.name).collect()),
    );
    if let Some(workflows) = reply.workflows.filter(|it| it.connected_workers > 0) {
        let workers = workflows.connected_workers;
        put("workflows", json!({ "connectedWorkers": workers }));
    }
    if let Some(scheduler) = reply.scheduler {
        let addresses = scheduler.connected_addresses;
        put("scheduler", json!({ "connected_addresses": addresses }));
    }
    Value::Object(object)
}

fn component(component: RegisteredComponents) -> Value {
    let mut object = json!({
        "name": component.name,
        "type": component.r#type,
        "version": component.version,
    });
    if !component.capabilities.is_empty() {
        object["capabilities"] = json!(component.capabilities);
    }
    object
}

fn subscription(subscription: PubsubSubscription) -> Value {
    let kind = subscription.r#type().as_str_name();
    let rules: Vec<Value> = subscription
        .rules
        .unwrap_or_default()
        .rules
        .into_iter()
        .map(|rule| match rule.r#match.as_str() {
            "" => json!({ "path": rule.path }),
            expression => json!({ "match": expression, "path": rule.path }),
        })
        .collect();
    let mut object = json!({
        "pubsubname": subscription.pubsub_name,
        "topic": subscription.topic,
        "rules": rules,
        "type": kind,
    });
    if !subscription.dead_letter_topic.is_empty() {
        object["deadLetterTopic"] = json!(subscription.dead_letter_topic);
    }
    if !subscription.metadata.is_empty() {
        object["metadata"] = json!(subscription.metadata);
    }
    object
}

fn app_connection(app: AppConnectionProperties) -> Value {
    let mut object = Map::new();
    if app.port != 0 {
        object.insert("port".to_owned(), json!(app.port));
    }
    for (key, value) in [
        ("protocol", app.protocol),
        ("channelAddress", app.channel_address),
    ] {
        if !value.is_empty() {
            object.insert(key.to_owned(), json!(value));
        }
    }
    if app.max_concurrency != 0 {
        object.insert("maxConcurrency".to_owned(), json!(app.max_concurrency));
    }
    if let Some(health) = app.health {
        let mut checks = json!({
            "healthProbeInterval": health.health_probe_interval,
            "healthProbeTimeout": health.health_probe_timeout,
            "healthThreshold": health.health_threshold,
        });
        if !health.health_check_path.is_empty() {
            checks["healthCheckPath"] = json!(health.health_check_path);
        }
        object.insert("health".to_owned(), checks);
    }
    Value::Object(object)
}
