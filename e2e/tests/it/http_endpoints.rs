//! HTTPEndpoints whose headers and certificates stand in a secret store.

use e2e::app::Answer;
use e2e::{App, Daprd};
use serde_json::json;

use crate::resources::component;

#[tokio::test]
async fn secrets_are_read_from_the_store_that_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("secrets.json");
    std::fs::write(&file, json!({"token": "s3cret"}).to_string()).expect("a file");
    let store = component(
        "vault",
        "secretstores.local.file",
        &[("secretsFile", &file.display().to_string())],
    );
    let server = App::builder()
        .route("/hello", Answer::bytes("hi"))
        .start()
        .await;
    let endpoint = |name: &str, secret: &str| {
        format!(
            "apiVersion: dapr.io/v1alpha1
kind: HTTPEndpoint
metadata: {{name: {name}}}
spec:
  baseUrl: http://127.0.0.1:{}
  headers:
  - name: x-token
    secretKeyRef: {{name: {secret}}}
auth: {{secretStore: vault}}
",
            server.port()
        )
    };
    let daprd = Daprd::builder("app")
        .resources(&store)
        .resources(&endpoint("good", "token"))
        .resources(&endpoint("bad", "nothing"))
        .start()
        .await;
    let reply = daprd.http().get("/v1.0/invoke/good/method/hello").await;
    assert_eq!(reply.expect_status(200).text(), "hi");
    assert_eq!(server.calls("/hello")[0].header("x-token"), "s3cret");
    // The other is left out, and told.
    daprd.logged("HTTPEndpoint bad is not loaded").await;
    let metadata = daprd.http().get("/v1.0/metadata").await.json();
    assert_eq!(metadata["httpEndpoints"], json!([{"name": "good"}]));
    daprd.stop().await;
}
