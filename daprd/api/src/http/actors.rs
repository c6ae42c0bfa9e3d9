//! Actors over HTTP: JSON that is older than the proto. Invocation passes the body as it is, read whole.

use std::collections::BTreeMap;

use ::actors::{
    ActorId, Response as Answer, Timer,
    json::{TYPE_URL, packed},
    reminders::Registration,
    state::Step,
};
use bytes::Bytes;
use component::{Body, body};
use http::{HeaderValue, Response, StatusCode, header};
use prost::Message;
use prost_types::Any;
use proto::{
    common::v1::JobFailurePolicy,
    runtime::v1::{
        GetActorReminderRequest, GetActorStateRequest, UnregisterActorReminderRequest,
        UnregisterActorTimerRequest,
    },
};
use serde::Deserialize;
use serde_json::value::RawValue;
use values::json;

use super::{Call, Matched, add_metadata, by_path, json_reply, no_content};
use crate::{Api, ApiError, operations::actors::not_saved, reason::general};

/// Any of four methods on `/v1.0/actors/{type}/{id}/method/{method}`
pub async fn invoke(api: &Api, mut call: Call) -> Result<Response<Body>, ApiError> {
    api.check_actors()?;
    let data = call.bytes().await?;
    let pairs = call.query.iter().map(|(key, value)| {
        let escaped = |text: &str| {
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
                .to_string()
        };
        format!("{}={}", escaped(key), escaped(value))
    });
    let query = pairs.collect::<Vec<_>>().join("&");
    let headers = call.context.headers.clone();
    let invoked = api.invoke_actor_http(actor(&call), call.param("method"), query, headers, data);
    Ok(answered(invoked.await?.answer))
}

/// The app's answer, or its error.
fn answered(answer: Answer) -> Response<Body> {
    let mut response = Response::new(body::full(answer.data));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let headers = response.headers_mut();
    *headers = answer.headers;
    transport::remove_hop_by_hop(headers);
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::CONTENT_TYPE);
    if let Ok(content_type) = HeaderValue::from_str(&answer.content_type)
        && !answer.content_type.is_empty()
    {
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    response
}

/// GET `/v1.0/actors/{type}/{id}/state/{key}`
pub async fn get_state(api: &Api, call: Call) -> Result<Response<Body>, ApiError> {
    let ActorId { kind, id } = actor(&call);
    let request = GetActorStateRequest {
        actor_type: kind,
        actor_id: id,
        key: call.param("key").to_owned(),
    };
    let reply = api.actor_state(&call.context, request).await?;
    if reply.data.is_empty() {
        return Ok(no_content());
    }
    let mut response = json_reply(reply.data);
    add_metadata(&mut response, &reply.metadata);
    Ok(response)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireStep<'a> {
    operation: String,
    #[serde(borrow)]
    request: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireItem<'a> {
    key: String,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    etag: Option<String>,
    metadata: Option<BTreeMap<String, String>>,
}

/// POST or PUT `/v1.0/actors/{type}/{id}/state`
pub async fn transact(api: &Api, mut call: Call) -> Result<Response<Body>, ApiError> {
    let ActorId { kind, id } = actor(&call);
    api.check_actor_type(&kind)?;
    let text = call.text().await?;
    let steps: Option<Vec<WireStep<'_>>> = json::read_first(&text).map_err(malformed)?;
    let steps = steps.unwrap_or_default().into_iter().map(step);
    let steps = steps
        .collect::<Result<Vec<_>, _>>()
        .map_err(|problem| not_saved(&problem));
    // What is wrong with a step is told only to whom the actor belongs.
    match steps {
        Ok(steps) => api.transact_actor(kind, id, steps).await?,
        Err(problem) => {
            api.check_actor_here(kind, id).await?;
            return Err(problem);
        }
    }
    Ok(no_content())
}

fn step(wire: WireStep<'_>) -> Result<Step, String> {
    let request = wire.request.filter(|request| request.get() != "null");
    let request = request.ok_or("request data is empty")?;
    if wire.operation.is_empty() {
        return Err("operation is empty".to_owned());
    }
    let item: WireItem<'_> = json::read(request.get()).map_err(|error| error.to_string())?;
    let WireItem {
        key,
        value,
        etag,
        metadata,
    } = item;
    match wire.operation.as_str() {
        "upsert" => Ok(Step::Upsert {
            key,
            value: json::canonical(value.unwrap_or(RawValue::NULL)).into(),
            etag,
            metadata: metadata.unwrap_or_default(),
        }),
        "delete" => Ok(Step::Delete { key, etag }),
        other => Err(format!("operation type {other} not supported")),
    }
}

/// A reminder or a timer.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WireCallback<'a> {
    due_time: Option<String>,
    period: Option<String>,
    ttl: Option<String>,
    callback: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    overwrite: Option<bool>,
    #[serde(borrow)]
    failure_policy: Option<&'a RawValue>,
    #[serde(borrow, rename = "failure_policy")]
    failure_policy_snake: Option<&'a RawValue>,
}

