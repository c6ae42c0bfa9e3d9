//! The state API over HTTP (contract 2.2).

use std::time::Duration;

use e2e::{Daprd, golden, wait};
use http::Method;
use serde_json::json;

use crate::resources::{STATE, component};

async fn sidecar() -> Daprd {
    Daprd::builder("app").resources(STATE).start().await
}

const PATH: &str = "/v1.0/state/statestore";

#[tokio::test]
async fn save_get_delete() {
    let daprd = sidecar().await;
    let http = daprd.http();
    http.get(&format!("{PATH}/planet")).await.expect_status(204);

    http.post(
        PATH,
        &json!([{"key": "planet", "value": {"name": "Mars", "moons": 2}}]),
    )
    .await
    .expect_status(204);
    let reply = http.get(&format!("{PATH}/planet")).await.expect_status(200);
    assert_eq!(reply.json(), json!({"name": "Mars", "moons": 2}));
    assert_eq!(reply.header("content-type"), "application/json");
    assert!(!reply.header("etag").is_empty());

    http.delete(&format!("{PATH}/planet"))
        .await
        .expect_status(204);
    let reply = http.get(&format!("{PATH}/planet")).await.expect_status(204);
    assert!(reply.body.is_empty());
    http.delete(&format!("{PATH}/planet"))
        .await
        .expect_status(204); // deleting what is not there is fine
    daprd.stop().await;
}

#[tokio::test]
async fn every_json_value_comes_back_as_it_went_in() {
    let daprd = sidecar().await;
    let http = daprd.http();
    let values = [
        json!("text"),
        json!(""),
        json!(12.5),
        json!(9_007_199_254_740_991_u64),
        json!(true),
        json!([]),
        json!({"ü": "\u{1F680}"}),
    ];
    for value in values {
        http.post(PATH, &json!([{"key": "k", "value": value}]))
            .await
            .expect_status(204);
        assert_eq!(
            http.get(&format!("{PATH}/k"))
                .await
                .expect_status(200)
                .json(),
            value
        );
    }
    daprd.stop().await;
}

#[tokio::test]
async fn put_is_post() {
    let daprd = sidecar().await;
    let request = daprd
        .http()
        .request(Method::PUT, PATH)
        .json(&json!([{"key": "k", "value": 1}]));
    request.send().await.expect_status(204);
    assert_eq!(
        daprd
            .http()
            .get(&format!("{PATH}/k"))
            .await
            .expect_status(200)
            .text(),
        "1"
    );
    daprd.stop().await;
}

#[tokio::test]
async fn etags_guard_writes_and_deletes() {
    let daprd = sidecar().await;
    let http = daprd.http();
    http.post(PATH, &json!([{"key": "k", "value": 1}]))
        .await
        .expect_status(204);
    let etag = http
        .get(&format!("{PATH}/k"))
        .await
        .header("etag")
        .to_owned();

    let write = |etag: &str| json!([{"key": "k", "value": 2, "etag": etag, "options": {"concurrency": "first-write"}}]);
    http.post(PATH, &write("not-it"))
        .await
        .expect_error(409, "ERR_STATE_SAVE");
    http.post(PATH, &write(&etag)).await.expect_status(204);
    http.post(PATH, &write(&etag))
        .await
        .expect_error(409, "ERR_STATE_SAVE");

    let delete = http
        .request(Method::DELETE, &format!("{PATH}/k"))
        .header("if-match", &etag);
    delete.send().await.expect_error(409, "ERR_STATE_DELETE");
    let etag = http
        .get(&format!("{PATH}/k"))
        .await
        .header("etag")
        .to_owned();
    let delete = http
        .request(Method::DELETE, &format!("{PATH}/k"))
        .header("if-match", &etag);
    delete.send().await.expect_status(204);
    daprd.stop().await;
}

#[tokio::test]
async fn bulk_get_answers_every_key() {
    let daprd = sidecar().await;
    let http = daprd.http();
    http.post(
        PATH,
        &json!([{"key": "a", "value": 1}, {"key": "b", "value": "two"}]),
    )
    .await
    .expect_status(204);
    let body = json!({"keys": ["a", "b", "none"], "parallelism": 2});
    let reply = http
        .post(&format!("{PATH}/bulk"), &body)
        .await
        .expect_status(200);
    let mut entries = reply.json().as_array().expect("an array").clone();
    entries.sort_by_key(|entry| entry["key"].to_string());
    assert_eq!(entries.len(), 3);
    assert_eq!(
        (&entries[0]["key"], &entries[0]["data"]),
        (&json!("a"), &json!(1))
    );
    assert!(entries[0]["etag"].is_string());
    assert_eq!(
        (&entries[1]["key"], &entries[1]["data"]),
        (&json!("b"), &json!("two"))
    );
    assert_eq!(entries[2], json!({"key": "none"}));
    daprd.stop().await;
}

