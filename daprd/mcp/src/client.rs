//! A client of the Model Context Protocol, as far as tools need it: a session is opened, tools are listed and called. Results are
//! handed on as the server wrote them. Q-mcp-result

mod duplex;
mod events;
mod http;
mod rpc;
mod sse;
mod stdio;
#[cfg(test)]
mod tests;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use blocks::Tasks;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};

use crate::{Error, endpoint::Endpoint, error::within};

/// What a server answers, as it wrote it.
pub type Json = Box<RawValue>;

/// Carries messages; a request gets its answer.
#[async_trait]
trait Transport: Send + Sync {
    /// # Errors
    /// As the server answers, [`Error::Closed`] where it cannot have looked at the request, [`Error::BrokenOff`] where it may have.
    async fn request(&self, id: u64, message: Bytes) -> Result<Json, Error>;

    /// # Errors
    /// As of a request.
    async fn notify(&self, message: Bytes) -> Result<(), Error>;

    /// The version of the protocol is settled.
    fn settled(&self, _version: &str) {}

    /// Says goodbye, where that is usual.
    async fn close(&self) {}
}

/// What limits a session.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long one request may take.
    pub timeout: Duration,
    /// Largest message of the server, in bytes.
    pub message: usize,
}

/// A connection to a server.
pub struct Session {
    transport: Box<dyn Transport>,
    limits: Limits,
    next: AtomicU64,
}

/// A tool, as far as it is looked at.
#[derive(Clone, Debug)]
pub struct Tool {
    pub name: String,
    /// Arguments that a call must have.
    pub required: Vec<String>,
    /// All of it.
    pub json: Json,
}

#[derive(Deserialize)]
struct Initialized {
    #[serde(rename = "protocolVersion")]
    version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    tools: Vec<Json>,
    #[serde(default)]
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    name: String,
    #[serde(default)]
    input_schema: Option<Schema>,
}

#[derive(Deserialize)]
struct Schema {
    #[serde(default)]
    required: serde_json::Value,
}

#[derive(Serialize)]
struct Call<'a> {
    name: &'a str,
    arguments: &'a RawValue,
}

impl Session {
    /// Connects and introduces the sidecar.
    ///
    /// # Errors
    /// Where the server cannot be reached, refuses, or speaks another protocol.
    pub async fn open(endpoint: Endpoint, limits: Limits, tasks: &Tasks) -> Result<Self, Error> {
        let version = match &endpoint {
            Endpoint::Http(http) | Endpoint::Sse(http) => http.version.clone(),
            Endpoint::Stdio(_) => None,
        };
        let transport: Box<dyn Transport> = match endpoint {
            Endpoint::Http(http) => Box::new(http::Streamable::new(http, limits.message)),
            Endpoint::Sse(http) => {
                let opening = sse::Sse::open(http, limits, tasks);
                Box::new(within(limits.timeout, opening).await?)
            }
            Endpoint::Stdio(stdio) => Box::new(stdio::Stdio::open(stdio, limits.message, tasks)?),
        };
        let session = Self {
            transport,
            limits,
            next: AtomicU64::new(1),
        };
        session.initialize(version).await?;
        Ok(session)
    }

    async fn initialize(&self, version: Option<String>) -> Result<(), Error> {
        let params = json!({
            "protocolVersion": version.as_deref().unwrap_or(VERSIONS[0]),
            "capabilities": {},
            "clientInfo": { "name": "dapr", "version": "v1alpha1" },
        });
        let answer = self.ask("initialize", &params).await?;
        let answer: Initialized = read("initialize", &answer)?;
        let known = VERSIONS.contains(&answer.version.as_str());
        if !known && version.as_ref() != Some(&answer.version) {
            return Err(Error::unusable(format!(
                "the server speaks version {:?} of the protocol, which the sidecar does not",
                answer.version
            )));
        }
        self.transport.settled(&answer.version);
        let message = rpc::notification("notifications/initialized");
        within(self.limits.timeout, self.transport.notify(message)).await
    }

    /// All tools. Together they have at most as many bytes as a message (Q-mcp-result): they are one, when they are asked for.
    ///
    /// # Errors
    /// Where the server does not tell, or does not come to an end.
    pub async fn tools(&self) -> Result<Vec<Tool>, Error> {
        let (mut tools, mut cursor) = (Vec::new(), None::<String>);
        let (most, mut left) = (self.limits.message, self.limits.message);
        for _ in 0..MOST_PAGES {
            let params = match &cursor {
                Some(cursor) => json!({ "cursor": cursor }),
                None => json!({}),
            };
            let answer = self.ask("tools/list", &params).await?;
            let page: Page = read("tools/list", &answer)?;
            for json in page.tools {
                let rest = left.checked_sub(json.get().len());
                let too_large = || Error::unusable(format!("more than {most} bytes of tools"));
                left = rest.ok_or_else(too_large)?;
                tools.push(tool(json)?);
            }
            if tools.len() > MOST_TOOLS {
                return Err(Error::unusable(format!("more than {MOST_TOOLS} tools")));
            }
            cursor = page.next_cursor.filter(|cursor| !cursor.is_empty());
            if cursor.is_none() {
                return Ok(tools);
            }
        }
        Err(Error::unusable(format!(
            "more than {MOST_PAGES} pages of tools"
        )))
    }

    /// Calls a tool.
    ///
    /// # Errors
    /// Where it is not called; a tool that fails says so in its result.
    pub async fn call(&self, name: &str, arguments: Option<&RawValue>) -> Result<Json, Error> {
        let none = serde_json::value::to_raw_value(&json!({})).map_err(unreadable)?;
        let arguments = arguments.unwrap_or(&none);
        self.ask("tools/call", &Call { name, arguments }).await
    }

    async fn ask(&self, method: &str, params: &impl Serialize) -> Result<Json, Error> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let message = rpc::request(id, method, params).map_err(unreadable)?;
        within(self.limits.timeout, self.transport.request(id, message)).await
    }

    /// Ends the session, where the server is told so.
    pub async fn close(&self) {
        // Nobody waits long for a server that is left.
        let _ = tokio::time::timeout(GOODBYE, self.transport.close()).await;
    }
}

fn tool(json: Json) -> Result<Tool, Error> {
    let described: Described = read("tools/list", &json)?;
    let required = described.input_schema.map(|schema| schema.required);
    let required: Option<Vec<String>> =
        required.and_then(|names| serde_json::from_value(names).ok());
    Ok(Tool {
        name: described.name,
        required: required.unwrap_or_default(),
        json,
    })
}

fn read<'j, T: Deserialize<'j>>(method: &str, json: &'j RawValue) -> Result<T, Error> {
    let read = serde_json::from_str(json.get());
    read.map_err(|error| Error::unusable(format!("the answer to {method} cannot be read: {error}")))
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "it is what map_err hands over"
)]
fn unreadable(error: serde_json::Error) -> Error {
    Error::unusable(format!("the request cannot be written: {error}"))
}

/// Versions of the protocol, the newest first.
const VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// Most pages of tools, and most tools: a server may go on for ever.
const MOST_PAGES: usize = 500;
const MOST_TOOLS: usize = 10_000;

/// How long the end of a session may take.
const GOODBYE: Duration = Duration::from_secs(1);
