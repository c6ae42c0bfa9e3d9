//! Paths of access lists: of a policy, and of the calls that are judged by it.

use std::str::from_utf8;

use crds::configuration::access_control::{AppPolicy, Operation};
use invoke::{
    Escapes, MethodPath,
    access_control::{AccessControl, Call},
};
use security::SpiffeId;

fn list(name: &str, action: &str, default: &str) -> AccessControl {
    let policy = AppPolicy {
        app_id: "caller".to_owned(),
        default_action: Some(default.to_owned()),
        trust_domain: Some("td".to_owned()),
        namespace: Some("ns".to_owned()),
        operations: vec![Operation {
            name: name.to_owned(),
            http_verb: vec!["*".to_owned()],
            action: action.to_owned(),
        }],
    };
    let written = crds::configuration::AccessControl {
        default_action: Some(default.to_owned()),
        trust_domain: Some("public".to_owned()),
        policies: vec![policy],
    };
    AccessControl::compile(Some(&written), true).expect("a complete policy")
}

/// The operation of a policy, a line break, the method of a call.
#[test]
fn access_list() {
    let id = SpiffeId::new("td", "ns", "caller").expect("an identity");
    let call = Call::Http { verb: "GET" };
    let nobody = list("/never", "deny", "deny");
    fuzz::run("access_list", |input| {
        let Ok(text) = from_utf8(input) else { return };
        let (operation, method) = text.split_once('\n').unwrap_or((text, ""));
        let denied = list(operation, "deny", "allow");
        if let Ok(same) = MethodPath::from_message(operation) {
            assert!(
                !denied.judge(Some(&id), &same, call).allowed,
                "{operation:?}"
            );
        }
        let readings = [
            MethodPath::from_message(method),
            MethodPath::from_url(method, Escapes::Decoded),
            MethodPath::from_url(method, Escapes::Kept),
        ];
        for path in readings.iter().flatten() {
            let _ = denied.judge(Some(&id), path, call);
            let _ = denied.judge(Some(&id), path, Call::Grpc);
            assert!(!nobody.judge(Some(&id), path, call).allowed, "{method:?}");
            assert!(!nobody.judge(None, path, call).allowed, "{method:?}");
        }
    });
}
