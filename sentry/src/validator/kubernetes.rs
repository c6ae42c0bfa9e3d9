//! Service account tokens: the API server says whose token it is, the pod says which identity it has.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proto::sentry::v1::SignCertificateRequest;
use security::{CONTROL_PLANE, SpiffeId, TrustDomain};
use serde_json::Value;

use super::{Granted, Refused, grant};
use crate::api_server::{ApiServer, Container, ContainerStatus, Pod};
use crate::ca::images::{Image, Role};

/// Checks tokens against the cluster that sentry runs in.
pub struct KubernetesValidator {
    api: ApiServer,
    sentry: SpiffeId,
    audience: String,
}

/// Audience of tokens before Dapr 1.12.
const LEGACY_AUDIENCE: &str = "dapr.io/sentry";
const CONTROL_PLANE_ANNOTATION: &str = "dapr.io/control-plane";
const APP_ID_ANNOTATION: &str = "dapr.io/app-id";
const CONFIG_ANNOTATION: &str = "dapr.io/config";
/// Name of the sidecar's container.
const SIDECAR: &str = "daprd";

impl KubernetesValidator {
    pub fn new(api: ApiServer, sentry: &SpiffeId) -> Self {
        Self {
            api,
            sentry: sentry.clone(),
            audience: sentry.to_string(),
        }
    }

    pub async fn check(&self, request: &SignCertificateRequest) -> Result<Granted, Refused> {
        // What the token says is read before it is known to be true: one that says nothing useful is not worth a review.
        let claims = claims(&request.token)?;
        let name = pod_name(&claims)?;
        let (namespace, account) = self.review(&request.token, &claims).await?;
        let pod = self.api.pod(&namespace, name).await;
        let pod = pod.map_err(|source| Refused::Missing {
            what: format!("the token's pod {namespace}/{name}"),
            source,
        })?;
        if namespace != request.namespace {
            return Err(identity(format!(
                "the token is not from namespace {}",
                request.namespace
            )));
        }
        if pod.spec.service_account_name != account {
            return Err(identity(format!(
                "the token is not of the service account of the pod {namespace}/{name}"
            )));
        }
        let (expected, control_plane) =
            expected_id(&pod, &namespace, name, self.sentry.namespace())?;
        if expected != request.id {
            return Err(identity(format!(
                "the pod's identity is {expected}, not {}",
                request.id
            )));
        }
        let domain = if control_plane {
            self.sentry.trust_domain().to_owned()
        } else {
            self.trust_domain(&pod, &namespace).await?
        };
        grant(&domain, request, images(&pod))
    }

    /// Namespace and name of the service account that a token belongs to.
    async fn review(&self, token: &str, claims: &Value) -> Result<(String, String), Refused> {
        let audiences = [LEGACY_AUDIENCE, self.audience.as_str()];
        let review = self
            .api
            .review(token, &audiences)
            .await
            .map_err(Refused::Review)?;
        if let Some(error) = review.error.filter(|error| !error.is_empty()) {
            return Err(identity(format!("the cluster refuses the token: {error}")));
        }
        if !review.authenticated {
            return Err(identity("the cluster does not know the token"));
        }
        accept_audiences(review.audiences.as_deref(), claims, &audiences)?;
        let user = review.user.unwrap_or_default().username;
        match user.split(':').collect::<Vec<_>>()[..] {
            ["system", "serviceaccount", namespace, account] => {
                Ok((namespace.to_owned(), account.to_owned()))
            }
            _ => Err(identity("the token is not that of a service account")),
        }
    }

    /// The trust domain of an app is a matter of its Configuration; what the request says does not count.
    async fn trust_domain(&self, pod: &Pod, namespace: &str) -> Result<String, Refused> {
        let Some(name) = annotation(pod, CONFIG_ANNOTATION) else {
            return Ok(TrustDomain::PUBLIC.to_owned());
        };
        let configuration = self.api.configuration(namespace, name).await;
        let configuration = configuration.map_err(|source| Refused::Missing {
            what: format!("the pod's configuration {namespace}/{name}"),
            source,
        })?;
        let domain = configuration
            .spec
            .access_control
            .and_then(|control| control.trust_domain);
        Ok(domain
            .filter(|domain| !domain.is_empty())
            .unwrap_or_else(|| TrustDomain::PUBLIC.to_owned()))
    }
}

