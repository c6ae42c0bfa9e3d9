//! One MCP server: the resource, the session with it, and what it offers.

use std::{sync::Arc, time::Duration};

use blocks::Tasks;
use component::Lent;
use crds::{Kind, McpServer};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    Error, Values,
    client::{Limits, Session, Tool},
    endpoint::{self, Endpoint},
    error::within,
    flow,
};

/// What all servers share.
pub struct Parts {
    pub values: Arc<dyn Values>,
    pub lent: Lent,
    pub tasks: Tasks,
    /// Largest message of a server, in bytes.
    pub max_message: usize,
}

/// What is known of a server.
#[derive(Clone, Debug)]
pub enum State {
    Connecting,
    /// It has failed so many times, and is tried again.
    Unreachable {
        attempts: u32,
        reason: String,
    },
    Ready(Arc<Vec<Tool>>),
}

/// A server that is asked for.
pub struct Server {
    pub resource: McpServer,
    pub timeout: Duration,
    pub end: CancellationToken,
    state: watch::Sender<State>,
    session: Mutex<Option<Arc<Session>>>,
    parts: Arc<Parts>,
}

impl Server {
    pub fn new(resource: McpServer, parts: Arc<Parts>) -> Self {
        Self {
            timeout: endpoint::timeout(&resource),
            end: CancellationToken::new(),
            state: watch::Sender::new(State::Connecting),
            session: Mutex::default(),
            resource,
            parts,
        }
    }

    pub fn name(&self) -> &str {
        self.resource.name()
    }

    /// With its address, for logs: without what may be secret in a URL.
    pub fn log_name(&self) -> String {
        let endpoint = &self.resource.spec.endpoint;
        let http = endpoint.streamable_http.as_ref().or(endpoint.sse.as_ref());
        match http {
            Some(http) => {
                let url = Url::parse(&http.url).ok();
                let place = url.map(|url| match url.port_or_known_default() {
                    Some(port) => format!(
                        "{}:{port}{}",
                        url.host_str().unwrap_or_default(),
                        url.path()
                    ),
                    None => url.path().to_owned(),
                });
                format!("{} ({})", self.name(), place.unwrap_or_default())
            }
            None => self.name().to_owned(),
        }
    }

    pub fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// The tools, once it is known whether the server is there.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn tools(&self) -> Result<Arc<Vec<Tool>>, String> {
        let mut state = self.state();
        let settled = state.wait_for(|state| !matches!(state, State::Connecting));
        let settled = tokio::time::timeout(self.timeout, settled).await;
        match settled.map(|settled| settled.map(|state| state.clone())) {
            Ok(Ok(State::Ready(tools))) => Ok(tools),
            Ok(Ok(State::Unreachable { reason, .. })) => Err(reason),
            _ => Err("it is being connected".to_owned()),
        }
    }

    /// Connects and asks for the tools; what comes of it is what is known from then on.
    pub async fn connect(&self) -> Result<(), Error> {
        let connecting = async {
            let session = self.session().await?;
            session.tools().await
        };
        let connected = within(self.timeout, connecting).await;
        if connected.is_err() {
            // The next attempt begins anew.
            self.close().await;
        }
        let tools = match connected {
            Ok(tools) => tools,
            Err(error) => {
                self.state.send_modify(|state| {
                    let before = match state {
                        State::Unreachable { attempts, .. } => *attempts,
                        _ => 0,
                    };
                    *state = State::Unreachable {
                        attempts: before.saturating_add(1),
                        reason: error.to_string(),
                    };
                });
                return Err(error);
            }
        };
        self.state.send_replace(State::Ready(Arc::new(tools)));
        Ok(())
    }

    /// What the activity answers that lists tools.
    ///
    /// # Errors
    /// Where the server is not there.
    pub async fn list(&self) -> Result<String, Error> {
        if let Ok(tools) = self.tools().await
            && !tools.is_empty()
        {
            return Ok(listed(&tools));
        }
        let asking = self.ask(true, |session| async move { session.tools().await });
        let tools = within(self.timeout, asking).await?;
        Ok(listed(&tools))
    }

    /// What the activity answers that calls a tool: also where that fails.
    pub async fn call(&self, input: &str) -> String {
        let call: flow::Call = match serde_json::from_str(input) {
            Ok(call) => call,
            Err(error) => {
                return flow::error(&format!("call-tool: the input cannot be read: {error}"));
            }
        };
        let tool = &call.tool_name;
        let known = self.tools().await.unwrap_or_default();
        let missing = missing(&known, tool, call.arguments.as_deref());
        if !missing.is_empty() {
            let missing = missing.join(", ");
            return flow::error(&format!(
                "call-tool: missing required argument(s) for tool {tool:?}: {missing}"
            ));
        }
        let arguments = call.arguments.as_deref();
        // Q-mcp-once
        let asking = self.ask(false, |session| async move {
            session.call(tool, arguments).await
        });
        match within(self.timeout, asking).await {
            Ok(result) => result.get().to_owned(),
            Err(error) => flow::error(&format!("call-tool: {error} (tool {tool:?})")),
        }
    }

    /// Asks the server; once more on a new connection, where this one turns out to be gone and the server cannot have looked at
    /// what it was asked. What is `repeatable` is also asked again where it can.
    async fn ask<T, Fut>(
        &self,
        repeatable: bool,
        ask: impl Fn(Arc<Session>) -> Fut,
    ) -> Result<T, Error>
    where
        Fut: Future<Output = Result<T, Error>>,
    {
        let session = self.session().await?;
        let error = match ask(Arc::clone(&session)).await {
            Err(error @ (Error::Closed(_) | Error::BrokenOff(_))) => error,
            answer => return answer,
        };
        let mut held = self.session.lock().await;
        held.take_if(|held| Arc::ptr_eq(held, &session));
        drop(held);
        let name = self.name();
        if !repeatable && matches!(error, Error::BrokenOff(_)) {
            tracing::warn!("connection lost for MCPServer {name:?}: {error}");
            return Err(error);
        }
        tracing::warn!("connection lost for MCPServer {name:?}, reconnecting: {error}");
        ask(self.session().await?).await
    }

    /// The session, which is opened where there is none.
    async fn session(&self) -> Result<Arc<Session>, Error> {
        let mut held = self.session.lock().await;
        if let Some(session) = &*held {
            return Ok(Arc::clone(session));
        }
        let parts = &self.parts;
        let endpoint = Endpoint::resolve(&self.resource, &*parts.values, &parts.lent).await?;
        let limits = Limits {
            timeout: self.timeout,
            message: parts.max_message,
        };
        let session = Arc::new(Session::open(endpoint, limits, &parts.tasks).await?);
        *held = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Ends the session.
    pub async fn close(&self) {
        let session = self.session.lock().await.take();
        if let Some(session) = session {
            session.close().await;
        }
    }
}

fn listed(tools: &[Tool]) -> String {
    let tools: Vec<_> = tools.iter().map(|tool| tool.json.clone()).collect();
    flow::tools(&tools)
}

/// The arguments that the tool must have and the call has not.
fn missing(tools: &[Tool], name: &str, arguments: Option<&RawValue>) -> Vec<String> {
    /// An object's fields, whatever is in them.
    type Fields = std::collections::BTreeMap<String, serde::de::IgnoredAny>;
    let Some(tool) = tools.iter().find(|tool| tool.name == name) else {
        return Vec::new();
    };
    let given = arguments.map(|arguments| Fields::deserialize(arguments).unwrap_or_default());
    let given = given.unwrap_or_default();
    let required = tool.required.iter();
    required
        .filter(|name| !given.contains_key(*name))
        .cloned()
        .collect()
}
