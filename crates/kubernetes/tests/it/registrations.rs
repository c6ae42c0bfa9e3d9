//! Registrations that somebody writes over.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kubernetes::client::over;
use kubernetes::registration::{Outcome, PERIOD, keep};
use kubernetes_fake::{Fake, Fault, On};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

const MAPS: &str = "/api/v1/configmaps";

fn there(anchors: &str) -> Value {
    json!({"metadata": {"name": "webhook", "namespace": "n"}, "data": {"anchors": anchors}})
}

fn anchors(fake: &Fake) -> Value {
    fake.object(MAPS, "n", "webhook")
        .map_or(Value::Null, |it| it["data"]["anchors"].clone())
}

#[tokio::test(start_paused = true)]
async fn it_is_said_again_when_it_changes_and_when_somebody_has_written_over_it() {
    let fake = Fake::new();
    let maps: Api<ConfigMap> = Api::namespaced(over(fake.service()), "n");
    let (wanted, receiver) = watch::channel("one".to_owned());
    let (ready, shutdown) = (watch::Sender::new(0), CancellationToken::new());
    let assert = async |text: String, _| {
        if maps.get_opt("webhook").await?.is_none() {
            return Ok(Outcome::Missing);
        }
        let patch = Patch::Merge(json!({"data": {"anchors": text}}));
        maps.patch("webhook", &PatchParams::default(), &patch)
            .await?;
        Ok(Outcome::Registered)
    };
    let edited = Notify::new();
    let kept = keep(
        "the webhook",
        receiver,
        &edited,
        assert,
        || ready.send_modify(|it| *it += 1),
        &shutdown,
    );
    let script = async {
        fake.until("ready without an object", |_| *ready.borrow() > 0)
            .await;
        fake.put(MAPS, there("replaceme"));
        fake.fault(On::verb("patch").times(2), Fault::Status(500));
        for wait in 0..3 {
            tokio::time::sleep(PERIOD).await;
            assert!(wait < 2 || anchors(&fake) == "one", "{:?}", fake.lines());
        }
        wanted.send_replace("two".to_owned());
        fake.until("the change", |fake| anchors(fake) == "two")
            .await;
        fake.put(MAPS, there("replaceme"));
        tokio::time::sleep(PERIOD * 2).await;
        assert_eq!(anchors(&fake), "two", "written over");
        fake.fault(On::verb("patch"), Fault::Hang);
        fake.put(MAPS, there("replaceme"));
        tokio::time::sleep(PERIOD * 3).await;
        fake.heal();
        tokio::time::sleep(PERIOD * 3).await;
        assert_eq!(anchors(&fake), "two", "after a server that did not answer");
        shutdown.cancel();
    };
    tokio::join!(kept, script);
}
