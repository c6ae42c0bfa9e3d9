//! Probes of the app's health.

use std::time::Duration;

use app_channel::{HealthOptions, Protocol};
use bytes::Bytes;
use component::body;

use crate::{Setup, World, soon};

/// Long enough for several probes, each of which would wait for the busy app.
const PROBES: usize = 5;

#[tokio::test]
async fn probes_take_no_place_among_the_calls() {
    for protocol in [Protocol::Http, Protocol::Grpc] {
        let world = World::new(Setup {
            max_concurrency: Some(1),
            health: Some(HealthOptions {
                path: "/healthz".into(),
                interval: Duration::from_millis(50),
                timeout: Duration::from_millis(500),
                threshold: 1,
            }),
            ..Setup::new(protocol)
        })
        .await;
        let kind = if protocol.is_grpc() {
            "grpc_io"
        } else {
            "http"
        };
        let name = format!("dapr_{kind}_healthprobes_completed_count");
        assert!(world.callee_metrics.sum(&name).is_some(), "{name}");
        let busy = async {
            if protocol.is_grpc() {
                let message = body::full(Bytes::from_static(b"\0\0\0\0\x01x"));
                world.proxy("slow", &[], message).await;
            } else {
                world.call("slow", body::full("x")).await.unwrap();
            }
        };
        let mut busy = std::pin::pin!(busy);
        tokio::select! {
            () = &mut busy => panic!("the app does not answer yet"),
            _ = world.app.seen() => {}
        }
        // The only place is taken now.
        let before = probes(&world, &name);
        let mut health = world.channel.health();
        let probed = async {
            while probes(&world, &name) < before + PROBES {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = &mut busy => panic!("the app does not answer yet"),
            _ = health.wait_for(|healthy| !*healthy) => panic!("the app is only busy"),
            () = soon(probed) => {}
        }
        world.app.release();
        busy.await;
    }
}

fn probes(world: &World, name: &str) -> usize {
    world.callee_metrics.sum(name).unwrap_or_default() as usize
}
