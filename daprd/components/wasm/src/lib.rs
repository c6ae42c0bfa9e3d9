//! HTTP middleware that is a WebAssembly module of the user's, by the handler ABI of http-wasm (<https://http-wasm.io>): a guest
//! looks at a request before what comes next, and at its response after it.
//!
//! The guest is interpreted, and sees nothing of the machine: no files, no environment, no network. What it may use of time
//! and memory is bounded ([`settings`]). It runs on the sidecar's own threads in slices, between which others have their turn, and
//! leaves them where it waits for a body.

mod abi;
mod bodies;
mod exchange;
mod guest;
mod headers;
mod memory;
mod meter;
mod middleware;
mod pool;
mod program;
mod settings;
mod source;
mod state;
mod text;
mod wasi;

pub use settings::Settings;

use std::sync::Arc;

use component::{Catalog, HttpMiddleware, Registration, catalog::Taken};

/// Adds it.
///
/// # Errors
/// Where the name is taken already.
pub fn register(catalog: &mut Catalog) -> Result<(), Taken> {
    let wasm = Registration::new("wasm", "wasm", Settings::fields());
    catalog.middleware.add(wasm, |open| async move {
        let opened = middleware::Wasm::open(open).await?;
        Ok(Arc::new(opened) as Arc<dyn HttpMiddleware>)
    })
}