fn identity(text: impl Into<String>) -> Refused {
    Refused::Identity(text.into())
}

fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata
        .annotations
        .as_ref()?
        .get(name)
        .map(String::as_str)
}

/// A token counts only for one of the audiences that were asked about. Something behind the API server that knows nothing of
/// audiences names none, and then the token's own ones decide, if it has any. Q-sentry-review-audiences
fn accept_audiences(
    reviewed: Option<&[String]>,
    claims: &Value,
    wanted: &[&str],
) -> Result<(), Refused> {
    let own: Vec<&str> = match &claims["aud"] {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let found: Vec<&str> = match reviewed {
        Some(reviewed) if !reviewed.is_empty() => reviewed.iter().map(String::as_str).collect(),
        _ if own.is_empty() => return Ok(()),
        _ => own,
    };
    if found.iter().any(|audience| wanted.contains(audience)) {
        return Ok(());
    }
    Err(identity(format!(
        "the token is for the audience {}, not for {}",
        found.join(", "),
        wanted.join(" or ")
    )))
}

/// What a token says. The API server checks it; here it is only read.
///
/// Compat: Q-sentry-bare-claims: a token that is JSON is its own claims.
fn claims(token: &str) -> Result<Value, Refused> {
    let unreadable = || identity("the token is unreadable");
    let claims = if token.trim_start().starts_with('{') {
        token.as_bytes().to_vec()
    } else {
        let claims = token.split('.').nth(1).ok_or_else(unreadable)?;
        URL_SAFE_NO_PAD
            .decode(claims.trim_end_matches('='))
            .map_err(|_| unreadable())?
    };
    serde_json::from_slice(&claims).map_err(|_| unreadable())
}

/// The pod that a token was made for.
fn pod_name(claims: &Value) -> Result<&str, Refused> {
    match claims["kubernetes.io"]["pod"]["name"].as_str() {
        Some(name) if !name.is_empty() => Ok(name),
        _ => Err(identity("the token names no pod")),
    }
}

/// The identity of a pod, and whether it belongs to the control plane.
fn expected_id(
    pod: &Pod,
    namespace: &str,
    name: &str,
    control_plane: &str,
) -> Result<(String, bool), Refused> {
    let app_id = annotation(pod, APP_ID_ANNOTATION);
    let Some(service) = annotation(pod, CONTROL_PLANE_ANNOTATION) else {
        return Ok((app_id.unwrap_or(name).to_owned(), false));
    };
    let id = format!("dapr-{service}");
    if namespace != control_plane {
        return Err(identity(format!(
            "control-plane pods are not taken from namespace {namespace}"
        )));
    }
    if !CONTROL_PLANE.contains(&id.as_str()) {
        return Err(identity(format!(
            "pod {name} is of no known control-plane service"
        )));
    }
    if app_id.is_some() {
        return Err(identity(format!(
            "control-plane pod {name} must not have annotation {APP_ID_ANNOTATION}"
        )));
    }
    Ok((id, true))
}

/// The images of a pod's containers; of init containers only native sidecars, which is what daprd may be.
fn images(pod: &Pod) -> Vec<Image> {
    let none = Vec::new();
    let (init, containers) = (
        pod.spec.init_containers.as_ref(),
        pod.spec.containers.as_ref(),
    );
    let (init_states, states) = (
        &pod.status.init_container_statuses,
        &pod.status.container_statuses,
    );
    let sidecars = init
        .unwrap_or(&none)
        .iter()
        .filter(|c| c.restart_policy.as_deref() == Some("Always"));
    sidecars
        .map(|container| image(container, init_states.as_deref()))
        .chain(
            containers
                .unwrap_or(&none)
                .iter()
                .map(|container| image(container, states.as_deref())),
        )
        .collect()
}

fn image(container: &Container, states: Option<&[ContainerStatus]>) -> Image {
    let state = states
        .unwrap_or_default()
        .iter()
        .find(|state| state.name == container.name);
    let digest = match state.map(|state| state.image_id.as_str()) {
        Some(id) => match id.rsplit_once('@') {
            Some((_, digest)) => digest,
            None if id.starts_with("sha256:") => id,
            None => "",
        },
        None => "",
    };
    Image {
        role: if container.name == SIDECAR {
            Role::Daprd
        } else {
            Role::App
        },
        container_name: container.name.clone(),
        image: container.image.clone(),
        digest: digest.to_owned(),
    }
}
