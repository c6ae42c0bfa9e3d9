//! Every call and every read ends.

use std::io::Write as _;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::ListParams;
use kubernetes::client::{ANSWER, READ, connect, over};
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

#[tokio::test]
async fn a_client_for_a_real_server_has_the_deadlines() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut kubeconfig = tempfile::NamedTempFile::new().expect("a file");
    let text = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    write!(kubeconfig, "{text}").expect("written");
    let client = connect(Some(kubeconfig.path())).await.expect("a client");
    let fake = Fake::new();
    let maps: Api<ConfigMap> = Api::namespaced(client, "n");
    let script = async {
        let params = ListParams::default();
        assert!(maps.list(&params).await.expect("a list").items.is_empty());
        for fault in [Fault::Hang, Fault::Stall] {
            fake.heal();
            fake.fault(On::all(), fault);
            let before = fake.seen().len();
            let asked = maps.list(&params);
            let silent = async {
                fake.until("the request", |fake| fake.seen().len() > before)
                    .await;
                // From here on nothing happens but timers, so they need not be waited for.
                tokio::time::pause();
            };
            let both = async { tokio::join!(asked, silent) };
            let (asked, ()) = tokio::time::timeout(Duration::from_secs(3600), both)
                .await
                .expect("it ends");
            tokio::time::resume();
            assert!(asked.is_err(), "{fault:?}");
        }
    };
    tokio::select! {
        () = fake.listen(listener) => unreachable!("it serves on"),
        () = script => {}
    }
}
