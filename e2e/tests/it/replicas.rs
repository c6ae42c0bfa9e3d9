//! Several sidecars of one app, on one network: calls go to those that are there.

use e2e::{App, Daprd, app::Answer, wait};

/// A policy that makes no attempt but the first, so that each failure is seen.
const ONE_ATTEMPT: &str = "
apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata:
  name: once
spec:
  policies:
    retries:
      DaprBuiltInServiceRetries: {policy: constant, duration: 1ms, maxRetries: 0}
";

const CALLS: usize = 20;

async fn replica() -> (App, Daprd) {
    let answer = Answer::status(200);
    let app = App::builder().route("/who", answer).start().await;
    let daprd = Daprd::builder("twice").app(&app).start().await;
    (app, daprd)
}

#[tokio::test]
async fn one_that_was_killed_is_passed_over() {
    let _alone = wait::alone().await;
    let (left_app, left) = replica().await;
    let (right_app, right) = replica().await;
    let builder = Daprd::builder("caller").resources(ONE_ATTEMPT);
    let caller = builder.start().await;
    let http = caller.http();
    let status = async || http.get("/v1.0/invoke/twice/method/who").await.status;
    wait::eventually("calls at both replicas", wait::DEADLINE, async || {
        status().await;
        [&left_app, &right_app]
            .iter()
            .all(|app| !app.calls("/who").is_empty())
    })
    .await;

    // Nobody says goodbye.
    left.kill().await;
    let mut failed = 0;
    for _ in 0..CALLS {
        failed += usize::from(status().await != 200);
    }
    // One call on the connection that broke, and one that finds nobody at the address.
    assert!(failed <= 2, "{failed} of {CALLS} calls failed");
    caller.stop().await;
    right.stop().await;
}
