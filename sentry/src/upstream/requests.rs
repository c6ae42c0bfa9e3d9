//! cert-manager: a `CertificateRequest` for each issuer, which is looked at until it is decided, and then taken away.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Answer, Certified, Error, Upstream};
use crate::api_server::{self, ApiServer};

/// Where cert-manager is asked, and for whose signature.
pub struct Requests {
    pub api: ApiServer,
    /// The namespace of the requests: sentry's own.
    pub namespace: String,
    pub issuer: IssuerRef,
}

/// Names an issuer of cert-manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerRef {
    pub name: String,
    pub kind: String,
    pub group: String,
}

const NAME: &str = "cert-manager";

#[async_trait::async_trait]
impl Upstream for Requests {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn submit(&self, name: &str, csr: &str, life: Duration) -> Result<(), Error> {
        let request = self.request(name, csr, life);
        let requests = self.api.certificate_requests(&self.namespace);
        match requests.create(&request).await {
            Ok(()) | Err(api_server::Error::Conflict { .. }) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    async fn answer(&self, name: &str) -> Result<Answer, Error> {
        let requests = self.api.certificate_requests(&self.namespace);
        match requests.get(name).await {
            Ok(there) => match decision(&there) {
                Some(decided) => decided.map(Answer::Certified),
                None => Ok(Answer::Undecided),
            },
            Err(api_server::Error::NotFound { .. }) => Ok(Answer::Unknown),
            Err(error) => Err(failed(error)),
        }
    }

    async fn withdraw(&self, name: &str) {
        let requests = self.api.certificate_requests(&self.namespace);
        match requests.delete(name).await {
            Ok(()) | Err(api_server::Error::NotFound { .. }) => {}
            // cert-manager keeps what nobody takes away.
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "the certificate request {name} is left over");
            }
        }
    }
}

const fn failed(source: api_server::Error) -> Error {
    Error::Request {
        upstream: NAME,
        source,
    }
}

impl Requests {
    fn request(&self, name: &str, csr: &str, life: Duration) -> Value {
        let IssuerRef {
            name: issuer,
            kind,
            group,
        } = &self.issuer;
        json!({
            "apiVersion": "cert-manager.io/v1", "kind": "CertificateRequest",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "request": STANDARD.encode(csr),
                "isCA": true,
                "usages": ["digital signature", "cert sign", "crl sign"],
                "duration": format!("{}s", life.as_secs()),
                "issuerRef": {"name": issuer, "kind": kind, "group": group},
            },
        })
    }
}

/// What a request has come to; none while nothing is decided.
fn decision(request: &Value) -> Option<Result<Certified, Error>> {
    let conditions = request["status"]["conditions"].as_array()?;
    let find = |kind: &str| conditions.iter().find(|it| it["type"] == kind);
    let refused = |condition: &Value| Error::Refused {
        upstream: NAME,
        reason: condition["message"]
            .as_str()
            .unwrap_or("no reason")
            .chars()
            .take(MOST_TEXT)
            .collect(),
    };
    for kind in ["Denied", "InvalidRequest"] {
        if let Some(condition) = find(kind).filter(|it| it["status"] == "True") {
            return Some(Err(refused(condition)));
        }
    }
    let ready = find("Ready")?;
    if ready["reason"] == "Failed" {
        return Some(Err(refused(ready)));
    }
    if ready["status"] != "True" {
        return None;
    }
    let part = |name: &str| {
        let text = request["status"][name].as_str().unwrap_or_default();
        STANDARD.decode(text).ok().filter(|part| !part.is_empty())
    };
    let missing = |what: &str| Error::Refused {
        upstream: NAME,
        reason: format!("its answer has no {what}"),
    };
    Some(match (part("certificate"), part("ca")) {
        (Some(chain), Some(root)) => Ok(Certified { chain, root }),
        (None, _) => Err(missing("certificate")),
        // Without the root nobody could trust what it signs.
        (_, None) => Err(missing("ca, which has to be the root")),
    })
}

/// Characters of a reason.
const MOST_TEXT: usize = 256;
