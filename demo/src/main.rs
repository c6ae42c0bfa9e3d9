//! The sample app: a shop that places an order every two seconds, a stock that reserves what is ordered, and shelves, which
//! are actors, and a desk that works on workflows. It knows its own sidecar and nothing else, neither the other app's address nor what keeps the state or
//! carries the events.
//!
//!   sample shop    reads and saves the last order's number, calls the stock, publishes the order
//!   sample stock   answers the calls, receives the orders and jobs; it also echoes requests, for the cluster suite
//!   sample shelf   hosts the actors, which set themselves reminders
//!   sample desk    works on each order in steps, which outlive it

mod desk;
mod shelf;
mod shop;
mod sidecar;
mod stock;

use std::io::Write;

fn main() -> anyhow::Result<()> {
    let role = std::env::args().nth(1).unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("0.0.0.0:8080").await?;
        let app = match role.as_str() {
            "shop" => shop::routes(),
            "stock" => stock::routes(),
            "shelf" => shelf::routes(),
            "desk" => desk::routes(),
            other => anyhow::bail!(
                "start it as `sample shop`, `stock`, `shelf` or `desk`, not {other:?}"
            ),
        };
        #[allow(
            clippy::disallowed_methods,
            reason = "an app of a user's, who has no transport crate"
        )]
        let serving = axum::serve(listener, app).into_future();
        tokio::select! {
            served = serving => Ok(served?),
            () = stopped() => Ok(()),
            () = shop::orders(), if role == "shop" => Ok(()),
            worked = desk::work(), if role == "desk" => worked,
        }
    })
}

/// Kubernetes stops a container with SIGTERM, which process 1 has to ask for.
async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    if let Ok(mut terminated) = signal(SignalKind::terminate()) {
        terminated.recv().await;
    }
}

/// What the demo shows is what the apps log.
fn log(line: &str) {
    let now = jiff::Timestamp::now().strftime("%H:%M:%S");
    // nobody to tell that nobody reads
    let _ = writeln!(std::io::stdout(), "{now} {line}");
}

/// The pod, as Kubernetes names the host.
fn pod() -> String {
    std::env::var("HOSTNAME").unwrap_or_else(|_| "this host".into())
}
