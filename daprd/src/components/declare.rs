//! From a Component resource to what its owner opens: secrets, environment and templates resolved, and the keys that the
//! runtime owns.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use blocks::Declared;
use component::{Instance, Lent, Metadata, Spawn};
use crds::{Component, DynamicValue, HttpEndpoint, Kind, NameValuePair, SecretKeyRef};
use values::Template;

use super::version;

/// The secret store of a cluster; its values come resolved from the operator.
pub const KUBERNETES_STORE: &str = "kubernetes";

/// What values are resolved by.
pub struct Resolver {
    pub secrets: blocks::secrets::Stores,
    pub template: Template,
    pub instance: Arc<Instance>,
    pub lent: Lent,
    /// In a cluster the operator resolves `kubernetes` secrets, and an unnamed store is that one.
    pub kubernetes: bool,
    /// Environment variables that components may read; empty for all.
    pub env_keys: Vec<String>,
    /// WebAssembly components run in a strict sandbox, whatever they say themselves (contract 3).
    pub strict_wasm: bool,
}

impl Resolver {
    /// What the owner of a component opens.
    ///
    /// # Errors
    /// Names the metadata field that cannot be resolved.
    pub async fn declare(
        &self,
        component: &Component,
        init_timeout: Duration,
        tasks: Arc<dyn Spawn>,
    ) -> Result<Declared> {
        let mut values = component.spec.metadata.iter();
        Ok(Declared {
            name: component.name().to_owned(),
            component_type: component.spec.component_type.clone(),
            version: version(component).to_owned(),
            metadata: self.metadata(component).await?,
            init_timeout,
            instance: Arc::clone(&self.instance),
            tasks,
            lent: self.lent.clone(),
            names_namespace: values.any(|pair| values::template::names_namespace(&pair.text())),
        })
    }

    async fn metadata(&self, component: &Component) -> Result<Metadata> {
        let store = self.store_or_default(component.secret_store());
        let mut fields = Vec::with_capacity(component.spec.metadata.len());
        for pair in &component.spec.metadata {
            let value = self
                .value(pair, store)
                .await
                .with_context(|| format!("metadata field {}", pair.name))?;
            fields.push((pair.name.clone(), value));
        }
        if self.strict_wasm {
            enforce_strict(&component.spec.component_type, &mut fields);
        }
        let mut metadata: Metadata = fields.into_iter().collect();
        if component.spec.category() == "pubsub" {
            metadata.set_default("consumerID", &self.instance.app_id);
        }
        Ok(metadata)
    }

    fn store_or_default<'c>(&self, named: Option<&'c str>) -> &'c str {
        match named {
            Some(store) if !store.is_empty() => store,
            _ if self.kubernetes => KUBERNETES_STORE,
            _ => "",
        }
    }

    /// The value of a pair of another kind of resource, which names a secret store or none.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn resolve(&self, pair: &NameValuePair, store: Option<&str>) -> Result<String> {
        self.value(pair, self.store_or_default(store)).await
    }

    async fn value(&self, pair: &NameValuePair, store: &str) -> Result<String> {
        let text = if let Some(reference) = &pair.secret_key_ref {
            self.secret(reference, pair.value.as_ref(), store).await?
        } else if let Some(variable) = pair.env_ref.as_deref().filter(|name| !name.is_empty()) {
            self.variable(variable)?
        } else {
            pair.text().into_owned()
        };
        Ok(self.template.render(&text)?)
    }

    /// What a reference stands for; `given` is what the operator has put beside it.
    async fn secret(
        &self,
        reference: &SecretKeyRef,
        given: Option<&DynamicValue>,
        store: &str,
    ) -> Result<String> {
        let resolved_by_operator = self.kubernetes && store == KUBERNETES_STORE;
        if let Some(given) = given.filter(|_| resolved_by_operator) {
            return decode_secret(&given.text());
        }
        if store.is_empty() {
            bail!("secretKeyRef {:?} needs auth.secretStore", reference.name);
        }
        let secret = self.secrets.for_resource(store, &reference.name).await;
        let secret =
            secret.with_context(|| format!("secret {} of store {store}", reference.name))?;
        secret.get(reference.field()).cloned().with_context(|| {
            format!(
                "secret {} of store {store} has no key {}",
                reference.name,
                reference.field()
            )
        })
    }

    /// An HTTPEndpoint with its secrets in place.
    ///
    /// # Errors
    /// Names the field that cannot be resolved.
    pub async fn endpoint(&self, endpoint: &HttpEndpoint) -> Result<HttpEndpoint> {
        let store = self.store_or_default(endpoint.secret_store());
        let mut resolved = endpoint.clone();
        let spec = &mut resolved.spec;
        for header in &mut spec.headers {
            if let Some(reference) = header.secret_key_ref.take() {
                let secret = self.secret(&reference, header.value.as_ref(), store).await;
                let secret = secret.with_context(|| format!("spec.headers: {}", header.name))?;
                header.value = Some(secret.into());
            }
        }
        let tls = spec.client_tls.as_mut();
        let documents = tls.map(|tls| {
            [
                ("rootCA", &mut tls.root_ca),
                ("certificate", &mut tls.certificate),
                ("privateKey", &mut tls.private_key),
            ]
        });
        for (field, document) in documents.into_iter().flatten() {
            let Some(document) = document else { continue };
            if let Some(reference) = document.secret_key_ref.take() {
                let secret = self
                    .secret(&reference, document.value.as_ref(), store)
                    .await;
                let secret = secret.with_context(|| format!("spec.clientTLS.{field}"))?;
                document.value = Some(secret.into());
            }
        }
        Ok(resolved)
    }

    /// Components must not read the sidecar's own settings, nor what the platform has not listed (contract 3.2).
    fn variable(&self, name: &str) -> Result<String> {
        let upper = name.to_ascii_uppercase();
        let keys = &self.env_keys;
        let listed = keys.is_empty() || keys.iter().any(|key| key == name);
        if upper.starts_with("DAPR_") || upper.starts_with("APP_API_TOKEN") || !listed {
            bail!("environment variable {name} may not be read by components");
        }
        Ok(std::env::var(name).unwrap_or_default())
    }
}

/// The operator sends a secret as a JSON string of base64 (contract 5.3).
fn decode_secret(text: &str) -> Result<String> {
    let bytes = STANDARD
        .decode(text)
        .context("the operator's value of the secret is not base64")?;
    String::from_utf8(bytes).context("the secret is not UTF-8")
}

/// The field of a WebAssembly component that makes its sandbox strict.
const STRICT_SANDBOX: &str = "strictSandbox";

/// Sets the field, where it is the field of such a component.
fn enforce_strict(component_type: &str, fields: &mut Vec<(String, String)>) {
    let is_wasm = ["middleware.http.wasm", "bindings.wasm"]
        .iter()
        .any(|wasm| wasm.eq_ignore_ascii_case(component_type));
    if is_wasm {
        fields.retain(|(name, _)| !name.eq_ignore_ascii_case(STRICT_SANDBOX));
        fields.push((STRICT_SANDBOX.to_owned(), "true".to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strict_sandbox_is_not_the_components_to_lift() {
        let enforced = |component_type| {
            let mut fields = vec![("StrictSandbox".to_owned(), "false".to_owned())];
            enforce_strict(component_type, &mut fields);
            fields
        };
        let strict = vec![(STRICT_SANDBOX.to_owned(), "true".to_owned())];
        assert_eq!(enforced("middleware.HTTP.wasm"), strict);
        assert_eq!(enforced("middleware.http.opa")[0].1, "false");
    }
}