#[tokio::test]
async fn transactions_apply_in_order() {
    let daprd = sidecar().await;
    let http = daprd.http();
    http.post(PATH, &json!([{"key": "old", "value": 0}]))
        .await
        .expect_status(204);
    let body = json!({"operations": [
        {"operation": "upsert", "request": {"key": "new", "value": {"a": 1}}},
        {"operation": "delete", "request": {"key": "old"}},
        {"operation": "upsert", "request": {"key": "new", "value": {"a": 2}}},
    ]});
    http.post(&format!("{PATH}/transaction"), &body)
        .await
        .expect_status(204);
    assert_eq!(
        http.get(&format!("{PATH}/new")).await.json(),
        json!({"a": 2})
    );
    http.get(&format!("{PATH}/old")).await.expect_status(204);

    let body = json!({"operations": [{"operation": "increment", "request": {"key": "new"}}]});
    let reply = http.post(&format!("{PATH}/transaction"), &body).await;
    reply.expect_error(400, "ERR_NOT_SUPPORTED_STATE_OPERATION");
    daprd.stop().await;
}

#[tokio::test]
async fn a_transaction_fails_as_a_whole() {
    let daprd = sidecar().await;
    let http = daprd.http();
    http.post(PATH, &json!([{"key": "guarded", "value": 0}]))
        .await
        .expect_status(204);
    let body = json!({"operations": [
        {"operation": "upsert", "request": {"key": "fresh", "value": 1}},
        {"operation": "upsert", "request": {
            "key": "guarded", "value": 1, "etag": "not-it", "options": {"concurrency": "first-write"}}},
    ]});
    let reply = http.post(&format!("{PATH}/transaction"), &body).await;
    assert_ne!(reply.status, 204);
    http.get(&format!("{PATH}/fresh")).await.expect_status(204);
    daprd.stop().await;
}

#[tokio::test]
async fn time_to_live_is_told_and_kept() {
    let daprd = sidecar().await;
    let http = daprd.http();
    let item = json!([{"key": "k", "value": 1, "metadata": {"ttlInSeconds": "1"}}]);
    http.post(PATH, &item).await.expect_status(204);
    let reply = http.get(&format!("{PATH}/k")).await.expect_status(200);
    assert!(
        reply.header("metadata.ttlexpiretime").contains('T'),
        "{:?}",
        reply.headers
    );
    wait::eventually("the key to expire", Duration::from_secs(10), || async {
        http.get(&format!("{PATH}/k")).await.status == 204
    })
    .await;
    daprd.stop().await;
}

#[tokio::test]
async fn prefixes_separate_apps_and_stores() {
    let shared = component("shared", "state.in-memory", &[("keyPrefix", "none")]);
    let daprd = Daprd::builder("app")
        .resources(STATE)
        .resources(&shared)
        .start()
        .await;
    let http = daprd.http();
    http.post(PATH, &json!([{"key": "k", "value": 1}]))
        .await
        .expect_status(204);
    http.get("/v1.0/state/shared/k").await.expect_status(204);
    http.get(&format!("{PATH}/app||k"))
        .await
        .expect_error(400, "ERR_MALFORMED_REQUEST");
    daprd.stop().await;
}

#[tokio::test]
async fn errors_as_clients_know_them() {
    let daprd = sidecar().await;
    let http = daprd.http();
    let headers = &["content-type"];
    golden::check(
        "state_store_not_found",
        &http.get("/v1.0/state/nostore/k").await,
        headers,
    );
    golden::check(
        "state_illegal_key",
        &http.get(&format!("{PATH}/a%7C%7Cb")).await,
        headers,
    );
    let query = http
        .post(
            "/v1.0-alpha1/state/statestore/query",
            &json!({"filter": {}}),
        )
        .await;
    golden::check("state_query_unsupported", &query, headers);
    for body in [
        "",
        "{",
        "{}",
        "[{\"key\": \"\", \"value\": 1}]",
        "[{\"key\": 5, \"value\": 1}]",
    ] {
        let request = http
            .request(Method::POST, PATH)
            .header("content-type", "application/json")
            .body(body);
        request
            .send()
            .await
            .expect_error(400, "ERR_MALFORMED_REQUEST");
    }
    daprd.stop().await;

    let daprd = Daprd::builder("app").start().await;
    golden::check(
        "state_store_not_configured",
        &daprd.http().get("/v1.0/state/nostore/k").await,
        headers,
    );
    daprd.stop().await;
}

