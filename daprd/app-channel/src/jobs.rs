//! Jobs that have come due, as the app is called with them: `POST /job/<name>`, or `OnJobEvent` (contract 2.4, 2.5).

use ::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use prost::Message;
use prost_types::{Any, Value, value::Kind};
use proto::{
    common::v1::{HttpExtension, http_extension::Verb},
    runtime::v1::JobEventRequest,
};
use tonic::Code;

use crate::{AppChannel, Error};

/// What a segment of a path may hold as it is.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':');

/// The type of data that were scheduled over HTTP.
const VALUE: &str = "type.googleapis.com/google.protobuf.Value";

/// What the app said to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Triggered {
    /// It took it.
    Done,
    /// It does not know it, and will not know it the next time.
    Unknown,
    /// It did not take it; an HTTP status, or a gRPC code.
    Refused(String),
}

impl AppChannel {
    /// Calls the app with a job.
    ///
    /// # Errors
    /// As [`AppChannel::exchange`]; a gRPC app that cannot be reached has refused.
    pub async fn trigger_job(&self, name: &str, data: Option<Any>) -> Result<Triggered, Error> {
        if self.protocol().is_grpc() {
            self.trigger_grpc(name, data).await
        } else {
            self.trigger_http(name, data).await
        }
    }

    async fn trigger_http(&self, name: &str, data: Option<Any>) -> Result<Triggered, Error> {
        let data = body(data)?;
        let json = HeaderValue::from_static("application/json");
        let mut headers = HeaderMap::from_iter([(header::CONTENT_TYPE, json)]);
        if data.is_empty() {
            // Some frameworks refuse a POST that says nothing of its length, and the client says nothing of none.
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let name = name.strip_prefix('/').unwrap_or(name);
        let path = format!("/job/{}", utf8_percent_encode(name, ESCAPED));
        let answer = self.exchange(Method::POST, &path, headers, data).await?;
        Ok(match answer.status() {
            status if status.is_success() => Triggered::Done,
            StatusCode::NOT_FOUND => Triggered::Unknown,
            status => Triggered::Refused(status.to_string()),
        })
    }

    async fn trigger_grpc(&self, name: &str, data: Option<Any>) -> Result<Triggered, Error> {
        self.check()?;
        let content_type = data.as_ref().map(|data| data.type_url.clone());
        let answer = self.on_job_event(JobEventRequest {
            name: name.to_owned(),
            data,
            method: format!("job/{name}"),
            content_type: content_type.unwrap_or_default(),
            http_extension: Some(HttpExtension {
                verb: Verb::Post.into(),
                ..HttpExtension::default()
            }),
        });
        Ok(match answer.await {
            Ok(()) => Triggered::Done,
            Err(status) if status.code() == Code::NotFound => Triggered::Unknown,
            Err(status) => Triggered::Refused(format!(
                "{}: {}",
                component::error::code_name(status.code() as i32),
                transport::describe(&status)
            )),
        })
    }
}

/// The body for an HTTP app: the JSON of a value that was scheduled over HTTP, other data as they are.
fn body(data: Option<Any>) -> Result<Bytes, Error> {
    let Some(data) = data else {
        return Ok(Bytes::new());
    };
    if data.type_url != VALUE {
        return Ok(Bytes::copy_from_slice(trimmed(&data.value)));
    }
    let malformed = |problem: String| Error::Malformed {
        what: "data of the job",
        problem,
    };
    let value = Value::decode(&*data.value).map_err(|error| malformed(error.to_string()))?;
    let mut json = String::new();
    match &value.kind {
        None => {}
        Some(kind) => write(kind, &mut json),
    }
    Ok(json.into())
}

/// Without the white space around, a vertical tab among it.
// Compat: Q-job-trimmed
fn trimmed(mut data: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
    while let [rest @ .., last] = data
        && is_space(last)
    {
        data = rest;
    }
    while let [first, rest @ ..] = data
        && is_space(first)
    {
        data = rest;
    }
    data
}

/// The JSON of a value. How deep it is was limited where it was decoded.
fn write(kind: &Kind, json: &mut String) {
    match kind {
        Kind::NullValue(_) => json.push_str("null"),
        Kind::BoolValue(value) => json.push_str(if *value { "true" } else { "false" }),
        Kind::NumberValue(number) => json.push_str(&proto::json::number(*number)),
        Kind::StringValue(text) => json.push_str(&values::json::quote(text)),
        Kind::StructValue(fields) => {
            json.push('{');
            for (at, (name, value)) in fields.fields.iter().enumerate() {
                if at > 0 {
                    json.push(',');
                }
                json.push_str(&values::json::quote(name));
                json.push(':');
                write_value(value, json);
            }
            json.push('}');
        }
        Kind::ListValue(list) => {
            json.push('[');
            for (at, value) in list.values.iter().enumerate() {
                if at > 0 {
                    json.push(',');
                }
                write_value(value, json);
            }
            json.push(']');
        }
    }
}

fn write_value(value: &Value, json: &mut String) {
    match &value.kind {
        Some(kind) => write(kind, json),
        None => json.push_str("null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(kind: Option<Kind>) -> Option<Any> {
        Some(Any {
            type_url: VALUE.to_owned(),
            value: Value { kind }.encode_to_vec(),
        })
    }

    #[test]
    fn a_value_is_its_json_and_other_data_are_bytes() {
        let text = Kind::StringValue("a \"b\"".to_owned());
        assert_eq!(body(value(Some(text))).unwrap(), r#""a \"b\"""#);
        assert_eq!(body(value(Some(Kind::BoolValue(true)))).unwrap(), "true");
        assert_eq!(body(value(None)).unwrap(), "");
        assert_eq!(body(None).unwrap(), "");
        let numbers = [123.0, -0.5, 1e21, 0.0, 1e-7].map(Kind::NumberValue);
        let values = numbers.map(|kind| Value { kind: Some(kind) }).to_vec();
        let list = Kind::ListValue(prost_types::ListValue { values });
        let list = body(value(Some(list))).unwrap();
        assert_eq!(list, "[123,-0.5,1e21,0,1e-7]");
        let bytes = Any {
            type_url: "x".to_owned(),
            value: b"\n\x0b{\"a\":1}\n".to_vec(),
        };
        assert_eq!(body(Some(bytes)).unwrap(), r#"{"a":1}"#);
    }

    #[test]
    fn a_value_that_is_none_is_an_error() {
        let broken = Any {
            type_url: VALUE.to_owned(),
            value: vec![0xff; 3],
        };
        assert!(matches!(body(Some(broken)), Err(Error::Malformed { .. })));
    }
}
