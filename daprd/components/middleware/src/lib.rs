//! HTTP middleware that decides on requests: who may pass (bearer tokens, OAuth 2), how often, and by which policy.

pub mod bearer;
pub mod client_credentials;
pub mod oauth2;
pub mod opa;
pub mod paths;
pub mod rate_limit;
pub mod sentinel;

use std::sync::Arc;

use component::{Catalog, Fields, HttpMiddleware, Registration, catalog::Taken};

/// Adds all of them.
///
/// # Errors
/// Where a name is taken already.
pub fn register(catalog: &mut Catalog) -> Result<(), Taken> {
    let family = &mut catalog.middleware;
    family.add(of("bearer", bearer::Settings::fields()), |open| async move {
        Ok(Arc::new(bearer::Bearer::open(open).await?) as Arc<dyn HttpMiddleware>)
    })?;
    family.add(
        of("oauth2", oauth2::Settings::fields()),
        |open| async move { Ok(Arc::new(oauth2::OAuth2::open(&open)?) as Arc<dyn HttpMiddleware>) },
    )?;
    family.add(
        of(
            "oauth2clientcredentials",
            client_credentials::Settings::fields(),
        ),
        |open| async move {
            let opened = client_credentials::ClientCredentials::open(&open)?;
            Ok(Arc::new(opened) as Arc<dyn HttpMiddleware>)
        },
    )?;
    family.add(of("opa", opa::Settings::fields()), |open| async move {
        Ok(Arc::new(opa::Opa::open(&open.metadata)?) as Arc<dyn HttpMiddleware>)
    })?;
    family.add(
        of("ratelimit", rate_limit::Settings::fields()),
        |open| async move {
            let limit = rate_limit::RateLimit::open(&open.metadata)?;
            Ok(Arc::new(limit) as Arc<dyn HttpMiddleware>)
        },
    )?;
    family.add(
        of("sentinel", sentinel::Settings::fields()),
        |open| async move {
            let opened = sentinel::Sentinel::open(&open.metadata)?;
            Ok(Arc::new(opened) as Arc<dyn HttpMiddleware>)
        },
    )
}

fn of(name: &str, fields: Fields) -> Registration {
    Registration::new("middleware", name, fields)
}
