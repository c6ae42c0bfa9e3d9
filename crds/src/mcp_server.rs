//! MCPServer: a Model Context Protocol server that Dapr calls tools on (contract 3.8).

use std::collections::BTreeMap;

use macro_rules_attribute::apply;

use crate::name_value::{NameValuePair, SecretKeyRef};
use crate::{lenient, object::object, resource::resource};

resource! {
    /// A Model Context Protocol server.
    McpServer: "MCPServer", "mcpservers", "v1alpha1", Spec, [scopes] scopes
}

/// Where the server is, what runs around its calls, and how it is described.
#[apply(object)]
pub struct Spec {
    /// How the server is reached.
    #[serde(deserialize_with = "lenient::or_default")]
    pub endpoint: Endpoint,
    /// Workflows that run around calls.
    pub middleware: Option<Middleware>,
    /// Description for people and catalogs; without effect.
    pub catalog: Option<Catalog>,
    /// Whether the sidecar starts although the server cannot be reached.
    pub ignore_errors: bool,
}

/// How a server is reached: exactly one of the fields is given.
#[apply(object)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "[has(self.streamableHTTP), has(self.sse), has(self.stdio)].exists_one(given, given)",
    "message": "give exactly one of streamableHTTP, sse and stdio"
}]))]
pub struct Endpoint {
    /// The streamable HTTP transport.
    #[serde(rename = "streamableHTTP")]
    pub streamable_http: Option<Box<Http>>,
    /// The older HTTP transport with server-sent events.
    pub sse: Option<Box<Http>>,
    /// A process that is started and spoken to over its standard streams.
    pub stdio: Option<Stdio>,
}

/// A server reached over HTTP.
#[apply(object)]
pub struct Http {
    /// URL of the server.
    #[schemars(length(min = 1))]
    pub url: String,
    /// Protocol version to ask for.
    pub protocol_version: Option<String>,
    /// How long a call may take, as a Go duration.
    pub timeout: Option<String>,
    /// Headers sent with every call.
    pub headers: Vec<NameValuePair>,
    /// How the caller proves who it is.
    pub auth: Option<Authentication>,
}

/// How the caller proves who it is.
#[apply(object)]
pub struct Authentication {
    /// Secret store component that resolves `secretKeyRef`s of the endpoint.
    pub secret_store: Option<String>,
    /// OAuth 2.0 client credentials.
    pub oauth2: Option<OAuth2>,
    /// The sidecar's own SPIFFE identity.
    pub spiffe: Option<Spiffe>,
}

/// OAuth 2.0 client credentials.
#[apply(object)]
pub struct OAuth2 {
    /// URL of the token issuer.
    #[schemars(length(min = 1))]
    pub issuer: String,
    /// Client ID.
    #[serde(rename = "clientID")]
    pub client_id: Option<String>,
    /// Audience to ask for.
    pub audience: Option<String>,
    /// Scopes to ask for.
    pub scopes: Vec<String>,
    /// The secret that holds the client secret.
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// The sidecar's own SPIFFE identity.
#[apply(object)]
pub struct Spiffe {
    /// A JWT-SVID sent in a header.
    pub jwt: Option<SpiffeJwt>,
}

/// A JWT-SVID sent in a header.
#[apply(object)]
pub struct SpiffeJwt {
    /// Name of the header.
    #[schemars(length(min = 1))]
    pub header: String,
    /// Text before the token, e.g. `Bearer `.
    pub header_value_prefix: Option<String>,
    /// Audience of the token.
    #[schemars(length(min = 1))]
    pub audience: String,
}

/// A process that is spoken to over its standard streams.
#[apply(object)]
pub struct Stdio {
    /// Program to start.
    #[schemars(length(min = 1))]
    pub command: String,
    /// Arguments of the program.
    pub args: Vec<String>,
    /// Environment of the program.
    pub env: Vec<NameValuePair>,
}

/// Workflows that run around calls, in order.
#[apply(object)]
pub struct Middleware {
    /// Before a tool is called.
    pub before_call_tool: Vec<MutatingHook>,
    /// After a tool was called.
    pub after_call_tool: Vec<MutatingHook>,
    /// Before tools are listed.
    pub before_list_tools: Vec<Hook>,
    /// After tools were listed.
    pub after_list_tools: Vec<MutatingHook>,
}

/// A workflow that may refuse a call.
#[apply(object)]
pub struct Hook {
    /// The workflow to run.
    #[serde(deserialize_with = "lenient::or_default")]
    pub workflow: WorkflowRef,
}

/// A workflow that may refuse a call or change what passes.
#[apply(object)]
pub struct MutatingHook {
    /// The workflow to run.
    #[serde(deserialize_with = "lenient::or_default")]
    pub workflow: WorkflowRef,
    /// Whether the workflow's result replaces what passes.
    pub mutate: Option<bool>,
}

/// A workflow by name.
#[apply(object)]
pub struct WorkflowRef {
    /// Name of the workflow.
    #[schemars(length(min = 1))]
    pub workflow_name: String,
    /// App that runs it; the sidecar's own when left out.
    #[serde(rename = "appID")]
    pub app_id: Option<String>,
}

/// Description of the server, without effect.
#[apply(object)]
pub struct Catalog {
    /// Name for people.
    pub display_name: Option<String>,
    /// What the server offers.
    pub description: Option<String>,
    /// Who answers for the server.
    pub owner: Option<Owner>,
    /// Words to find the server by.
    pub tags: Vec<String>,
    /// Addresses by title.
    pub links: BTreeMap<String, String>,
}

/// Who answers for a server.
#[apply(object)]
pub struct Owner {
    /// Team.
    pub team: Option<String>,
    /// How to reach the team.
    pub contact: Option<String>,
}
