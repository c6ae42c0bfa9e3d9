//! Sessions with servers over all three transports.

use std::sync::Arc;

use serde_json::Value;

use super::*;
use crate::fake::Fake;

const LIMITS: Limits = Limits {
    timeout: Duration::from_secs(10),
    message: 1 << 20,
};

async fn endpoint(fake: &Fake, endpoint: &Value) -> Result<Endpoint, Error> {
    let resource = Fake::resource("a", endpoint);
    Endpoint::resolve(&resource, fake, &fake.lent()).await
}

async fn open(fake: &Fake, given: Value) -> Result<Session, Error> {
    let endpoint = endpoint(fake, &given).await?;
    let tasks = Tasks::new(Arc::new(fake.clone()));
    Session::open(endpoint, LIMITS, &tasks).await
}

fn raw(json: Value) -> Json {
    serde_json::value::to_raw_value(&json).unwrap()
}

async fn names(session: &Session) -> Vec<String> {
    let tools = session.tools().await.unwrap();
    assert!(tools.iter().all(|tool| tool.required == ["text"]));
    assert!(tools.iter().all(|tool| tool.json.get().contains("_meta")));
    tools.into_iter().map(|tool| tool.name).collect()
}

#[tokio::test(start_paused = true)]
async fn tools_are_listed_and_called_over_http() {
    for transport in ["streamableHTTP", "sse"] {
        let path = if transport == "sse" { "sse" } else { "mcp" };
        let url = format!("http://server/{path}");
        let fake = Fake::new(&["one", "two", "three"]);
        let session = open(&fake, json!({ transport: { "url": url } }))
            .await
            .unwrap();
        assert_eq!(names(&session).await, ["one", "two", "three"]);
        let text = raw(json!({ "text": "hello" }));
        let result = session.call("one", Some(&text)).await.unwrap();
        assert_eq!(result.get(), r#"{"content":["hello"]}"#);
        let refused = session.call("broken", None).await.unwrap_err();
        let message = "it is broken".to_owned();
        let code = -32000;
        assert_eq!(refused, Error::Refused { code, message });
        assert_eq!(fake.seen("notifications/initialized").len(), 1);
        session.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_agreed_goes_with_each_request() {
    let fake = Fake::new(&["one"]);
    let given = json!({ "streamableHTTP": { "url": "http://server/mcp", "protocolVersion": "2025-03-26" } });
    let session = open(&fake, given).await.unwrap();
    session.tools().await.unwrap();
    let first = &fake.seen("initialize")[0];
    assert!(!first.contains_key("mcp-session-id"));
    for method in ["notifications/initialized", "tools/list", "answer"] {
        let headers = &fake.seen(method)[0];
        assert_eq!(headers["mcp-session-id"], "0", "{method}");
        assert_eq!(headers["mcp-protocol-version"], "2025-03-26", "{method}");
    }
    session.close().await;
    assert_eq!(fake.seen("DELETE")[0]["mcp-session-id"], "0");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_restarted_has_closed_the_connection() {
    for (transport, path) in [("streamableHTTP", "mcp"), ("sse", "sse")] {
        let fake = Fake::new(&["one"]);
        let url = format!("http://server/{path}");
        let session = open(&fake, json!({ transport: { "url": url } }))
            .await
            .unwrap();
        fake.restart();
        let error = session.tools().await.unwrap_err();
        assert!(matches!(error, Error::Closed(_)), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn tools_have_so_many_bytes_in_all() {
    let fake = Fake::new(&["one", "two", "three"]);
    let given = json!({ "streamableHTTP": { "url": "http://server/mcp" } });
    let all: usize = {
        let session = open(&fake, given.clone()).await.unwrap();
        let tools = session.tools().await.unwrap();
        tools.iter().map(|tool| tool.json.get().len()).sum()
    };
    for (message, told) in [(all, true), (all - 1, false)] {
        let endpoint = endpoint(&fake, &given).await.unwrap();
        let tasks = Tasks::new(Arc::new(fake.clone()));
        let limits = Limits { message, ..LIMITS };
        let session = Session::open(endpoint, limits, &tasks).await.unwrap();
        match session.tools().await {
            Ok(_) => assert!(told),
            Err(error) => {
                assert!(!told);
                assert_eq!(
                    error.to_string(),
                    format!("more than {message} bytes of tools")
                );
            }
        }
    }
}

#[tokio::test]
async fn a_process_that_ends_in_a_call_may_have_done_it() {
    let script = r#"
        while read -r line; do
            id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
            case "$line" in
                *'"tools/call"'*) exit 0 ;;
                *'"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18"}}\n' "$id" ;;
            esac
        done"#;
    let fake = Fake::new(&[]);
    let given = json!({ "stdio": { "command": "/bin/sh", "args": ["-c", script] } });
    let session = open(&fake, given).await.unwrap();
    let error = session.call("one", None).await.unwrap_err();
    assert!(matches!(error, Error::BrokenOff(_)), "{error:?}");
    let error = session.call("one", None).await.unwrap_err();
    assert!(matches!(error, Error::Closed(_)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn servers_are_shown_headers_and_secrets() {
    let fake = Fake::new(&["one"]);
    let given = json!({ "streamableHTTP": {
        "url": "http://server/mcp",
        "headers": [
            { "name": "X-Plain", "value": 7 },
            { "name": "Authorization", "secretKeyRef": { "name": "hush", "key": "k" } },
        ],
        "auth": { "secretStore": "vault" },
    } });
    open(&fake, given.clone()).await.unwrap();
    let seen = &fake.seen("initialize")[0];
    assert_eq!(seen["x-plain"], "7");
    assert_eq!(seen["authorization"], "hush");
    let mut without = given;
    without["streamableHTTP"]["auth"] = json!({});
    let error = endpoint(&fake, &without).await.err().unwrap().to_string();
    assert!(error.starts_with("Authorization: no store"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn servers_are_shown_tokens() {
    let fake = Fake::new(&["one"]);
    let oauth2 = json!({ "streamableHTTP": { "url": "http://server/mcp", "auth": {
        "secretStore": "vault",
        "oauth2": {
            "issuer": "http://issuer/token", "clientID": "me", "audience": "mcp",
            "scopes": ["a", "b"], "secretKeyRef": { "name": "s=t" },
        },
    } } });
    let session = open(&fake, oauth2.clone()).await.unwrap();
    session.tools().await.unwrap();
    for method in ["initialize", "tools/list"] {
        assert_eq!(fake.seen(method)[0]["authorization"], "Bearer t1");
    }
    let mut wrong = oauth2;
    wrong["streamableHTTP"]["auth"]["oauth2"]["clientID"] = json!("you");
    let error = open(&fake, wrong).await.err().unwrap().to_string();
    assert!(
        error.contains("401") && error.contains("invalid_client"),
        "{error}"
    );
    let fake = Fake::new(&["one"]);
    let spiffe = json!({ "sse": { "url": "http://server/sse", "auth": { "spiffe": { "jwt": {
        "header": "X-Jwt", "headerValuePrefix": "Bearer ", "audience": "mcp://a",
    } } } } });
    open(&fake, spiffe).await.unwrap();
    assert_eq!(
        fake.seen("initialize")[0]["x-jwt"],
        "Bearer jwt for mcp://a"
    );
}

#[tokio::test]
async fn tools_are_listed_and_called_in_a_process() {
    let script = r#"
        while read -r line; do
            id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
            case "$line" in
                *'"initialize"'*) result='{"protocolVersion":"2025-06-18"}' ;;
                *'"tools/list"'*) result='{"tools":[{"name":"one","inputSchema":{"required":["text"]},"_meta":{}}]}' ;;
                *'"tools/call"'*) result="{\"content\":[\"$GREETING $DAPR_API_TOKEN\"]}" ;;
                *) continue ;;
            esac
            [ -n "$id" ] || continue
            echo '{"jsonrpc":"2.0","id":"p","method":"ping"}'
            read -r pong
            printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$result"
        done"#;
    let fake = Fake::new(&[]);
    let given = json!({ "stdio": {
        "command": "/bin/sh", "args": ["-c", script], "env": [{ "name": "GREETING", "value": "hello" }],
    } });
    let session = open(&fake, given).await.unwrap();
    assert_eq!(names(&session).await, ["one"]);
    let result = session.call("one", None).await.unwrap();
    assert_eq!(result.get(), r#"{"content":["hello "]}"#);
    let gone = json!({ "stdio": { "command": "/bin/sh", "args": ["-c", "exit 0"] } });
    let error = open(&fake, gone).await.err().unwrap();
    let gone = matches!(error, Error::Closed(_) | Error::BrokenOff(_));
    assert!(gone, "{error:?}");
    let none = json!({ "stdio": { "command": "/no/such/program" } });
    let error = open(&fake, none).await.err().unwrap();
    assert!(error.to_string().contains("cannot be started"), "{error}");
}
