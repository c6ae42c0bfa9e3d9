//! JSON as Go reads and writes it: stores, brokers and apps that upstream sidecars share with ours hold its text, and some
//! compare it byte by byte.
//!
//! Compat: Q-json-form: object keys are sorted, there is no white space, `<`, `>`, `&`, U+2028 and U+2029 are escaped. Numbers are
//! never read, so their digits stay as they were sent.
//!
//! Whatever upstream decodes with `encoding/json` is decoded with [`read`], which takes field names in any case.

mod read;
mod scan;

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _};

use serde_json::value::RawValue;

pub use read::{Error, read, read_first};
use scan::Scanner;

/// How deep a value is brought into canonical form; what lies deeper stays as it was written. This bounds the stack.
const MOST_NESTED: usize = 64;

/// The first JSON value of a text; what follows it is ignored, as a stream decoder would.
///
/// # Errors
/// Says what is wrong, with line and column; `EOF` of a text without a value.
pub fn first_value(text: &str) -> Result<&RawValue, String> {
    match serde_json::Deserializer::from_str(text)
        .into_iter::<&RawValue>()
        .next()
    {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) if error.is_eof() => Err("unexpected EOF".to_owned()),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("EOF".to_owned()),
    }
}

/// The canonical text of a valid JSON value.
#[must_use]
pub fn canonical(value: &RawValue) -> String {
    let mut out = String::with_capacity(value.get().len());
    write_value(&mut out, &mut Scanner::new(value.get()), 0);
    out
}

/// Writes the [`canonical`] text of a valid JSON value.
pub fn write_canonical(out: &mut String, value: &RawValue) {
    write_value(out, &mut Scanner::new(value.get()), 0);
}

/// A string as JSON text.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    write_string(&mut out, text);
    out
}

/// JSON text made by this module, or checked by serde, as a value.
#[must_use]
pub fn raw(text: String) -> Box<RawValue> {
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// The text of a JSON string; none of any other value.
#[must_use]
pub fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    let inner = value.get().strip_prefix('"')?.strip_suffix('"')?;
    Some(scan::unescape(inner))
}

/// Whether a value is null.
#[must_use]
pub fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

/// What a value is, for error messages.
#[must_use]
pub fn kind(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// Writes an object whose values are JSON text already; keys come in order.
pub fn write_object<'a>(
    out: &mut String,
    fields: impl IntoIterator<Item = (&'a str, &'a RawValue)>,
) {
    out.push('{');
    for (index, (key, value)) in fields.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_string(out, key);
        out.push(':');
        out.push_str(value.get());
    }
    out.push('}');
}

/// A map of strings as an object.
#[must_use]
pub fn string_map(map: &BTreeMap<String, String>) -> String {
    let mut out = String::from("{");
    for (index, (key, value)) in map.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_string(&mut out, key);
        out.push(':');
        write_string(&mut out, value);
    }
    out.push('}');
    out
}

fn write_value(out: &mut String, text: &mut Scanner<'_>, depth: usize) {
    match text.peek() {
        Some(b'{' | b'[') if depth >= MOST_NESTED => out.push_str(text.value()),
        Some(b'{') => write_members(out, text, depth),
        Some(b'[') => {
            out.push('[');
            text.open();
            while text.more() {
                if !out.ends_with('[') {
                    out.push(',');
                }
                write_value(out, text, depth + 1);
            }
            out.push(']');
        }
        Some(b'"') => write_string(out, &scan::unescape(text.string())),
        _ => out.push_str(text.value()),
    }
}

/// Writes the members as they come, and puts them in order afterwards if they were not; of two with one key the last stays.
fn write_members(out: &mut String, text: &mut Scanner<'_>, depth: usize) {
    out.push('{');
    let start = out.len();
    let mut members: Vec<(Cow<'_, str>, std::ops::Range<usize>)> = Vec::new();
    text.open();
    while text.more() {
        if !members.is_empty() {
            out.push(',');
        }
        let key = scan::unescape(text.string());
        let begin = out.len();
        write_string(out, &key);
        out.push(':');
        write_value(out, text, depth + 1);
        members.push((key, begin - start..out.len() - start));
    }
    if !members.is_sorted_by(|(one, _), (next, _)| one < next) {
        let written = out.split_off(start);
        let ordered: BTreeMap<_, _> = members.into_iter().collect();
        for (index, member) in ordered.into_values().enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push_str(&written[member]);
        }
    }
    out.push('}');
}

