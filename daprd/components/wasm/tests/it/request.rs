//! What a guest sees of a request, and what it changes.

use std::net::{IpAddr, Ipv6Addr};

use component::middleware::Caller;

use super::*;

/// Answers with what a function of the host writes.
fn telling(call: &str) -> Vec<u8> {
    on_request(&format!(
        "(call $write (i32.const 1) (i32.const 100) (call {call} (i32.const 100) (i32.const 900))) (i64.const 0)"
    ))
}

#[tokio::test]
async fn it_is_told_to_the_guest() {
    for (call, wanted) in [
        ("$get_method", "POST"),
        ("$get_uri", "/a?b=c"),
        ("$get_version", "HTTP/1.1"),
        ("$get_source", ""),
        ("$get_config", ""),
    ] {
        assert_eq!(
            answered(&telling(call)).await,
            (200, wanted.to_owned()),
            "{call}"
        );
    }
    let config = opened_with(&telling("$get_config"), &[("guestConfig", "{\"a\": 1}")])
        .await
        .unwrap();
    assert_eq!(said(ask(&config, post("")).await).await.1, "{\"a\": 1}");
    let source = opened(&telling("$get_source")).await;
    let mut request = post("");
    request
        .extensions_mut()
        .insert(Caller(IpAddr::V6(Ipv6Addr::LOCALHOST)));
    assert_eq!(said(ask(&source, request).await).await.1, "[::1]:0");
}

#[tokio::test]
async fn what_has_no_room_is_only_measured() {
    let short = on_request(
        "(call $write (i32.const 1) (i32.const 100)
           (i32.sub (call $get_uri (i32.const 100) (i32.const 5)) (i32.const 3)))
         (i64.const 0)",
    );
    assert_eq!(answered(&short).await, (200, "\0\0\0".to_owned()));
    let outside =
        on_request("(drop (call $get_uri (i32.const 65533) (i32.const 900))) (i64.const 0)");
    assert_eq!(answered(&outside).await.0, 500);
}

#[tokio::test]
async fn headers_are_lists_with_nuls() {
    let names = on_request(
        "(local $told i64) (local.set $told (call $names (i32.const 0) (i32.const 100) (i32.const 900)))
         (call $set_status (i32.add (i32.const 200) (i32.wrap_i64 (i64.shr_u (local.get $told) (i64.const 32)))))
         (call $write (i32.const 1) (i32.const 100) (i32.wrap_i64 (local.get $told))) (i64.const 0)",
    );
    let mut request = post("");
    request
        .headers_mut()
        .insert("Accept", "*/*".parse().unwrap());
    let response = ask(&opened(&names).await, request).await;
    assert_eq!(said(response).await, (202, "accept\0x-a\0".to_owned()));
    let values = on_request(
        "(call $add_header (i32.const 0) (i32.const 0) (i32.const 3) (i32.const 16) (i32.const 3))
         (call $write (i32.const 1) (i32.const 100) (i32.wrap_i64
           (call $values (i32.const 0) (i32.const 0) (i32.const 3) (i32.const 100) (i32.const 900))))
         (i64.const 0)",
    );
    assert_eq!(answered(&values).await, (200, "1\0one\0".to_owned()));
}

#[tokio::test]
async fn what_the_guest_changes_goes_on() {
    let changing = on_request(
        r#"(call $set_method (i32.const 300) (i32.const 3))
           (call $set_uri (i32.const 303) (i32.const 6))
           (call $set_header (i32.const 0) (i32.const 8) (i32.const 3) (i32.const 16) (i32.const 3))
           (call $add_header (i32.const 0) (i32.const 8) (i32.const 3) (i32.const 24) (i32.const 3))
           (call $remove_header (i32.const 0) (i32.const 0) (i32.const 3))
           (call $set_header (i32.const 2) (i32.const 0) (i32.const 3) (i32.const 16) (i32.const 3))
           (call $write (i32.const 0) (i32.const 300) (i32.const 3))
           (call $set_header (i32.const 1) (i32.const 8) (i32.const 3) (i32.const 24) (i32.const 3))
           (call $set_header (i32.const 1) (i32.const 0) (i32.const 3) (i32.const 24) (i32.const 3))
           (i64.const 1)) (data (i32.const 300) "PUT/x y?z""#,
    );
    let response = ask(&opened(&changing).await, post("abc")).await;
    let headers = response.headers();
    let seen: Vec<_> = headers.get_all("seen-x-b").iter().collect();
    assert_eq!(seen, ["one", "two"]);
    assert_eq!(headers["seen-x-a"], "one", "the trailer, and no header");
    assert_eq!(headers["seen-content-length"], "3");
    assert_eq!(headers["x-a"], "two");
    assert_eq!(headers["x-b"], "next", "the answer's own comes after");
    assert_eq!(said(response).await, (201, "PUT /x%20y?z PUT".to_owned()));
}

#[tokio::test]
async fn what_is_no_http_ends_the_call() {
    for (what, does) in [
        (
            "an empty name",
            "(call $remove_header (i32.const 0) (i32.const 0) (i32.const 0))",
        ),
        (
            "a kind",
            "(call $remove_header (i32.const 4) (i32.const 0) (i32.const 3))",
        ),
        ("a method", "(call $set_method (i32.const 0) (i32.const 0))"),
        ("a path", "(call $set_uri (i32.const 0) (i32.const 3))"),
        ("a status", "(call $set_status (i32.const 99))"),
        (
            "a value",
            "(call $set_header (i32.const 1) (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 4))",
        ),
        (
            "memory",
            "(call $write (i32.const 1) (i32.const 65535) (i32.const 2))",
        ),
        (
            "no end",
            "(call $write (i32.const 1) (i32.const -1) (i32.const -1))",
        ),
        (
            "a body without room",
            "(drop (call $read (i32.const 0) (i32.const 0) (i32.const 0)))",
        ),
        ("a status that is not held", "(drop (call $get_status))"),
    ] {
        let told = answered(&on_request(&format!("{does} (i64.const 1)"))).await;
        assert_eq!(told, (500, "Internal Server Error".to_owned()), "{what}");
    }
}
