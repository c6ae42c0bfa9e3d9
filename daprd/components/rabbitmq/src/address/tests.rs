//! Connection strings: as upstream reads them, and why the library does not get to see them.

use super::*;

fn parts(text: &str) -> (String, u16, String, String, String) {
    let address = Address::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let AMQPAuthority {
        userinfo,
        host,
        port,
    } = address.uri.authority;
    (
        host,
        port,
        userinfo.username,
        userinfo.password,
        address.uri.vhost,
    )
}

#[test]
fn texts_are_read_as_upstream_reads_them() {
    let cases = [
        ("amqp://h", ("h", 5672, "guest", "guest", "/")),
        ("amqp://h/", ("h", 5672, "guest", "guest", "/")),
        ("amqp://h/%2f", ("h", 5672, "guest", "guest", "/")),
        ("amqp://h//", ("h", 5672, "guest", "guest", "/")),
        ("amqps://h/v", ("h", 5671, "guest", "guest", "v")),
        ("amqp://", ("localhost", 5672, "guest", "guest", "/")),
        ("amqp://u@h:1", ("h", 1, "u", "guest", "/")),
        ("amqp://u:@h", ("h", 5672, "u", "", "/")),
        ("amqp://u:p%40%2F@h:1/a/b", ("h", 1, "u", "p@/", "a/b")),
        ("amqp://u:a@b@h", ("h", 5672, "u", "a@b", "/")),
        ("amqp://[::1]:7/v", ("::1", 7, "guest", "guest", "v")),
        (
            "amqp://127.0.0.1",
            ("127.0.0.1", 5672, "guest", "guest", "/"),
        ),
    ];
    for (text, (host, port, user, password, virtual_host)) in cases {
        let expected = (
            host.into(),
            port,
            user.into(),
            password.into(),
            virtual_host.into(),
        );
        assert_eq!(parts(text), expected, "{text}");
    }
}

#[test]
fn the_query_is_read_and_what_is_wrong_is_told_without_the_password() {
    let text = "amqp://h?heartbeat=7&connection_timeout=1500&auth_mechanism=EXTERNAL&cacertfile=x";
    let address = Address::parse(text).unwrap();
    assert_eq!(address.uri.query.heartbeat, Some(7));
    assert_eq!(address.dial_timeout, Duration::from_millis(1500));
    assert_eq!(
        address.uri.query.auth_mechanism,
        Some(SASLMechanism::External)
    );
    let long = format!("amqp://h/{}", "v".repeat(256));
    let wrong = [
        "h:1",
        "http://h",
        "amqp://h:port",
        "amqp://h:70000",
        "amqp://[::1",
        "amqp:// h",
        "amqp://h/%ff",
        "amqp://h?heartbeat=often",
        &long,
    ];
    for text in wrong {
        assert!(Address::parse(text).is_err(), "{text}");
    }
}

/// Why the library never sees a connection string: it would go to another server, without a word.
#[test]
fn the_library_reads_some_of_them_otherwise() {
    let read = |text: &str| text.parse::<AMQPUri>().unwrap();
    assert_eq!(read("amqp://h/").vhost, "");
    assert_eq!(read("amqp://[2001:db8::5]/v").authority.host, "localhost");
}
