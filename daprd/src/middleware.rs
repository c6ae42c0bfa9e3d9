//! HTTP middleware components, and the pipelines that the Configuration makes of them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use blocks::{
    Declared, Kind, Listed, LoadError, Loaded, Owner, Registry,
    registry::{self, AnyRegistry},
};
use component::{Body, Component, HttpMiddleware, catalog, middleware::Next};
use crds::configuration::{Pipeline, PipelineEntry};

static MIDDLEWARE: Kind<dyn HttpMiddleware> = Kind {
    prefix: "middleware.http.",
    calls: None,
    family: |catalog| &catalog.middleware,
};

/// A pipeline that servers read on every request.
pub type Links = Arc<ArcSwap<Vec<Arc<dyn HttpMiddleware>>>>;

/// The middleware components, and the pipelines they stand in.
pub struct Middleware {
    api: (Pipeline, Links),
    app: (Pipeline, Links),
    registry: Registry<dyn HttpMiddleware>,
}

/// A component as a link of a pipeline. Requests hold the pipeline that they go through, so a component that is replaced
/// stays open for those that are in it.
struct Link(Arc<Loaded<dyn HttpMiddleware>>);

impl Component for Link {}

#[async_trait]
impl HttpMiddleware for Link {
    async fn call(&self, request: http::Request<Body>, next: Next<'_>) -> http::Response<Body> {
        self.0.call(request, next).await
    }
}

impl Middleware {
    pub fn new(options: registry::Options, api: Pipeline, app: Pipeline) -> Self {
        Self {
            api: (api, Links::default()),
            app: (app, Links::default()),
            registry: Registry::new(&MIDDLEWARE, options),
        }
    }

    /// The pipeline around the API.
    pub fn api(&self) -> Links {
        Arc::clone(&self.api.1)
    }

    /// The pipeline around calls to the app.
    pub fn app(&self) -> Links {
        Arc::clone(&self.app.1)
    }

    /// Names that the pipelines ask for and nobody has loaded.
    pub fn missing(&self) -> Vec<String> {
        let entries = self.api.0.handlers.iter().chain(&self.app.0.handlers);
        entries
            .filter(|entry| self.find(entry).is_none())
            .map(|entry| format!("{} ({})", entry.name, entry.component_type))
            .collect()
    }

    /// The component that an entry means: the one of its name, if type and version are the entry's too.
    fn find(&self, entry: &PipelineEntry) -> Option<Arc<Loaded<dyn HttpMiddleware>>> {
        let loaded = self.registry.find(&entry.name).ok()?;
        let Listed {
            component_type,
            version,
            ..
        } = &loaded.listed;
        let asked = catalog::key(
            &entry.component_type,
            entry.version.as_deref().unwrap_or_default(),
        );
        let same = catalog::key(component_type, version) == asked;
        same.then_some(loaded)
    }

    fn rebuild(&self) {
        for (pipeline, links) in [&self.api, &self.app] {
            let entries = pipeline.handlers.iter();
            let found = entries.filter_map(|entry| self.find(entry));
            let found = found.map(|loaded| Arc::new(Link(loaded)) as Arc<dyn HttpMiddleware>);
            links.store(Arc::new(found.collect()));
        }
    }
}

#[async_trait]
impl Owner for Middleware {
    fn registry(&self) -> &dyn AnyRegistry {
        &self.registry
    }

    async fn apply(&self, declared: Declared) -> Result<(), LoadError> {
        let link = self.registry.open(&declared).await?;
        let old = self.registry.swap(declared.listed(Vec::new()), link, ());
        self.rebuild();
        if let Some(old) = old {
            registry::retire(old).await;
        }
        Ok(())
    }

    async fn remove(&self, name: &str) {
        let old = self.registry.take(name);
        self.rebuild();
        if let Some(old) = old {
            registry::retire(old).await;
        }
    }

    async fn close(&self) {
        self.api.1.store(Arc::default());
        self.app.1.store(Arc::default());
        self.registry.close().await;
    }
}
