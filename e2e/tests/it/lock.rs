//! Locks in a Redis, over both APIs.

use e2e::Daprd;
use e2e::redis::Redis;
use proto::runtime::v1::{TryLockRequest, UnlockRequest, unlock_response::Status};
use serde_json::{Value, json};
use tonic::Code;

use crate::resources::component;

const LOCK: &str = "/v1.0-alpha1/lock/locks";
const UNLOCK: &str = "/v1.0-alpha1/unlock/locks";

async fn sidecar(app_id: &str, redis: &Redis) -> Daprd {
    let address = redis.address();
    let fields = [("redisHost", address.as_str())];
    let store = component("locks", "lock.redis", &fields);
    Daprd::builder(app_id).resources(&store).start().await
}

fn take(owner: &str) -> Value {
    json!({"resourceId": "r", "lockOwner": owner, "expiryInSeconds": 60})
}

#[tokio::test]
async fn a_resource_has_one_owner_over_both_apis() {
    let redis = Redis::start().await;
    let daprd = sidecar("shop", &redis).await;
    let http = daprd.http();
    let taken = http.post(LOCK, &take("a")).await.expect_status(200);
    assert_eq!(taken.text(), r#"{"success":true}"#);
    let refused = http.post(LOCK, &take("b")).await.expect_status(200);
    assert_eq!(refused.text(), r#"{"success":false}"#);
    // Other sidecars find it under this key.
    let held = redis.ask(&["GET", "lock||shop||r"]).await;
    assert_eq!(held, "$1\r\na\r\n");

    let mut grpc = daprd.grpc();
    let try_lock = TryLockRequest {
        store_name: "locks".to_owned(),
        resource_id: "r".to_owned(),
        lock_owner: "b".to_owned(),
        expiry_in_seconds: 60,
    };
    let taken = grpc.try_lock_alpha1(try_lock.clone()).await.unwrap();
    assert!(!taken.into_inner().success);
    let unlock = UnlockRequest {
        store_name: "locks".to_owned(),
        resource_id: "r".to_owned(),
        lock_owner: "b".to_owned(),
    };
    let unlocked = grpc.unlock_alpha1(unlock.clone()).await.unwrap();
    assert_eq!(unlocked.into_inner().status(), Status::LockBelongsToOthers);
    let own = json!({"resourceId": "r", "lockOwner": "a"});
    for status in [0, 1] {
        let reply = http.post(UNLOCK, &own).await.expect_status(200);
        assert_eq!(reply.text(), format!("{{\"status\":{status}}}"));
    }
    let taken = grpc.try_lock_alpha1(try_lock).await.unwrap();
    assert!(taken.into_inner().success);

    // What another app calls by the same name is another resource.
    let other = sidecar("other", &redis).await;
    let free = other.http().post(LOCK, &take("c")).await;
    assert_eq!(free.expect_status(200).text(), r#"{"success":true}"#);
    other.stop().await;
    daprd.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told() {
    let redis = Redis::start().await;
    let daprd = sidecar("shop", &redis).await;
    let http = daprd.http();
    let with = |field: &str, value: Value| {
        let mut request = take("a");
        request[field] = value;
        request
    };
    for (request, status, code, text) in [
        (
            with("expiryInSeconds", json!(0)),
            400,
            "ERR_MALFORMED_REQUEST",
            "ExpiryInSeconds is not positive in lock store locks",
        ),
        (
            with("resourceId", json!("")),
            400,
            "ERR_MALFORMED_REQUEST",
            "ResourceId is empty in lock store locks",
        ),
        (
            with("lockOwner", json!("")),
            400,
            "ERR_MALFORMED_REQUEST",
            "LockOwner is empty in lock store locks",
        ),
        (
            with("resourceId", json!("a||b")),
            500,
            "ERR_TRY_LOCK",
            "failed to try acquiring lock: input key/keyPrefix 'a||b' can't contain '||'",
        ),
    ] {
        let reply = http.post(LOCK, &request).await.expect_error(status, code);
        assert_eq!(reply.json()["message"], text);
    }
    let missing = http.post("/v1.0-alpha1/lock/none", &take("a")).await;
    missing.expect_error(400, "ERR_LOCK_STORE_NOT_FOUND");
    let malformed = http.post(UNLOCK, &json!([])).await;
    malformed.expect_error(400, "ERR_MALFORMED_REQUEST");
    daprd.stop().await;

    let bare = Daprd::builder("bare").start().await;
    let none = bare.http().post(UNLOCK, &json!({})).await;
    none.expect_error(500, "ERR_LOCK_STORE_NOT_CONFIGURED");
    let none = bare.grpc().unlock_alpha1(UnlockRequest::default()).await;
    assert_eq!(none.unwrap_err().code(), Code::FailedPrecondition);
    bare.stop().await;
}