/// Writes a string as JSON text.
pub fn write_string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| STRANGE[usize::from(byte)]) {
        let (plain, strange) = rest.split_at(at);
        out.push_str(plain);
        let mut characters = strange.chars();
        if let Some(character) = characters.next() {
            write_character(out, character);
        }
        rest = characters.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

fn write_character(out: &mut String, character: char) {
    match character {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\u{0}'..='\u{1f}' => {
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        }
        _ => out.push(character),
    }
}

/// The bytes with which characters begin that [`write_character`] may write in another way.
const STRANGE: [bool; 256] = {
    let mut strange = [false; 256];
    let mut byte = 0;
    while byte < strange.len() {
        // The last one begins, among others, U+2028 and U+2029.
        strange[byte] =
            byte < 0x20 || matches!(byte as u8, b'"' | b'\\' | b'<' | b'>' | b'&' | 0xe2);
        byte += 1;
    }
    strange
};

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical_text(text: &str) -> String {
        canonical(first_value(text).unwrap())
    }

    #[test]
    fn values_take_gos_form() {
        for (text, expected) in [
            (
                r#" { "b" : 1, "a" : [ 1 , {} , [ ] ] } "#,
                r#"{"a":[1,{},[]],"b":1}"#,
            ),
            (
                r#"{"b":{"d":0,"c":1},"a":2,"b":{"f":[3],"e":null}}"#,
                r#"{"a":2,"b":{"e":null,"f":[3]}}"#,
            ),
            (r#""<a> & b""#, r#""\u003ca\u003e \u0026 b""#),
            (r#""\u00e9\n\u0001\/""#, "\"\u{e9}\\n\\u0001/\""),
            (r#""\ud83d\ude00 \ud83d""#, "\"\u{1f600} \u{fffd}\""),
            (r#"{"\u0061":1}"#, r#"{"a":1}"#),
            (
                "\"\u{2027}\u{2028}\u{2029}\u{202a}\u{20ac}\"",
                "\"\u{2027}\\u2028\\u2029\u{202a}\u{20ac}\"",
            ),
            (r#"["\\","\"",1]"#, r#"["\\","\"",1]"#),
            ("[\"[\",\"{\\\"\"]", "[\"[\",\"{\\\"\"]"),
            ("true extra", "true"),
            ("null", "null"),
        ] {
            assert_eq!(canonical_text(text), expected, "{text}");
        }
    }

    #[test]
    fn numbers_keep_their_digits() {
        for number in [
            "31.245270191439438",
            "123456789012345678901234567890",
            "1.10",
            "1E400",
            "-0",
            "9007199254740993",
        ] {
            assert_eq!(canonical_text(number), number);
            let inside = format!("{{\"a\":[{number}]}}");
            assert_eq!(canonical_text(&inside), inside);
        }
    }

    #[test]
    fn deep_values_are_left_alone() {
        let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
        assert_eq!(canonical_text(&deep), deep);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        assert!(first_value("{bad").is_err());
        assert_eq!(first_value("").unwrap_err(), "EOF");
        assert_eq!(first_value("{\"a\": \"").unwrap_err(), "unexpected EOF");
    }

    #[test]
    fn strings_are_read_back() {
        assert_eq!(string(&raw(quote("a\"b\u{2028}"))).unwrap(), "a\"b\u{2028}");
        assert_eq!(string(&raw("7".into())), None);
    }

    proptest::proptest! {
        /// Against the parser that everybody uses: the canonical form is the same value, and its own canonical form.
        #[test]
        fn the_canonical_form_is_the_same_value(value in any_value()) {
            let text = value.to_string();
            let once = canonical_text(&text);
            let again: serde_json::Value = serde_json::from_str(&once).unwrap();
            proptest::prop_assert_eq!(&again, &value);
            proptest::prop_assert_eq!(canonical_text(&once), once);
        }

        #[test]
        fn no_text_is_too_strange(text in "[\\[\\]{}\",:\\\\u0-9a-f \u{e9}]{0,40}") {
            if let Ok(value) = first_value(&text) {
                let _ = canonical(value);
                let _ = string(value);
            }
        }
    }

    fn any_value() -> impl proptest::strategy::Strategy<Value = serde_json::Value> {
        use proptest::prelude::*;
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            ".{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                prop::collection::btree_map(".{0,4}", inner, 0..5)
                    .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }
}
