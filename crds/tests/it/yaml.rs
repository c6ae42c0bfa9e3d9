//! The files of `tests/yaml` as the reference's parser takes them. `expected.json` holds what `YAMLToJSON` of
//! sigs.k8s.io/yaml 1.4.0 makes of each: a value, or that it is refused.

use std::{collections::BTreeMap, path::Path};

use crds::files::yaml;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Is(Value),
    Refused,
}

/// Where our reader is that of YAML 1.2, and nobody can have relied on the older rule.
const DIFFERENT: &[(&str, &str)] = &[
    ("escaped-slash.yaml", "JSON may escape a slash"),
    ("surrogates.yaml", "JSON may write a character as two"),
    ("tab-after-dash.yaml", "read, not refused"),
    ("tab-on-a-line-of-its-own.yaml", "read, not refused"),
    ("unknown-directive.yaml", "read, not refused"),
    ("next-line-character.yaml", "it ends no line"),
    (
        "single-then-comment.yaml",
        "refused: a comment begins after a blank",
    ),
];

#[test]
fn files_are_read_as_the_reference_reads_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/yaml");
    let text = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let expected: BTreeMap<String, Expected> = serde_json::from_str(&text).unwrap();
    let mut wrong = Vec::new();
    for (file, expected) in &expected {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let found = yaml::parse(&text);
        let as_expected = match (&found, expected) {
            (Ok(found), Expected::Is(value)) => same(found, value),
            (Err(_), Expected::Refused) => true,
            _ => false,
        };
        let different = DIFFERENT.iter().any(|(name, _)| name == file);
        if as_expected == different {
            wrong.push(format!("{file}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(
        std::fs::read_dir(&folder).unwrap().count(),
        expected.len() + 1
    );
}

/// Numbers may be written in two ways.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            // The last digit of what JSON says may be lost in reading it here.
            let (float, size) = (one.as_f64().unwrap(), other.as_f64().unwrap());
            one == other
                || (one.is_f64() || other.is_f64())
                    && (float - size).abs() <= size.abs() * f64::EPSILON
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(key, value)| other.get(key).is_some_and(|it| same(value, it)))
        }
        _ => one == other,
    }
}

#[test]
fn what_stands_for_too_much_is_refused() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    let mut ladder = "a0: &a0 [x]\n".to_owned();
    for step in 1..200 {
        let before = format!("*a{}", step - 1);
        bomb += &format!("a{step}: &a{step} [{}]\n", [&*before; 10].join(", "));
        ladder += &format!("a{step}: &a{step} [{before}]\n");
    }
    for (text, problem) in [(bomb, "more than"), (ladder, "nested deeper")] {
        let error = yaml::parse(&text).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
    for open in ["[", "{a: ", "- "] {
        assert!(yaml::parse(&open.repeat(100_000)).is_err());
    }
}
