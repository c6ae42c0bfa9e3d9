//! The loaded bindings of both directions, and which inputs are read. A type may be both; each direction is a component of
//! its own then, as upstream has it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use app_channel::AppChannel;
use async_trait::async_trait;
use blocks::{
    Declared, Intake, Kind, Listed, LoadError, Loaded, Owner, Registry, Tasks,
    registry::{self, AnyRegistry, Called},
    state,
};
use component::{
    InputBinding, Spawn,
    bindings::{InvokeRequest, InvokeResponse},
};
use parking_lot::Mutex;
use resiliency::ComponentKind;
use telemetry::trace::Tracer;
use tokio::{sync::OnceCell, time::timeout};

use crate::{Error, metrics::Metrics, output::Outputs, reader::HANDOVER, readers::Readers};

/// Types of both directions begin with it.
pub(crate) const PREFIX: &str = "bindings.";

pub(crate) const LOG: &str = "dapr.runtime.processor.binding";

static INPUT: Kind<dyn InputBinding> = Kind {
    prefix: PREFIX,
    calls: Some(Called {
        // Events are counted where they are delivered.
        metrics: None,
        policies: ComponentKind::Binding,
    }),
    family: |catalog| &catalog.input_bindings,
};

/// What the engine is made of.
pub struct Options {
    pub registry: registry::Options,
    pub app: AppChannel,
    /// Where answers of the app are saved that ask for it.
    pub state: state::Stores,
    pub tracer: Tracer,
    /// How long the app may take to say whether it takes the events of a binding.
    pub options_timeout: Duration,
    /// What runs its tasks.
    pub spawn: Arc<dyn Spawn>,
}

/// Bindings of both directions. Clones share them.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

pub(crate) struct Inner {
    pub outputs: Outputs,
    pub inputs: Registry<dyn InputBinding, Input>,
    pub app: AppChannel,
    pub state: state::Stores,
    pub tracer: Tracer,
    pub metrics: Metrics,
    pub options_timeout: Duration,
    /// What a gRPC app has said that it takes, once it has.
    pub taken: OnceCell<Vec<String>>,
    pub readers: Mutex<Readers>,
    pub tasks: Tasks,
}

/// What is kept beside an input.
pub struct Input {
    /// Where the app takes its events.
    pub route: String,
    /// The resource says that it is an input: the app is not asked.
    pub explicit: bool,
}

/// Which directions a resource asks for; none of them named asks for what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Directions {
    named: bool,
    input: bool,
    output: bool,
}

impl Directions {
    fn parse(text: Option<&str>) -> Self {
        let has = |direction: &str| {
            let mut parts = text.unwrap_or_default().split(',');
            parts.any(|part| part.trim().eq_ignore_ascii_case(direction))
        };
        Self {
            named: text.is_some(),
            input: text.is_none() || has("input"),
            output: text.is_none() || has("output"),
        }
    }
}

impl Engine {
    pub fn new(options: Options) -> Self {
        let meter = &options.registry.meter;
        Self(Arc::new(Inner {
            metrics: Metrics::new(meter, &options.registry.namespace),
            outputs: Outputs::new(options.registry.clone()),
            inputs: Registry::new(&INPUT, options.registry),
            app: options.app,
            state: options.state,
            tracer: options.tracer,
            options_timeout: options.options_timeout,
            taken: OnceCell::new(),
            readers: Mutex::default(),
            tasks: Tasks::new(options.spawn),
        }))
    }

    /// Calls an output binding.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn invoke(
        &self,
        name: &str,
        request: &InvokeRequest,
    ) -> Result<InvokeResponse, Error> {
        self.0.outputs.invoke(name, request).await
    }
}

#[async_trait]
impl Intake for Engine {
    async fn start(&self) {
        if self.0.app.is_configured() {
            let changes = self.0.reconcile(None, |readers| readers.active = true);
            changes.begun().await;
        }
    }

    async fn stop(&self) {
        let changes = self.0.reconcile(None, |readers| readers.active = false);
        changes.ended().await;
    }

