//! MCPServer: a Model Context Protocol server that Dapr calls tools on (contract 3.8).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::name_value::{NameValuePair, SecretKeyRef};
use crate::{lenient, resource::resource};

resource! {
    /// A Model Context Protocol server.
    McpServer: "MCPServer", "mcpservers", "v1alpha1", Spec, [scopes] scopes
}

/// Where the server is, what runs around its calls, and how it is described.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// How the server is reached.
    #[serde(deserialize_with = "lenient::or_default")]
    pub endpoint: Endpoint,
    /// Workflows that run around calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub middleware: Option<Middleware>,
    /// Description for people and catalogs; without effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog: Option<Catalog>,
    /// Whether the sidecar starts although the server cannot be reached.
    #[serde(
        skip_serializing_if = "lenient::is_off",
        deserialize_with = "lenient::or_default"
    )]
    pub ignore_errors: bool,
}

/// How a server is reached: exactly one of the fields is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "[has(self.streamableHTTP), has(self.sse), has(self.stdio)].exists_one(given, given)",
    "message": "give exactly one of streamableHTTP, sse and stdio"
}]))]
pub struct Endpoint {
    /// The streamable HTTP transport.
    #[serde(rename = "streamableHTTP", skip_serializing_if = "Option::is_none")]
    pub streamable_http: Option<Box<Http>>,
    /// The older HTTP transport with server-sent events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sse: Option<Box<Http>>,
    /// A process that is started and spoken to over its standard streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdio: Option<Stdio>,
}

/// A server reached over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Http {
    /// URL of the server.
    #[schemars(length(min = 1))]
    pub url: String,
    /// Protocol version to ask for.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub protocol_version: Option<String>,
    /// How long a call may take, as a Go duration.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub timeout: Option<String>,
    /// Headers sent with every call.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "lenient::or_default"
    )]
    pub headers: Vec<NameValuePair>,
    /// How the caller proves who it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Authentication>,
}

/// How the caller proves who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Authentication {
    /// Secret store component that resolves `secretKeyRef`s of the endpoint.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub secret_store: Option<String>,
    /// OAuth 2.0 client credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2>,
    /// The sidecar's own SPIFFE identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spiffe: Option<Spiffe>,
}

/// OAuth 2.0 client credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OAuth2 {
    /// URL of the token issuer.
    #[schemars(length(min = 1))]
    pub issuer: String,
    /// Client ID.
    #[serde(
        rename = "clientID",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub client_id: Option<String>,
    /// Audience to ask for.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub audience: Option<String>,
    /// Scopes to ask for.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "lenient::or_default"
    )]
    pub scopes: Vec<String>,
    /// The secret that holds the client secret.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::secret_key_ref"
    )]
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// The sidecar's own SPIFFE identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Spiffe {
    /// A JWT-SVID sent in a header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<SpiffeJwt>,
}

/// A JWT-SVID sent in a header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SpiffeJwt {
    /// Name of the header.
    #[schemars(length(min = 1))]
    pub header: String,
    /// Text before the token, e.g. `Bearer `.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub header_value_prefix: Option<String>,
    /// Audience of the token.
    #[schemars(length(min = 1))]
    pub audience: String,
}

/// A process that is spoken to over its standard streams.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Stdio {
    /// Program to start.
    #[schemars(length(min = 1))]
    pub command: String,
    /// Arguments of the program.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "lenient::or_default"
    )]
    pub args: Vec<String>,
    /// Environment of the program.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "lenient::or_default"
    )]
    pub env: Vec<NameValuePair>,
}

/// Workflows that run around calls, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Middleware {
    /// Before a tool is called.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "lenient::or_default"
    )]
    pub before_call_tool: Vec<MutatingHook>,
    /// After a tool was called.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "lenient::or_default"
    )]
    pub after_call_tool: Vec<MutatingHook>,
    /// Before tools are listed.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "lenient::or_default"
    )]
    pub before_list_tools: Vec<Hook>,
    /// After tools were listed.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "lenient::or_default"
    )]
    pub after_list_tools: Vec<MutatingHook>,
}

/// A workflow that may refuse a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Hook {
    /// The workflow to run.
    #[serde(deserialize_with = "lenient::or_default")]
    pub workflow: WorkflowRef,
}

/// A workflow that may refuse a call or change what passes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MutatingHook {
    /// The workflow to run.
    #[serde(deserialize_with = "lenient::or_default")]
    pub workflow: WorkflowRef,
    /// Whether the workflow's result replaces what passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mutate: Option<bool>,
}

/// A workflow by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkflowRef {
    /// Name of the workflow.
    #[schemars(length(min = 1))]
    pub workflow_name: String,
    /// App that runs it; the sidecar's own when left out.
    #[serde(
        rename = "appID",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub app_id: Option<String>,
}

/// Description of the server, without effect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Catalog {
    /// Name for people.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub display_name: Option<String>,
    /// What the server offers.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub description: Option<String>,
    /// Who answers for the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// Words to find the server by.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "lenient::or_default"
    )]
    pub tags: Vec<String>,
    /// Addresses by title.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "lenient::or_default"
    )]
    pub links: BTreeMap<String, String>,
}

/// Who answers for a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Owner {
    /// Team.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub team: Option<String>,
    /// How to reach the team.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub contact: Option<String>,
}
