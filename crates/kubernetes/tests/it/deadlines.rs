//! Every call and every read ends.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::ListParams;
use kubernetes::client::{ANSWER, READ, over};
use kubernetes_fake::{Fake, Fault, On};
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn a_call_that_is_never_answered_ends() {
    let fake = Fake::new();
    let maps: Api<ConfigMap> = Api::namespaced(over(fake.service()), "n");
    for (fault, limit) in [
        (Fault::Hang, ANSWER),
        (Fault::Mute, ANSWER),
        (Fault::Stall, READ),
    ] {
        fake.heal();
        fake.fault(On::all(), fault);
        let began = Instant::now();
        let params = ListParams::default();
        let asked = tokio::time::timeout(Duration::from_secs(3600), maps.list(&params));
        let error = asked.await.expect("it ends").expect_err("no answer");
        assert!(kubernetes::client::status(&error).is_none(), "{error}");
        let took = began.elapsed();
        assert!(
            took >= limit && took < limit + Duration::from_secs(1),
            "{fault:?}: {took:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn slow_answers_are_waited_for() {
    let fake = Fake::new();
    fake.fault(On::all(), Fault::Latency(ANSWER - Duration::from_secs(1)));
    let maps: Api<ConfigMap> = Api::namespaced(over(fake.service()), "n");
    assert!(
        maps.list(&ListParams::default())
            .await
            .expect("a list")
            .items
            .is_empty()
    );
}
