//! `middleware.http.sentinel`: limits requests by the rules of Sentinel, whose resources are a method and a path
//! (`POST:/v1.0/invoke/app/method/m`): so many in a time, so many at once, none while they are slow or fail, and so many in
//! all.

mod breaker;
mod rules;
mod window;

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use component::{Body, Component, Error, HttpMiddleware, Metadata, Result, body, middleware::Next};
use http::{Request, Response, StatusCode};
use tokio::time::Instant;

use crate::answer;
use breaker::Breaker;
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

/// A request that is under way.
struct Entry {
    resources: Vec<Arc<Resource>>,
    system: Arc<System>,
    began: Instant,
    failed: bool,
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

    /// Lets a request in, perhaps after a pause.
    async fn enter(&self, resources: Vec<Arc<Resource>>) -> Option<Entry> {
        let began = Instant::now();
        if !self.system.admits(began) {
            return None;
        }
        let mut pause = began;
        for resource in &resources {
            for flow in &resource.flows {
                pause = pause.max(flow.admits(began)?);
            }
        }
        let all = || resources.iter().flat_map(|it| &it.concurrencies);
        let entered = all().take_while(|limit| limit.enter()).count();
        let free = entered == all().count()
            && resources
                .iter()
                .flat_map(|it| &it.breakers)
                .all(|breaker| breaker.admits(began));
        if !free {
            all().take(entered).for_each(Concurrency::leave);
            return None;
        }
        self.system.enter();
        let mut entry = Entry {
            resources,
            system: Arc::clone(&self.system),
            began,
            failed: false,
        };
        if pause > began {
            tokio::time::sleep_until(pause).await;
            entry.began = pause;
        }
        Some(entry)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let now = Instant::now();
        let took = now.saturating_duration_since(self.began);
        for resource in &self.resources {
            resource.concurrencies.iter().for_each(Concurrency::leave);
            for breaker in &resource.breakers {
                breaker.record(now, took, self.failed);
            }
        }
        self.system.leave(now, took);
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
        let Some(mut entry) = self.enter(meant).await else {
            return answer::status(StatusCode::TOO_MANY_REQUESTS);
        };
        let response = next.run(request).await;
        entry.failed = response.status().is_server_error();
        // It is under way until its answer has been read.
        response.map(|body| body::held(body, entry))
    }
}

#[cfg(test)]
mod tests;
