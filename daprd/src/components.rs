//! Brings Component resources to the parts that own them: checks, secrets, templates, then `apply` by type prefix.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use blocks::{Declared, Listed, Owner};
use component::{Instance, Lent, Metadata, Spawn};
use crds::{Component, Configuration, Kind, NameValuePair};
use telemetry::{Counter, Meter};
use tokio::sync::Mutex;
use values::{GoDuration, Template};

/// How long a component may take to open, unless it says otherwise (contract 3.3).
const INIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The secret store of a cluster; its values come resolved from the operator.
pub const KUBERNETES_STORE: &str = "kubernetes";

/// What the loader is made of.
pub struct Options {
    pub owners: Vec<Arc<dyn Owner>>,
    pub secrets: blocks::secrets::Stores,
    pub configuration: Configuration,
    pub template: Template,
    pub instance: Arc<Instance>,
    pub tasks: Arc<dyn Spawn>,
    pub lent: Lent,
    /// In a cluster the operator resolves `kubernetes` secrets, and an unnamed store is that one.
    pub kubernetes: bool,
    /// Environment variables that components may read; empty for all.
    pub env_keys: Vec<String>,
    pub meter: Meter,
}

/// Loads components and keeps what is loaded.
pub struct Loader {
    options: Options,
    /// What each name was loaded from; also serialises loading.
    loaded: Mutex<BTreeMap<String, Component>>,
    loaded_count: Counter,
    init_count: Counter,
    init_fail_count: Counter,
}

impl Loader {
    pub fn new(options: Options) -> Self {
        let meter = &options.meter;
        Self {
            loaded: Mutex::default(),
            loaded_count: meter.counter(
                "runtime/component/loaded",
                "The number of successfully loaded components.",
                &[],
            ),
            init_count: meter.counter(
                "runtime/component/init_total",
                "The number of initialized components.",
                &["component"],
            ),
            init_fail_count: meter.counter(
                "runtime/component/init_fail_total",
                "The number of component initialization failures.",
                &["component", "reason", "componentName"],
            ),
            options,
        }
    }

    /// Loads everything at start: secret stores first, because others refer to them, then the rest in order.
    ///
    /// # Errors
    /// The first component that fails and is not to be ignored.
    pub async fn load(&self, components: Vec<Component>) -> Result<()> {
        let (stores, others): (Vec<_>, Vec<_>) = components
            .into_iter()
            .partition(|component| component.spec.category() == "secretstores");
        for component in stores.into_iter().chain(others) {
            self.apply(component).await?;
        }
        Ok(())
    }

    /// Loads one component, or loads it anew if it has changed.
    ///
    /// # Errors
    /// Where it fails and is not to be ignored; says which one and why.
    pub async fn apply(&self, component: Component) -> Result<()> {
        let mut loaded = self.loaded.lock().await;
        let before = loaded.get(component.name());
        if before
            .is_some_and(|before| before.spec == component.spec && before.auth == component.auth)
        {
            return Ok(());
        }
        if let Some(before) = before
            && before.spec.component_type != component.spec.component_type
            && let Ok(owner) = self.owner(before)
        {
            owner.remove(component.name()).await;
        }
        let text = describe(&component);
        // A type of no known kind is no failure of a component: nobody could ignore it away.
        if let Err(error) = self.owner(&component) {
            tracing::warn!(
                "Error processing component, daprd will exit gracefully: process component {} error: {error:#}",
                component.name()
            );
            return Err(error.context(format!("process component {} error", component.name())));
        }
        match self.open(&component).await {
            Ok(()) => {
                tracing::info!("Component loaded: {text}");
                self.loaded_count.add(&[], 1);
                self.init_count.add(&[&component.spec.component_type], 1);
                loaded.insert(component.name().to_owned(), component);
                Ok(())
            }
            Err(error) => {
                let error = error.context(format!(
                    "[INIT_COMPONENT_FAILURE]: initialization error occurred for {text}"
                ));
                tracing::error!("Failed to init component {text}: {error:#}");
                let labels = [
                    component.spec.component_type.as_str(),
                    "init",
                    component.name(),
                ];
                self.init_fail_count.add(&labels, 1);
                if component.spec.ignore_errors {
                    tracing::error!("Ignoring error processing component: {error:#}");
                    return Ok(());
                }
                tracing::warn!(
                    "Error processing component, daprd will exit gracefully: process component {} error: {error:#}",
                    component.name()
                );
                Err(error)
            }
        }
    }

