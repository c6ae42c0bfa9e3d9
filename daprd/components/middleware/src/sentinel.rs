//! `middleware.http.sentinel`: limits requests by the rules of Sentinel, whose resources are a method and a path
//! (`POST:/v1.0/invoke/app/method/m`): so many in a time, so many at once, none while they are slow or fail, and so many in
//! all.

mod breaker;
mod entry;
mod rules;
mod window;

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use component::{
    Body, Component, Error, HttpMiddleware, Metadata, Result,
    middleware::{Next, answer},
};
use http::{Request, Response, StatusCode};
use tokio::time::Instant;

use breaker::Breaker;
use entry::Entry;
use rules::{Concurrency, Flow, System};

component::metadata! {
    /// What the middleware is opened with: lists of rules, in JSON.
    pub struct Settings {
        /// How many requests may come in a time.
        flow: Option<String> => "flowRules";
        /// When no more requests come through because they are slow or fail.
        breakers: Option<String> => "circuitBreakerRules";
        /// How many requests may be under way.
        isolation: Option<String> => "isolationRules";
        /// How many requests may come, or be under way, in all, and how slow they may be.
        system: Option<String> => "systemRules";
    }
    // What logs go to is the sidecar's affair, and requests have no parameters that rules could name.
    ignored { "appName": Text, "logDir": Text, "hotSpotParamRules": Text }
}

/// The rules for one resource.
#[derive(Default)]
struct Resource {
    flows: Vec<Flow>,
    concurrencies: Vec<Concurrency>,
    breakers: Vec<Breaker>,
}

/// Limits requests.
pub struct Sentinel {
    resources: HashMap<String, Arc<Resource>>,
    system: Arc<System>,
}

impl Sentinel {
    /// Reads the rules.
    ///
    /// # Errors
    /// Names the field, and what is wrong with a rule.
    pub fn open(metadata: &Metadata) -> Result<Self> {
        let settings = Settings::read(metadata)?;
        let mut resources = HashMap::<String, Resource>::new();
        for rule in rules::list("flowRules", settings.flow.as_deref())? {
            let (resource, flow) = Flow::new(rule).map_err(wrong("flowRules"))?;
            resources.entry(resource).or_default().flows.push(flow);
        }
        for rule in rules::list("isolationRules", settings.isolation.as_deref())? {
            let (resource, rule) = Concurrency::new(rule).map_err(wrong("isolationRules"))?;
            resources
                .entry(resource)
                .or_default()
                .concurrencies
                .push(rule);
        }
        for rule in rules::list("circuitBreakerRules", settings.breakers.as_deref())? {
            let (resource, rule) = Breaker::new(rule).map_err(wrong("circuitBreakerRules"))?;
            resources.entry(resource).or_default().breakers.push(rule);
        }
        let system = rules::list("systemRules", settings.system.as_deref())?;
        Ok(Self {
            resources: resources
                .into_iter()
                .map(|(name, resource)| (name, Arc::new(resource)))
                .collect(),
            system: Arc::new(System::new(&system).map_err(wrong("systemRules"))?),
        })
    }

    /// The resources that a request may be meant for: one for each reading of its path.
    fn meant(&self, request: &Request<Body>) -> Vec<Arc<Resource>> {
        if self.resources.is_empty() {
            return Vec::new();
        }
        let method = request.method();
        let paths = values::path::requested(request.uri().path());
        let names = paths.iter().map(|path| format!("{method}:{path}"));
        names
            .filter_map(|name| self.resources.get(&name).cloned())
            .collect()
    }

    /// Lets a request in, perhaps after a pause. What it has taken when it is refused, or given up, it gives back.
    async fn enter(&self, resources: Vec<Arc<Resource>>) -> Option<Entry> {
        let now = Instant::now();
        if !self.system.admits(now) {
            return None;
        }
        let mut begins = now;
        for resource in &resources {
            for flow in &resource.flows {
                begins = begins.max(flow.admits(now)?);
            }
        }
        let mut entry = Entry::new(&self.system);
        for resource in resources {
            entry.take(resource, now)?;
        }
        if begins > now {
            tokio::time::sleep_until(begins).await;
        }
        entry.begins(begins);
        Some(entry)
    }
}

fn wrong(field: &'static str) -> impl Fn(String) -> Error {
    move |problem| Error::invalid_metadata(field, problem)
}

impl Component for Sentinel {}

#[async_trait]
impl HttpMiddleware for Sentinel {
    async fn call(&self, request: Request<Body>, next: Next<'_>) -> Response<Body> {
        let meant = self.meant(&request);
        let Some(entry) = self.enter(meant).await else {
            return answer::status(StatusCode::TOO_MANY_REQUESTS);
        };
        let method = request.method().clone();
        let response = next.run(request).await;
        entry.follow(&method, response)
    }
}

#[cfg(test)]
mod tests;