/// POST or PUT `/v1.0/actors/{type}/{id}/reminders/{name}`
pub async fn register_reminder(api: &Api, mut call: Call) -> Result<Response<Body>, ApiError> {
    let actor = actor(&call);
    api.check_actor_type(&actor.kind)?;
    let text = call.text().await?;
    let wire: WireCallback<'_> = json::read_first(&text).map_err(malformed)?;
    let policy = wire.failure_policy.or(wire.failure_policy_snake);
    let policy = policy.filter(|policy| policy.get() != "null");
    let failure_policy = policy
        .map(|policy| proto::json::from_json::<JobFailurePolicy>(policy.get().as_bytes()))
        .transpose()
        .map_err(|error| malformed(component::error::chain(&error)))?;
    api.register_reminder(Registration {
        actor,
        name: call.param("name").to_owned(),
        due_time: wire.due_time.unwrap_or_default(),
        period: wire.period.unwrap_or_default(),
        ttl: wire.ttl.unwrap_or_default(),
        data: data(wire.data, &text).map(packed),
        overwrite: wire.overwrite,
        failure_policy,
        concurrency_key: None,
    })
    .await?;
    Ok(no_content())
}

/// GET `/v1.0/actors/{type}/{id}/reminders/{name}`
pub async fn get_reminder(api: &Api, call: Call) -> Result<Response<Body>, ApiError> {
    let ActorId { kind, id } = actor(&call);
    let request = GetActorReminderRequest {
        actor_type: kind,
        actor_id: id,
        name: call.param("name").to_owned(),
    };
    let found = api.actor_reminder(&call.context, request).await?;
    let member = |name: &str, value: &str| format!("\"{name}\":{}", json::quote(value));
    let mut members = Vec::new();
    for (name, value) in [
        ("actorID", &found.actor_id),
        ("actorType", &found.actor_type),
    ] {
        if !value.is_empty() {
            members.push(member(name, value));
        }
    }
    if let Some(data) = found.data {
        let data = unpacked(&data)?;
        if !data.is_empty() {
            members.push(format!("\"data\":{data}"));
        }
    }
    for (name, value) in [
        ("dueTime", found.due_time),
        ("period", found.period),
        ("ttl", found.ttl),
    ] {
        members.extend(value.map(|value| member(name, &value)));
    }
    Ok(json_reply(format!("{{{}}}", members.join(","))))
}

/// DELETE `/v1.0/actors/{type}/{id}/reminders/{name}`
pub async fn unregister_reminder(api: &Api, call: Call) -> Result<Response<Body>, ApiError> {
    let place = |call: &Call, request: &mut UnregisterActorReminderRequest| {
        request.actor_type = call.param("type").to_owned();
        request.actor_id = call.param("id").to_owned();
        request.name = call.param("name").to_owned();
    };
    by_path(call, place, |context, request| async move {
        api.unregister_actor_reminder(&context, request).await
    })
    .await
}

/// POST or PUT `/v1.0/actors/{type}/{id}/timers/{name}`
pub async fn register_timer(api: &Api, mut call: Call) -> Result<Response<Body>, ApiError> {
    let actor = actor(&call);
    api.check_actor_type(&actor.kind)?;
    let text = call.text().await?;
    let wire: WireCallback<'_> = json::read_first(&text).map_err(malformed)?;
    api.register_timer(Timer {
        actor,
        name: call.param("name").to_owned(),
        due_time: wire.due_time.unwrap_or_default(),
        period: wire.period.unwrap_or_default(),
        ttl: wire.ttl.unwrap_or_default(),
        callback: wire.callback.unwrap_or_default(),
        data: data(wire.data, &text).unwrap_or_default(),
    })?;
    Ok(no_content())
}

/// DELETE `/v1.0/actors/{type}/{id}/timers/{name}`
pub async fn unregister_timer(api: &Api, call: Call) -> Result<Response<Body>, ApiError> {
    let place = |call: &Call, request: &mut UnregisterActorTimerRequest| {
        request.actor_type = call.param("type").to_owned();
        request.actor_id = call.param("id").to_owned();
        request.name = call.param("name").to_owned();
    };
    by_path(call, place, |context, request| async move {
        api.unregister_actor_timer(&context, request).await
    })
    .await
}

/// Names of spans of calls, reminders and timers: without ids, of which there are too many.
pub fn span(matched: &Matched<'_>) -> Option<String> {
    let param = |name: &str| {
        let mut params = matched.params.iter();
        params.find_map(|(known, value)| (*known == name).then_some(*value))
    };
    match matched.operation.name {
        "InvokeActor" => Some(format!("CallActor/{}/{}", param("type")?, param("method")?)),
        name @ ("RegisterActorReminder"
        | "GetActorReminder"
        | "UnregisterActorReminder"
        | "RegisterActorTimer"
        | "UnregisterActorTimer") => Some(format!("{name}/{}", param("type")?)),
        _ => None,
    }
}

