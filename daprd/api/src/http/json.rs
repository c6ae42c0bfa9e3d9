//! JSON as Go's encoder writes it. Values saved over HTTP are stored in this form, so that stores shared with upstream
//! sidecars, and comparisons of stored bytes, see the same text.
//!
//! Compat: Q-json-form: keys are sorted, `<`, `>`, `&`, U+2028 and U+2029 are escaped, floats use Go's shortest form. Integers
//! keep all their digits, where upstream rounds them to a double.

use std::io;

use serde::Serialize;
use serde_json::{
    Deserializer, Serializer, Value,
    ser::{CharEscape, CompactFormatter, Formatter},
};

/// Writes a value in Go's form.
pub fn to_bytes(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, GoFormatter);
    value
        .serialize(&mut serializer)
        .expect("a JSON value serialises into memory");
    bytes
}

/// Reads the first JSON value of a body; like Go's decoder, what follows it is not looked at.
pub fn first_value(bytes: &[u8]) -> Result<Value, String> {
    match Deserializer::from_slice(bytes).into_iter::<Value>().next() {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) if error.is_eof() => Err("unexpected EOF".to_owned()),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("EOF".to_owned()),
    }
}

/// Reads one JSON value and nothing behind it.
pub fn value(bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// A member of an object; names are matched without regard to case.
pub fn member<'v>(object: &'v Value, name: &str) -> Option<&'v Value> {
    let map = object.as_object()?;
    map.get(name).or_else(|| {
        let (_, value) = map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(value)
    })
}

/// A member that is text; nothing where it is absent or null.
///
/// # Errors
/// Names the member that is something else.
pub fn text(object: &Value, name: &str) -> Result<Option<String>, String> {
    match member(object, name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!(
            "field {name} must be a string, not {}",
            kind(other)
        )),
    }
}

/// What a value is, for error messages.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(go_float(value).as_bytes())
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let escape = |c: char| matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
        let mut rest = fragment;
        while let Some(at) = rest.find(escape) {
            writer.write_all(&rest.as_bytes()[..at])?;
            let c = rest[at..].chars().next().unwrap_or_default();
            write!(writer, "\\u{:04x}", c as u32)?;
            rest = &rest[at + c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        CompactFormatter.write_char_escape(writer, escape)
    }
}

/// Shortest digits that read back the same; an exponent below 1e-6 and from 1e21 on.
fn go_float(value: f64) -> String {
    if value == 0.0 {
        return if value.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    if (1e-6..1e21).contains(&value.abs()) {
        return format!("{value}");
    }
    let text = format!("{value:e}");
    let Some((digits, exponent)) = text.split_once('e') else {
        return text;
    };
    match exponent.strip_prefix('-') {
        // Exponents below ten have one digit when negative, two when positive.
        Some(exponent) => format!("{digits}e-{exponent}"),
        None => format!("{digits}e+{exponent:0>2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(text: &str) -> String {
        String::from_utf8(to_bytes(&first_value(text.as_bytes()).unwrap())).unwrap()
    }

    #[test]
    fn text_is_compact_sorted_and_escaped() {
        assert_eq!(
            again(r#" { "b" : 1, "a" : "<&>" } trailing"#),
            r#"{"a":"\u003c\u0026\u003e","b":1}"#
        );
        assert_eq!(
            again("\"\u{2028}\u{7f}\\u0001\""),
            "\"\\u2028\u{7f}\\u0001\""
        );
    }

    #[test]
    fn numbers_have_gos_form() {
        assert_eq!(again("1.0"), "1");
        assert_eq!(again("0.000001"), "0.000001");
        assert_eq!(again("0.0000001"), "1e-7");
        assert_eq!(again("1e21"), "1e+21");
        assert_eq!(again("1e20"), "100000000000000000000");
        assert_eq!(again("9007199254740993"), "9007199254740993");
    }

    #[test]
    fn broken_bodies_say_how() {
        assert_eq!(first_value(b"").unwrap_err(), "EOF");
        assert_eq!(first_value(b"{\"a\": \"").unwrap_err(), "unexpected EOF");
        assert!(first_value(b"foobar").is_err());
    }

    #[test]
    fn members_ignore_case() {
        let value = first_value(br#"{"KEY": "k", "etag": 1}"#).unwrap();
        assert_eq!(text(&value, "key").unwrap().as_deref(), Some("k"));
        assert!(text(&value, "etag").is_err());
    }
}
