//! HTTP middleware components, and the pipelines that the Configuration makes of them.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use blocks::{Declared, Listed, LoadError, Owner};
use component::{Catalog, HttpMiddleware};
use crds::configuration::Pipeline;
use parking_lot::Mutex;

/// A pipeline that servers read on every request.
pub type Links = Arc<ArcSwap<Vec<Arc<dyn HttpMiddleware>>>>;

/// The middleware components, and the pipelines they stand in.
pub struct Middleware {
    catalog: Arc<Catalog>,
    api: (Pipeline, Links),
    app: (Pipeline, Links),
    loaded: Mutex<BTreeMap<String, Loaded>>,
}

/// A component as it is listed, and the link it is.
type Loaded = (Listed, Arc<dyn HttpMiddleware>);

impl Middleware {
    pub fn new(catalog: Arc<Catalog>, api: Pipeline, app: Pipeline) -> Self {
        Self {
            catalog,
            api: (api, Links::default()),
            app: (app, Links::default()),
            loaded: Mutex::default(),
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
        let loaded = self.loaded.lock();
        let entries = self.api.0.handlers.iter().chain(&self.app.0.handlers);
        entries
            .filter(|entry| !loaded.contains_key(&entry.name))
            .map(|entry| format!("{} ({})", entry.name, entry.component_type))
            .collect()
    }

    fn rebuild(&self) {
        let loaded = self.loaded.lock();
        for (pipeline, links) in [&self.api, &self.app] {
            let entries = pipeline.handlers.iter();
            let found = entries.filter_map(|entry| loaded.get(&entry.name));
            links.store(Arc::new(found.map(|(_, link)| Arc::clone(link)).collect()));
        }
    }
}

#[async_trait]
impl Owner for Middleware {
    fn prefix(&self) -> &'static str {
        "middleware.http."
    }

    async fn apply(&self, declared: Declared) -> Result<(), LoadError> {
        let component_type = declared.type_below(self.prefix());
        let opening =
            self.catalog
                .middleware
                .open(&component_type, &declared.version, declared.open());
        let link = declared.within_limit(opening).await?;
        let entry = (declared.listed(Vec::new()), link);
        let old = self.loaded.lock().insert(declared.name.clone(), entry);
        self.rebuild();
        if let Some((_, old)) = old {
            old.close().await;
        }
        Ok(())
    }

    async fn remove(&self, name: &str) {
        let old = self.loaded.lock().remove(name);
        self.rebuild();
        if let Some((_, old)) = old {
            old.close().await;
        }
    }

    fn components(&self) -> Vec<Listed> {
        let loaded = self.loaded.lock();
        loaded.values().map(|(listed, _)| listed.clone()).collect()
    }

    async fn close(&self) {
        let all = std::mem::take(&mut *self.loaded.lock());
        for (_, link) in all.into_values() {
            link.close().await;
        }
    }
}