    /// Closes a component whose resource is gone.
    pub async fn remove(&self, name: &str) {
        let mut loaded = self.loaded.lock().await;
        if let Some(component) = loaded.remove(name)
            && let Ok(owner) = self.owner(&component)
        {
            owner.remove(name).await;
            tracing::info!("Component closed: {}", describe(&component));
        }
    }

    /// What is loaded, in order of names.
    pub fn components(&self) -> Vec<Listed> {
        let owners = self.options.owners.iter();
        let mut all: Vec<Listed> = owners.flat_map(|owner| owner.components()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Closes all, in the reverse order of their owners.
    pub async fn close(&self) {
        for owner in self.options.owners.iter().rev() {
            owner.close().await;
        }
    }

    async fn open(&self, component: &Component) -> Result<()> {
        let spec = &component.spec;
        let configuration = &self.options.configuration.spec;
        if configuration.denies_component(&spec.component_type, version(component)) {
            bail!("component type {} is on the deny list", spec.component_type);
        }
        let owner = self.owner(component)?;
        let init_timeout = match &spec.init_timeout {
            None => INIT_TIMEOUT,
            Some(text) => text
                .parse::<GoDuration>()
                .with_context(|| format!("spec.initTimeout {text:?}"))?
                .to_std()
                .with_context(|| format!("spec.initTimeout {text:?} is negative"))?,
        };
        let declared = Declared {
            name: component.name().to_owned(),
            component_type: spec.component_type.clone(),
            version: version(component).to_owned(),
            metadata: self.metadata(component).await?,
            init_timeout,
            instance: Arc::clone(&self.options.instance),
            tasks: Arc::clone(&self.options.tasks),
            lent: self.options.lent.clone(),
        };
        Ok(owner.apply(declared).await?)
    }

    fn owner(&self, component: &Component) -> Result<&Arc<dyn Owner>> {
        let component_type = component.spec.component_type.to_ascii_lowercase();
        self.options
            .owners
            .iter()
            .find(|owner| component_type.starts_with(owner.prefix()))
            .ok_or_else(|| anyhow!("incorrect type {}", component.spec.component_type))
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
            metadata.set_default("consumerID", &self.options.instance.app_id);
            let mut written = component.spec.metadata.iter();
            if written.any(|pair| values::template::names_namespace(&pair.text())) {
                metadata.set_default(pubsub::NAMESPACED, "true");
            }
        }
        Ok(metadata)
    }

    fn secret_store<'c>(&self, component: &'c Component) -> &'c str {
        match component.secret_store() {
            Some(store) if !store.is_empty() => store,
            _ if self.options.kubernetes => KUBERNETES_STORE,
            _ => "",
        }
    }

    async fn value(&self, pair: &NameValuePair, store: &str) -> Result<String> {
        let text = if let Some(reference) = &pair.secret_key_ref {
            let resolved_by_operator = self.options.kubernetes && store == KUBERNETES_STORE;
            if resolved_by_operator && pair.value.is_some() {
                decode_secret(&pair.text())?
            } else if store.is_empty() {
                bail!("secretKeyRef {:?} needs auth.secretStore", reference.name);
            } else {
                let secret = self
                    .options
                    .secrets
                    .for_resource(store, &reference.name)
                    .await?;
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
        Ok(self.options.template.render(&text)?)
    }

    /// Components must not read the sidecar's own settings, nor what the platform has not listed (contract 3.2).
    fn variable(&self, name: &str) -> Result<String> {
        let upper = name.to_ascii_uppercase();
        let keys = &self.options.env_keys;
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

fn version(component: &Component) -> &str {
    match component.spec.version.as_str() {
        "" => "v1",
        given => given,
    }
}

/// `name (type/version)`
fn describe(component: &Component) -> String {
    format!(
        "{} ({}/{})",
        component.name(),
        component.spec.component_type,
        version(component)
    )
}