fn actor(call: &Call) -> ActorId {
    ActorId {
        kind: call.param("type").to_owned(),
        id: call.param("id").to_owned(),
    }
}

/// What is to be kept; null is a value as others are.
fn data(value: Option<&RawValue>, text: &str) -> Option<Bytes> {
    if value.is_some() {
        return value.map(raw);
    }
    let members: BTreeMap<String, &RawValue> = json::read_first(text).unwrap_or_default();
    let mut names = members.into_iter();
    let (_, null) = names.find(|(name, _)| name.eq_ignore_ascii_case("data"))?;
    Some(raw(null))
}

fn raw(value: &RawValue) -> Bytes {
    Bytes::copy_from_slice(value.get().as_bytes())
}

fn malformed(problem: impl std::fmt::Display) -> ApiError {
    let text = format!("failed deserializing HTTP body: {problem}");
    ApiError::new(&general::MALFORMED_REQUEST, text)
}

/// The JSON of data: what was registered over HTTP or gRPC is JSON already, other messages have theirs.
fn unpacked(data: &Any) -> Result<String, ApiError> {
    let failed = |problem: String| {
        let text = format!("failed to serialize the response: {problem}");
        ApiError::new(&general::INTERNAL, text)
    };
    if data.type_url == TYPE_URL {
        let json = Bytes::decode(&*data.value).map_err(|error| failed(error.to_string()))?;
        let json = String::from_utf8_lossy(&json).into_owned();
        let is_json = json.is_empty() || serde_json::from_str::<&RawValue>(&json).is_ok();
        return match is_json {
            true => Ok(json),
            false => Err(failed("the data are no JSON".to_owned())),
        };
    }
    let name = data.type_url.rsplit('/').next().unwrap_or_default();
    let value = proto::json::encoded_to_value(name, &data.value);
    value
        .map(|value| value.to_string())
        .map_err(|error| failed(component::error::chain(&error)))
}

#[cfg(test)]
mod tests {
    use super::{super::Routes, *};
    use crate::operations;

    #[test]
    fn steps_are_decoded_and_named_where_they_are_wrong() {
        let of = |text: &str| step(json::read(text).expect("a step"));
        let upsert = of(
            r#"{"operation": "upsert", "request": {"key": "k", "value": {"b": 1, "a": "x"}, "metadata": {"ttlInSeconds": "1"}}}"#,
        );
        let Ok(Step::Upsert { key, value, .. }) = upsert else {
            panic!("no upsert");
        };
        assert_eq!((&*key, &value[..]), ("k", &br#"{"a":"x","b":1}"#[..]));
        assert!(matches!(
            of(r#"{"operation": "delete", "request": {"key": "k"}}"#),
            Ok(Step::Delete { .. })
        ));
        assert_eq!(of("{}").unwrap_err(), "request data is empty");
        assert_eq!(of(r#"{"request": {}}"#).unwrap_err(), "operation is empty");
        let other = of(r#"{"operation": "merge", "request": {}}"#);
        assert_eq!(other.unwrap_err(), "operation type merge not supported");
    }

    #[test]
    fn data_come_back_as_they_went() {
        let json = Bytes::from_static(br#"{"a": 1}"#);
        assert_eq!(unpacked(&packed(json)).unwrap(), r#"{"a": 1}"#);
        let other = Any {
            type_url: "type.googleapis.com/google.protobuf.StringValue".to_owned(),
            value: "text".to_owned().encode_to_vec(),
        };
        assert_eq!(unpacked(&other).unwrap(), "\"text\"");
        assert!(unpacked(&packed("no JSON".into())).is_err());
    }

    #[test]
    fn spans_are_named_without_ids() {
        let routes = Routes::new(operations::all(), &|_, _| true);
        let of = |method: &str, path: &str| {
            let path = format!("/v1.0/actors/kind/1/{path}");
            span(&routes.find(method, &path).expect("a route"))
        };
        for (method, path, name) in [
            ("PUT", "method/m", "CallActor/kind/m"),
            ("POST", "reminders/r", "RegisterActorReminder/kind"),
            ("DELETE", "timers/t", "UnregisterActorTimer/kind"),
        ] {
            assert_eq!(of(method, path).as_deref(), Some(name));
        }
        assert_eq!(of("GET", "state/k"), None);
    }

    #[test]
    fn an_answer_is_passed_on_without_what_is_its_connections() {
        let mut answer = Answer {
            status: 201,
            content_type: "text/plain".to_owned(),
            ..Answer::default()
        };
        let five = HeaderValue::from_static("5");
        answer.headers.insert(header::CONTENT_LENGTH, five.clone());
        answer.headers.insert("x-own", five);
        let response = answered(answer);
        assert_eq!(response.status(), 201);
        assert_eq!(response.headers().len(), 2);
        assert_eq!(response.headers()["content-type"], "text/plain");
    }
}
