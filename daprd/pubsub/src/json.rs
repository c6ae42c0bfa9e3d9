//! JSON text in the form that Go's encoder gives it: object keys sorted, no white space, `<`, `>` and `&` escaped. Numbers
//! are never read, so none is ever rounded. Events are compared byte by byte by some callers.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _};

use serde_json::value::RawValue;

/// How deep a value is brought into canonical form; what lies deeper stays as it was written. This bounds the stack.
const MOST_NESTED: usize = 64;

/// The first JSON value of a text; what follows it is ignored, as a stream decoder would.
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
#[cfg(test)]
pub fn canonical(value: &RawValue) -> String {
    let mut out = String::with_capacity(value.get().len());
    write_value(&mut out, value.get(), 0);
    out
}

/// Writes the canonical text of a valid JSON value.
pub fn write_canonical(out: &mut String, value: &RawValue) {
    write_value(out, value.get(), 0);
}

/// A string as JSON text.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    write_string(&mut out, text);
    out
}

/// JSON text made by this module, or checked by serde, as a value.
pub fn raw(text: String) -> Box<RawValue> {
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// The text of a JSON string; nothing for any other value.
pub fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    let text = value.get();
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(text).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

pub fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
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

fn write_value(out: &mut String, text: &str, depth: usize) {
    let text = text.trim();
    if depth >= MOST_NESTED {
        out.push_str(text);
        return;
    }
    match text.as_bytes().first() {
        Some(b'{') => match serde_json::from_str::<BTreeMap<String, &RawValue>>(text) {
            Ok(fields) => write_fields(out, &fields, depth),
            Err(_) => out.push_str(text),
        },
        Some(b'[') => match serde_json::from_str::<Vec<&RawValue>>(text) {
            Ok(items) => write_items(out, &items, depth),
            Err(_) => out.push_str(text),
        },
        Some(b'"') => match serde_json::from_str::<String>(text) {
            Ok(string) => write_string(out, &string),
            Err(_) => out.push_str(text),
        },
        _ => out.push_str(text),
    }
}

fn write_fields(out: &mut String, fields: &BTreeMap<String, &RawValue>, depth: usize) {
    out.push('{');
    for (index, (key, value)) in fields.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_string(out, key);
        out.push(':');
        write_value(out, value.get(), depth + 1);
    }
    out.push('}');
}

fn write_items(out: &mut String, items: &[&RawValue], depth: usize) {
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_value(out, item.get(), depth + 1);
    }
    out.push(']');
}

/// Writes a string as JSON text.
pub fn write_string(out: &mut String, text: &str) {
    out.push('"');
    let mut plain = 0;
    for (index, character) in text.char_indices() {
        let escape: &str = match character {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            '\u{8}' => "\\b",
            '\u{c}' => "\\f",
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\u{0}'..='\u{1f}' => "",
            _ => continue,
        };
        out.push_str(&text[plain..index]);
        plain = index + character.len_utf8();
        if escape.is_empty() {
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        } else {
            out.push_str(escape);
        }
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical_text(text: &str) -> String {
        canonical(first_value(text).unwrap())
    }

    #[test]
    fn values_take_gos_form() {
        for (text, expected) in [
            (r#" { "b" : 1, "a" : [ 1 , 2 ] } "#, r#"{"a":[1,2],"b":1}"#),
            ("1.10", "1.10"),
            ("12345678901234567890123", "12345678901234567890123"),
            (r#""<a> & b""#, r#""\u003ca\u003e \u0026 b""#),
            (r#""\u00e9\n\u0001""#, "\"\u{e9}\\n\\u0001\""),
            ("true extra", "true"),
            ("null", "null"),
        ] {
            assert_eq!(canonical_text(text), expected, "{text}");
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
    }

    #[test]
    fn strings_are_read_back() {
        assert_eq!(string(&raw(quote("a\"b\u{2028}"))).unwrap(), "a\"b\u{2028}");
        assert_eq!(string(&raw("7".into())), None);
    }
}
