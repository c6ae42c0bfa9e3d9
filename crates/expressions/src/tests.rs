//! Rules as they are written.

use super::*;
use serde_json::json;

fn event(value: serde_json::Value) -> Variables {
    Variables::event("event", &value)
}

fn holds(text: &str, value: serde_json::Value) -> bool {
    Expression::compile(text)
        .unwrap()
        .matches(&event(value))
        .unwrap()
}

#[test]
fn routing_rules_read_the_event() {
    let value =
        json!({"type": "order", "data": {"id": 11, "tags": ["a", "b"], "size": 2.5, "ok": true}});
    for text in [
        r#"event.type == "order""#,
        "event.data.id == 11",
        "event.data.id == 11.0",
        "event.data.id > 10 && event.data.size < 3",
        "event.data.id in [10, 11, 12]",
        "'b' in event.data.tags",
        "event.data.tags[1] == 'b'",
        "event.data.tags.size() == 2",
        "event.data.ok",
        "has(event.data.id) && !has(event.data.nothing)",
        "event.type.startsWith('or')",
        "event.type.matches('^o.*r$')",
        "event['type'] == 'order'",
        "event.data.tags.exists(t, t == 'a')",
        "event.data.size * 2.0 == 5.0",
    ] {
        assert!(holds(text, value.clone()), "{text}");
    }
    assert!(!holds(r#"event.type == "other""#, value));
}

#[test]
fn a_missing_key_is_an_error_and_not_false() {
    let expression = Expression::compile("event.data.kind == 'x'").unwrap();
    let error = expression.matches(&event(json!({"data": {}}))).unwrap_err();
    assert!(matches!(error, Error::Evaluation { .. }), "{error}");
    let error = expression.matches(&Variables::default()).unwrap_err();
    assert!(matches!(error, Error::Evaluation { .. }), "{error}");
}

#[test]
fn what_is_no_boolean_is_an_error() {
    let expression = Expression::compile("event.type").unwrap();
    let error = expression
        .matches(&event(json!({"type": "order"})))
        .unwrap_err();
    assert!(
        matches!(error, Error::NotBoolean { ref found, .. } if found == "string"),
        "{error}"
    );
}

#[test]
fn counters_are_integers() {
    let variables = Variables::integers([
        ("requests", 10),
        ("totalFailures", 6),
        ("consecutiveFailures", 6),
    ]);
    for (text, answer) in [
        ("consecutiveFailures > 5", true),
        ("consecutiveFailures >= 7", false),
        ("requests % 2 == 0 && totalFailures * 2 > requests", true),
        ("double(totalFailures) / double(requests) > 0.5", true),
    ] {
        let expression = Expression::compile(text).unwrap();
        assert_eq!(expression.matches(&variables).unwrap(), answer, "{text}");
    }
}

#[test]
fn bad_texts_are_refused() {
    assert!(matches!(
        Expression::compile("event.type =="),
        Err(Error::Syntax { .. })
    ));
    assert!(matches!(Expression::compile(""), Err(Error::Syntax { .. })));
    let long = format!("'{}' == ''", "x".repeat(MAX_EXPRESSION_BYTES));
    assert!(matches!(
        Expression::compile(&long),
        Err(Error::TooLong { .. })
    ));
    for deep in [
        "(".repeat(4000),
        format!("{}1{}", "(".repeat(2000), ")".repeat(2000)),
        format!("1{}", "+1".repeat(2000)),
        format!("a{}", ".b".repeat(2000)),
        "-".repeat(4000),
        "!".repeat(4000),
        "[".repeat(4000),
        format!("true{}", "&&true".repeat(1000)),
    ] {
        assert!(matches!(
            Expression::compile(&deep),
            Err(Error::TooDeep { .. })
        ));
    }
    let wide = format!("1 in [{}1]", "1, ".repeat(1000));
    assert!(Expression::compile(&wide).is_ok());
}

#[test]
fn deep_texts_are_read_on_any_stack() {
    let texts = [
        format!("{}true{}", "(".repeat(250), ")".repeat(250)),
        format!("{}{}", "[".repeat(250), "]".repeat(250)),
        format!("true{}", " || (1 > ".repeat(80)),
    ];
    let small = std::thread::Builder::new().stack_size(256 << 10);
    let compiled = small.spawn(move || texts.map(|text| Expression::compile(&text).is_ok()));
    compiled.unwrap().join().unwrap();
}

#[test]
fn the_deepest_allowed_texts_evaluate() {
    let evaluate = || {
        for text in [
            format!("{}true{}", "(".repeat(250), ")".repeat(250)),
            format!("0{} > 0", "+1".repeat(250)),
            format!("true{}", "&&true".repeat(250)),
            format!("{}true", "!".repeat(250)),
            format!("true{}", " || 'a'.size() + 1 == 2".repeat(250)),
        ] {
            match Expression::compile(&text) {
                Ok(expression) => assert!(expression.matches(&Variables::default()).unwrap()),
                // The parser's own limit may be the lower one; it must be an error, not an overflow.
                Err(error) => assert!(matches!(error, Error::Syntax { .. }), "{error}"),
            }
        }
    };
    // As much as threads of programs have, and more where nothing is optimised.
    let stack = if cfg!(debug_assertions) {
        32 << 20
    } else {
        2 << 20
    };
    let thread = std::thread::Builder::new().stack_size(stack);
    thread.spawn(evaluate).unwrap().join().unwrap();
}