#[tokio::test]
async fn words_that_nobody_knows_are_refused() {
    let daprd = sidecar().await;
    let http = daprd.http();
    http.post(PATH, &json!([{"key": "k", "value": 1}]))
        .await
        .expect_status(204);
    for (model, word) in [("concurrency", "bad"), ("consistency", "weak")] {
        let problem = format!("unrecognized {model} model '{word}'");
        let item = json!([{"key": "k", "value": 2, "options": {model: word}}]);
        let reply = http.post(PATH, &item).await;
        let reply = reply.expect_error(500, "ERR_STATE_SAVE");
        assert_eq!(
            reply.json()["message"],
            format!("failed saving state in state store statestore: {problem}")
        );
        let reply = http.delete(&format!("{PATH}/k?{model}={word}")).await;
        let reply = reply.expect_error(500, "ERR_STATE_DELETE");
        assert_eq!(
            reply.json()["message"],
            format!("failed deleting state with key k: {problem}")
        );
    }
    assert_eq!(http.get(&format!("{PATH}/k")).await.text(), "1");
    daprd.stop().await;
}

#[tokio::test]
async fn the_first_writer_does_not_delete_what_it_has_not_seen() {
    let daprd = sidecar().await;
    let http = daprd.http();
    let path = format!("{PATH}/k?concurrency=first-write");
    http.delete(&path).await.expect_status(204);
    http.post(PATH, &json!([{"key": "k", "value": 1}]))
        .await
        .expect_status(204);
    let reply = http.delete(&path).await;
    let reply = reply.expect_error(409, "ERR_STATE_DELETE");
    let text = reply.text();
    assert!(
        text.contains("item already exists and no etag was passed"),
        "{text}"
    );
    let request = http
        .request(Method::DELETE, &format!("{PATH}/k"))
        .header("if-match", "old");
    let text = request.send().await.expect_status(409).text();
    assert!(
        text.contains("key=app||k") && text.contains("expect=old"),
        "{text}"
    );
    daprd.stop().await;
}

#[tokio::test]
async fn a_list_is_no_bulk_request() {
    let daprd = sidecar().await;
    let http = daprd.http();
    for path in ["bulk", "transaction"] {
        let reply = http.post(&format!("{PATH}/{path}"), &json!([])).await;
        reply.expect_error(400, "ERR_MALFORMED_REQUEST");
    }
    let reply = http.post(&format!("{PATH}/bulk"), &json!({})).await;
    assert_eq!(reply.expect_status(200).text(), "[]");
    daprd.stop().await;
}

#[tokio::test]
async fn the_sqlite_store_survives_a_restart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("state.db").display().to_string();
    let store = component("statestore", "state.sqlite", &[("connectionString", &file)]);
    let builder = Daprd::builder("app").resources(&store);
    let daprd = builder.clone().start().await;
    daprd
        .http()
        .post(PATH, &json!([{"key": "k", "value": {"kept": true}}]))
        .await
        .expect_status(204);
    daprd.stop().await;

    let daprd = builder.start().await;
    assert_eq!(
        daprd
            .http()
            .get(&format!("{PATH}/k"))
            .await
            .expect_status(200)
            .json(),
        json!({"kept": true})
    );
    daprd.stop().await;
}

#[tokio::test]
async fn keys_may_be_called_as_operations_are() {
    let daprd = Daprd::builder("app").resources(STATE).start().await;
    let http = daprd.http();
    for key in ["bulk", "transaction"] {
        let item = json!([{"key": key, "value": key}]);
        let save = http.post("/v1.0/state/statestore", &item).await;
        save.expect_status(204);
        let path = format!("/v1.0/state/statestore/{key}");
        let read = http.get(&path).await.expect_status(200);
        assert_eq!(read.text(), format!("\"{key}\""));
        http.delete(&path).await.expect_status(204);
        http.get(&path).await.expect_status(204);
    }
    daprd.stop().await;
}

#[tokio::test]
async fn numbers_keep_their_digits() {
    let daprd = Daprd::builder("app").resources(STATE).start().await;
    let http = daprd.http();
    let numbers = "[31.245270191439438,123456789012345678901234567890,1.0,1E400]";
    let save = format!(r#"[{{"key": "saved", "value": {numbers}}}]"#);
    let transaction = format!(
        r#"{{"operations": [{{"operation": "upsert", "request": {{"key": "applied", "value": {numbers}}}}}]}}"#
    );
    http.put("/v1.0/state/statestore", save)
        .await
        .expect_status(204);
    http.put("/v1.0/state/statestore/transaction", transaction)
        .await
        .expect_status(204);
    for key in ["saved", "applied"] {
        let read = http.get(&format!("/v1.0/state/statestore/{key}")).await;
        assert_eq!(read.expect_status(200).text(), numbers, "{key}");
    }
    daprd.stop().await;
}
