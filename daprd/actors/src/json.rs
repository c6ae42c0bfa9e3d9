//! The JSON that timers and reminders are registered with, held as bytes in an `Any` (contract 11.4).

use bytes::Bytes;
use prost::Message;
use prost_types::Any;
use serde_json::value::RawValue;

use crate::Error;

/// The type of what holds JSON.
pub const TYPE_URL: &str = "type.googleapis.com/google.protobuf.BytesValue";

const NAME: &str = "google.protobuf.BytesValue";

/// JSON as it is kept.
pub fn packed(json: Bytes) -> Any {
    Any {
        type_url: TYPE_URL.to_owned(),
        value: json.encode_to_vec(),
    }
}

/// What was registered, as JSON: bytes hold it as it came.
pub(crate) fn unpacked(data: Option<&Any>) -> Result<Option<String>, Error> {
    let Some(data) = data else {
        return Ok(None);
    };
    let wrong = |problem: String| Error::Timer(format!("data of a reminder: {problem}"));
    let name = data.type_url.rsplit('/').next().unwrap_or_default();
    if name != NAME {
        let value = proto::json::encoded_to_value(name, &data.value);
        let value = value.map_err(|error| wrong(error.to_string()))?;
        return Ok(Some(value.to_string()));
    }
    let bytes = Vec::<u8>::decode(data.value.as_slice()).map_err(|it| wrong(it.to_string()))?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let raw: &RawValue =
        serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    Ok(Some(values::json::canonical(raw)))
}
