//! From a Component resource to what its owner opens: secrets, environment and templates resolved, and the keys that the
//! runtime owns.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use blocks::Declared;
use component::{Instance, Lent, Metadata, Spawn};
use crds::{Component, Kind, NameValuePair};
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
        let store = self.secret_store(component);
        let mut fields = Vec::with_capacity(component.spec.metadata.len());
        for pair in &component.spec.metadata {
            let value = self
                .value(pair, store)
                .await
                .with_context(|| format!("metadata field {}", pair.name))?;
            fields.push((pair.name.clone(), value));
        }
        let mut metadata: Metadata = fields.into_iter().collect();
        if component.spec.category() == "pubsub" {
            metadata.set_default("consumerID", &self.instance.app_id);
        }
        Ok(metadata)
    }

    fn secret_store<'c>(&self, component: &'c Component) -> &'c str {
        match component.secret_store() {
            Some(store) if !store.is_empty() => store,
            _ if self.kubernetes => KUBERNETES_STORE,
            _ => "",
        }
    }

    async fn value(&self, pair: &NameValuePair, store: &str) -> Result<String> {
        let text = if let Some(reference) = &pair.secret_key_ref {
            let resolved_by_operator = self.kubernetes && store == KUBERNETES_STORE;
            if resolved_by_operator && pair.value.is_some() {
                decode_secret(&pair.text())?
            } else if store.is_empty() {
                bail!("secretKeyRef {:?} needs auth.secretStore", reference.name);
            } else {
                let secret = self.secrets.for_resource(store, &reference.name).await;
                let secret = secret
                    .with_context(|| format!("secret {} of store {store}", reference.name))?;
                secret.get(reference.field()).cloned().with_context(|| {
                    format!(
                        "secret {} of store {store} has no key {}",
                        reference.name,
                        reference.field()
                    )
                })?
            }
        } else if let Some(variable) = pair.env_ref.as_deref().filter(|name| !name.is_empty()) {
            self.variable(variable)?
        } else {
            pair.text().into_owned()
        };
        Ok(self.template.render(&text)?)
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
