//! HTTPEndpoint: an address outside of Dapr that apps invoke by name (contract 3.7).

use macro_rules_attribute::apply;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::name_value::{DynamicValue, NameValuePair, SecretKeyRef};
use crate::{object::object, resource::resource};

resource! {
    /// An HTTP address that apps invoke by the resource's name.
    HttpEndpoint: "HTTPEndpoint", "httpendpoints", "v1alpha1", Spec, [auth] auth, [scopes] scopes
}

/// Where the endpoint is and how to talk to it.
#[apply(object)]
pub struct Spec {
    /// URL that paths are appended to.
    pub base_url: String,
    /// Headers sent with every call.
    pub headers: Vec<NameValuePair>,
    /// TLS settings of the connection.
    #[serde(rename = "clientTLS")]
    pub client_tls: Option<Tls>,
}

/// TLS settings of a client.
#[apply(object)]
pub struct Tls {
    /// Certificates that the server's certificate must chain to, in PEM.
    #[serde(rename = "rootCA")]
    pub root_ca: Option<TlsDocument>,
    /// Certificate of the client, in PEM.
    pub certificate: Option<TlsDocument>,
    /// Key of the client's certificate, in PEM.
    pub private_key: Option<TlsDocument>,
    /// Whether the server may renegotiate.
    #[schemars(extend("x-default" = "Never"))]
    pub renegotiation: Option<Renegotiation>,
}

/// A PEM document, written in place or kept as a secret.
#[apply(object)]
pub struct TlsDocument {
    /// The document in plain text.
    pub value: Option<DynamicValue>,
    /// The secret that holds the document.
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// Whether a server may renegotiate a TLS connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Renegotiation {
    /// Renegotiation ends the connection.
    #[default]
    Never,
    /// The server may ask once per connection.
    OnceAsClient,
    /// The server may ask at any time.
    FreelyAsClient,
}
