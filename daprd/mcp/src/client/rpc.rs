//! JSON-RPC 2.0, as MCP uses it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Json;
use crate::Error;

#[derive(Serialize)]
struct Outgoing<'a, P> {
    jsonrpc: &'static str,
    id: u64,
    method: &'a str,
    params: &'a P,
}

/// A request.
///
/// # Errors
/// Where the parameters are no JSON.
pub fn request(id: u64, method: &str, params: &impl Serialize) -> serde_json::Result<Bytes> {
    let message = Outgoing {
        jsonrpc: "2.0",
        id,
        method,
        params,
    };
    serde_json::to_vec(&message).map(Bytes::from)
}

/// A notification.
pub fn notification(method: &str) -> Bytes {
    Bytes::from(format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#))
}

/// What a server sends.
#[derive(Debug)]
pub enum Message {
    Answer(u64, Result<Json, Error>),
    /// The server asks something; what it is answered.
    Question(Bytes),
    /// What nobody has to do anything about.
    Other,
}

#[derive(Deserialize)]
struct Incoming {
    #[serde(default)]
    id: Option<Json>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    result: Option<Json>,
    #[serde(default)]
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct Failure {
    code: i64,
    #[serde(default)]
    message: String,
}

/// Reads one message, or several in a list.
///
/// # Errors
/// Where it is no JSON-RPC.
pub fn read(bytes: &[u8]) -> Result<Vec<Message>, Error> {
    let no_message = |error| Error::unusable(format!("a message that is no JSON-RPC: {error}"));
    let list = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let incoming: Vec<Incoming> = match list {
        true => serde_json::from_slice(bytes).map_err(no_message)?,
        false => vec![serde_json::from_slice(bytes).map_err(no_message)?],
    };
    Ok(incoming.into_iter().map(message).collect())
}

fn message(incoming: Incoming) -> Message {
    let Some(id) = incoming.id else {
        return Message::Other;
    };
    if let Some(method) = incoming.method {
        return Message::Question(answer(&id, &method));
    }
    // Others may write the number as a text.
    let Ok(number) = id.get().trim_matches('"').parse() else {
        return Message::Other;
    };
    let outcome = match (incoming.error, incoming.result) {
        (Some(Failure { code, message }), _) => Err(Error::Refused { code, message }),
        (None, Some(result)) => Ok(result),
        (None, None) => Err(Error::unusable("an answer without a result")),
    };
    Message::Answer(number, outcome)
}

/// The sidecar is there, and offers a server nothing.
fn answer(id: &RawValue, method: &str) -> Bytes {
    let id = id.get();
    let text = match method {
        "ping" => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#),
        _ => format!(
            r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"method not found"}}}}"#
        ),
    };
    Bytes::from(text)
}
