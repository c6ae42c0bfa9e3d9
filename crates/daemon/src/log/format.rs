//! One event as one line, in logrus's text and JSON forms: fixed keys first in text, then all other
//! keys in alphabetical order; JSON keys are all in alphabetical order.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;
use tracing::field::{Field, Visit};

/// Fields that every line of a process carries.
pub(super) struct Constants {
    pub scope: String,
    pub app_id: Option<String>,
    pub instance: String,
    pub version: &'static str,
}

/// The fields of one event.
#[derive(Default)]
pub(super) struct Fields {
    message: String,
    level: Option<&'static str>,
    others: BTreeMap<&'static str, Value>,
    scope: Option<String>,
}

impl Fields {
    /// Sets the scope unless the event named one itself.
    pub fn default_scope(&mut self, scope: &str) {
        self.scope.get_or_insert_with(|| scope.to_owned());
    }

    fn insert(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("scope", Value::String(text)) => self.scope = Some(text),
            // Tracing has no level above error; this is how the last line before an exit asks for it.
            ("level", Value::String(text)) if text == "fatal" => self.level = Some("fatal"),
            // The library's own record of where a `log` call stood; logrus has no such keys.
            (name, _) if name.starts_with("log.") => {}
            ("level", value) => self.put("fields.level", value),
            ("msg", value) => self.put("fields.msg", value),
            ("time", value) => self.put("fields.time", value),
            (name, value) => self.put(name.strip_prefix("r#").unwrap_or(name), value),
        }
    }

    fn put(&mut self, name: &'static str, value: Value) {
        self.others.insert(name, value);
    }

    /// Adds what every line carries, and takes the message out.
    fn complete(mut self, constants: &Constants) -> (String, BTreeMap<&'static str, Value>) {
        let scope = self.scope.unwrap_or_else(|| constants.scope.clone());
        if let Some(app_id) = &constants.app_id {
            self.others
                .entry("app_id")
                .or_insert_with(|| app_id.clone().into());
        }
        self.others
            .entry("instance")
            .or_insert_with(|| constants.instance.clone().into());
        self.others.insert("scope", scope.into());
        self.others.entry("type").or_insert_with(|| "log".into());
        self.others
            .entry("ver")
            .or_insert_with(|| constants.version.into());
        (self.message, self.others)
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.insert(field, format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value.into());
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.insert(field, chain(value).into());
    }
}

/// An error and its causes, joined by colons.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

/// The line as text, newline included.
pub(super) fn text(fields: Fields, constants: &Constants, time: &str, level: &str) -> String {
    let level = fields.level.unwrap_or(level);
    let (message, others) = fields.complete(constants);
    let mut line = String::with_capacity(160 + message.len());
    push(&mut line, "time", time);
    push(&mut line, "level", level);
    // logrus leaves the key out when there is no message.
    if !message.is_empty() {
        push(&mut line, "msg", &message);
    }
    for (name, value) in &others {
        match value {
            Value::String(text) => push(&mut line, name, text),
            other => push(&mut line, name, &other.to_string()),
        }
    }
    line.push('\n');
    line
}

/// The line as JSON, newline included.
pub(super) fn json(fields: Fields, constants: &Constants, time: &str, level: &str) -> String {
    let level = fields.level.unwrap_or(level);
    let (message, mut others) = fields.complete(constants);
    others.insert("level", level.into());
    others.insert("msg", message.into());
    others.insert("time", time.into());
    let body = serde_json::to_string(&others).unwrap_or_default();
    // Go escapes these in every JSON text unless told not to; they only occur inside strings.
    let mut line = String::with_capacity(body.len() + 1);
    for c in body.chars() {
        match c {
            '<' => line.push_str("\\u003c"),
            '>' => line.push_str("\\u003e"),
            '&' => line.push_str("\\u0026"),
            '\u{2028}' => line.push_str("\\u2028"),
            '\u{2029}' => line.push_str("\\u2029"),
            c => line.push(c),
        }
    }
    line.push('\n');
    line
}

fn push(line: &mut String, name: &str, value: &str) {
    if !line.is_empty() {
        line.push(' ');
    }
    line.push_str(name);
    line.push('=');
    if value.bytes().all(bare) {
        line.push_str(value);
    } else {
        quote(line, value);
    }
}

fn bare(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'/' | b'@' | b'^' | b'+')
}

/// Quotes as Go's `%q` does.
fn quote(line: &mut String, value: &str) {
    line.push('"');
    for c in value.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            '\u{7}' => line.push_str("\\a"),
            '\u{8}' => line.push_str("\\b"),
            '\u{c}' => line.push_str("\\f"),
            '\u{b}' => line.push_str("\\v"),
            c if (c as u32) < 0x20 || c == '\u{7f}' => {
                let _ = write!(line, "\\x{:02x}", c as u32);
            }
            c if hidden(c) && (c as u32) < 0x10000 => {
                let _ = write!(line, "\\u{:04x}", c as u32);
            }
            c => line.push(c),
        }
    }
    line.push('"');
}

/// Characters beyond ASCII that do not print; an approximation of Go's table that covers what could
/// disturb a terminal or a log shipper.
fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{a0}' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2000}'..='\u{200a}' | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}' | '\u{3000}' | '\u{feff}')
}

/// RFC 3339 with as many digits of a second as it needs, local offset, `Z` for UTC.
pub(super) fn timestamp(now: Timestamp, zone: &TimeZone) -> String {
    let local = now.to_zoned(zone.clone());
    let mut text = local.strftime("%Y-%m-%dT%H:%M:%S").to_string();
    let nanos = local.subsec_nanosecond();
    if nanos != 0 {
        let digits = format!("{nanos:09}");
        let _ = write!(text, ".{}", digits.trim_end_matches('0'));
    }
    if local.offset().is_zero() {
        text.push('Z');
    } else {
        let _ = write!(text, "{}", local.strftime("%:z"));
    }
    text
}
