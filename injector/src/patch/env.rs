//! Environment variables of the sidecar, of the app and of component containers.

use std::sync::LazyLock;

use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, SecretKeySelector};
use regex::Regex;

use super::Sidecar;

impl Sidecar<'_> {
    pub(super) fn sidecar_env(&self) -> Vec<EnvVar> {
        let config = self.config;
        let mut env = vec![
            var("NAMESPACE", &self.around.namespace),
            var("DAPR_TRUST_ANCHORS", &self.around.trust_anchors),
            from_field("POD_NAME", "metadata.name"),
            var("DAPR_CONTROLPLANE_NAMESPACE", &config.namespace),
            var("DAPR_CONTROLPLANE_TRUST_DOMAIN", &config.trust_domain),
        ];
        if config.downward_api {
            env.push(from_field("DAPR_HOST_IP", "status.podIP"));
        }
        let plain = pairs(&self.shape.env);
        let secret = pairs(&self.shape.env_from_secret);
        let keys: Vec<&str> = plain.iter().chain(&secret).map(|(key, _)| *key).collect();
        env.extend(plain.iter().map(|(key, value)| var(key, value)));
        env.extend(
            secret
                .iter()
                .filter_map(|(key, value)| from_secret_text(key, value)),
        );
        if !keys.is_empty() {
            env.push(var("DAPR_ENV_KEYS", &keys.join(" ")));
        }
        if self.has_components() {
            let folder = self.components_folder();
            env.push(var(COMPONENTS_FOLDER, folder));
            // daprd reads the plural; the singular alone would never bring it another folder (quirk
            // Q-components-sockets-env).
            env.push(var("DAPR_COMPONENTS_SOCKETS_FOLDER", folder));
        }
        for (name, secret) in [
            ("DAPR_API_TOKEN", &self.shape.api_token_secret),
            ("APP_API_TOKEN", &self.shape.app_token_secret),
        ] {
            env.extend(
                secret
                    .as_deref()
                    .map(|secret| from_secret(name, secret, "token")),
            );
        }
        env
    }

    pub(super) fn app_env(&self) -> Vec<EnvVar> {
        let port = |port: Option<u16>| port.unwrap_or_default().to_string();
        let mut env = vec![
            var("DAPR_HTTP_PORT", &port(self.settings.http_port)),
            var("DAPR_GRPC_PORT", &port(self.settings.grpc_port)),
        ];
        let protocol = self
            .settings
            .app_protocol
            .as_deref()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let tls = self.settings.app_ssl.unwrap_or(false);
        let protocol = match protocol.as_str() {
            "http" if tls => "https",
            "grpc" if tls => "grpcs",
            "http" | "https" | "h2c" | "grpc" | "grpcs" => &protocol,
            // A protocol that daprd does not know is not told to the app.
            _ => return env,
        };
        env.push(var("APP_PROTOCOL", protocol));
        env
    }

    pub(super) fn component_env(&self) -> Vec<EnvVar> {
        vec![var(COMPONENTS_FOLDER, self.components_folder())]
    }
}

fn var(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        ..EnvVar::default()
    }
}

fn from_field(name: &str, path: &str) -> EnvVar {
    let field_ref = Some(ObjectFieldSelector {
        field_path: path.to_owned(),
        ..ObjectFieldSelector::default()
    });
    let value_from = Some(EnvVarSource {
        field_ref,
        ..EnvVarSource::default()
    });
    EnvVar {
        name: name.to_owned(),
        value_from,
        ..EnvVar::default()
    }
}

fn from_secret(name: &str, secret: &str, key: &str) -> EnvVar {
    let secret_key_ref = Some(SecretKeySelector {
        key: key.to_owned(),
        name: secret.to_owned(),
        optional: None,
    });
    let value_from = Some(EnvVarSource {
        secret_key_ref,
        ..EnvVarSource::default()
    });
    EnvVar {
        name: name.to_owned(),
        value_from,
        ..EnvVar::default()
    }
}

/// `secret:key`, or a secret whose key has its name; anything with two colons is passed over.
fn from_secret_text(name: &str, text: &str) -> Option<EnvVar> {
    match text.trim().split_once(':') {
        None => Some(from_secret(name, text.trim(), text.trim())),
        Some((_, key)) if key.contains(':') => None,
        Some((secret, key)) => Some(from_secret(name, secret.trim(), key.trim())),
    }
}

/// Pairs `K=V,K2=V2`, where a comma only separates if a name and an equals sign follow, so that values may hold
/// commas. Items without an equals sign are passed over.
fn pairs(text: &str) -> Vec<(&str, &str)> {
    static SEPARATOR: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r",\s*[a-zA-Z_][a-zA-Z0-9_]*=").expect("a constant pattern"));
    let mut items = Vec::new();
    let mut start = 0;
    for found in SEPARATOR.find_iter(text) {
        items.push(&text[start..found.start()]);
        start = found.start() + 1;
    }
    items.push(&text[start..]);
    items
        .into_iter()
        .filter_map(|item| item.trim().split_once('='))
        .collect()
}

/// Compat: Q-components-sockets-env: the singular is what component containers have always been given.
const COMPONENTS_FOLDER: &str = "DAPR_COMPONENT_SOCKETS_FOLDER";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_commas_and_equals_signs() {
        assert_eq!(
            pairs("A=1,B=x,y,z, C_2=a=b"),
            [("A", "1"), ("B", "x,y,z"), ("C_2", "a=b")]
        );
        assert_eq!(pairs("A=1,2B=c"), [("A", "1,2B=c")]);
        assert!(pairs("").is_empty() && pairs("nonsense").is_empty());
    }

    #[test]
    fn secrets_name_their_key_or_share_its_name() {
        let key = |text: &str| {
            let var = from_secret_text("X", text)?;
            let selector = var.value_from?.secret_key_ref?;
            Some((selector.name, selector.key))
        };
        assert_eq!(key("s:k"), Some(("s".into(), "k".into())));
        assert_eq!(key(" s "), Some(("s".into(), "s".into())));
        assert_eq!(key("a:b:c"), None);
    }
}
