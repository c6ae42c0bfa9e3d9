//! `daprd --wait`: waits until the daprd on a port is ready, and exits.

use std::time::Duration;

use anyhow::{Result, bail};
use http::{Method, Request, StatusCode};
use transport::{ClientOptions, Connector};

/// How long to wait (contract 9.1).
const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// Polls `/v1.0/healthz/outbound`.
///
/// # Errors
/// Where it is not ready in time.
pub async fn until_ready(port: u16) -> Result<()> {
    let uri = format!("http://127.0.0.1:{port}/v1.0/healthz/outbound");
    let client = transport::client(Connector::plain(), ClientOptions::default());
    let ready = async {
        loop {
            let request = Request::builder()
                .method(Method::GET)
                .uri(&uri)
                .body(component::body::empty())?;
            match client.request(request).await {
                Ok(response) if response.status() == StatusCode::NO_CONTENT => return Ok(()),
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    };
    match tokio::time::timeout(LIMIT, ready).await {
        Ok(result) => result,
        Err(_) => bail!("daprd on port {port} was not ready within {LIMIT:?}"),
    }
}