    async fn drain(&self) {
        self.0.reconcile(None, |readers| readers.closed = true);
        self.0.tasks.ended().await;
    }
}

impl Inner {
    /// Has an input read in place of the one before, which is closed once its events have been delivered.
    async fn handed_over(
        self: &Arc<Self>,
        name: &str,
        old: Option<Arc<Loaded<dyn InputBinding, Input>>>,
    ) {
        let ended = self.reconcile(Some(name), |_| {}).ended();
        if let Some(old) = old {
            // Those that take longer are cut short by the closing.
            let _ = timeout(HANDOVER, ended).await;
            registry::retire(old).await;
        }
    }
}

/// A binding that is replaced is opened beside the one before. Its events are taken once those of the old one have been
/// delivered, so that nothing is taken twice; where that takes longer than [`HANDOVER`], they are taken anyway.
#[async_trait]
impl Owner for Engine {
    /// That of the inputs. Types of both directions have one prefix; everything else is done for both.
    fn registry(&self) -> &dyn AnyRegistry {
        &self.0.inputs
    }

    async fn apply(&self, declared: Declared) -> Result<(), LoadError> {
        let inner = &self.0;
        let (name, component_type) = (&declared.name, declared.type_below(PREFIX));
        let directions = Directions::parse(declared.metadata.text("direction"));
        let catalog = inner.inputs.catalog();
        let is_input = catalog
            .input_bindings
            .contains(&component_type, &declared.version);
        let is_output = catalog
            .output_bindings
            .contains(&component_type, &declared.version);
        let input = match is_input && directions.input {
            true => Some(inner.inputs.open(&declared).await?),
            false => None,
        };
        // A type that there is not at all is told of here.
        let output = match (is_output && directions.output) || !(is_input || is_output) {
            true => Some(inner.outputs.0.open(&declared).await?),
            false => None,
        };
        match output {
            Some(output) => {
                let listed = declared.listed(vec!["OUTPUT_BINDING"]);
                inner.outputs.0.replace(listed, output, ()).await;
            }
            None => inner.outputs.0.remove(name).await,
        }
        match input {
            Some(input) => {
                let route = declared.metadata.text("route").unwrap_or(name);
                let beside = Input {
                    route: route.to_owned(),
                    explicit: directions.named,
                };
                let listed = declared.listed(vec!["INPUT_BINDING"]);
                let old = inner.inputs.swap(listed, input, beside);
                inner.handed_over(name, old).await;
            }
            None => inner.handed_over(name, inner.inputs.take(name)).await,
        }
        Ok(())
    }

    async fn remove(&self, name: &str) {
        let inner = &self.0;
        inner.handed_over(name, inner.inputs.take(name)).await;
        inner.outputs.0.remove(name).await;
    }

    fn components(&self) -> Vec<Listed> {
        let inputs = self.0.inputs.listed().into_iter();
        let mut all: BTreeMap<String, Listed> =
            inputs.map(|listed| (listed.name.clone(), listed)).collect();
        for output in self.0.outputs.0.listed() {
            match all.get_mut(&output.name) {
                Some(both) => both.capabilities.extend(output.capabilities),
                None => {
                    all.insert(output.name.clone(), output);
                }
            }
        }
        all.into_values().collect()
    }

    async fn close(&self) {
        self.drain().await;
        self.0.inputs.close().await;
        self.0.outputs.0.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::Directions;

    #[test]
    fn directions_are_words_in_a_list() {
        let directions = |named, input, output| Directions {
            named,
            input,
            output,
        };
        assert_eq!(Directions::parse(None), directions(false, true, true));
        let both = Directions::parse(Some("Input, output"));
        assert_eq!(both, directions(true, true, true));
        let input = Directions::parse(Some(" INPUT "));
        assert_eq!(input, directions(true, true, false));
        let other = Directions::parse(Some("sideways"));
        assert_eq!(other, directions(true, false, false));
    }
}
