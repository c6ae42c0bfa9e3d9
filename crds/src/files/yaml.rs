//! A YAML document as the reference's parser (sigs.k8s.io/yaml over a YAML 1.1 reader) takes it, as a JSON value.
//!
//! The events come from a parser of YAML; what a plain scalar means is decided here, because files in use are written for
//! the older rules: `yes` and `n` are booleans, also as keys, `010` is eight and `1_000` a thousand. The folder
//! `tests/yaml` compares both on many small files. Q-file-yaml

use std::collections::{HashMap, HashSet};

use base64::{Engine, engine::general_purpose::STANDARD};
use granit_parser::{
    ErrorKind, Event, Parser, ScalarStyle, ScanError, StrInput, StructureStyle, Tag,
};
use serde_json::{Map, Number, Value};

use crate::name_value::number_text;

/// Deepest nesting of a document.
pub const MAX_DEPTH: usize = 128;

/// Values in a document, counted as often as aliases repeat them: a few lines may stand for billions.
pub const MAX_VALUES: usize = 1_000_000;

/// Why a text is no document.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not YAML.
    #[error(transparent)]
    Syntax(#[from] ScanError),
    /// It is YAML that stands for nothing that JSON could.
    #[error("line {line}: {problem}")]
    Meaning {
        /// Line of the document, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
}

/// Reads the first document of a text; nothing is `null`.
///
/// # Errors
/// Where it is no YAML, or nothing that JSON could express.
pub fn parse(text: &str) -> Result<Value, Error> {
    match read(text) {
        // In brackets Go takes tabs at the beginning of a line: JSON is pasted so.
        Err(Error::Syntax(error)) if *error.kind() == ErrorKind::TabInBlockIndentation => {
            let lines = bracketed_lines(text).ok_or(error)?;
            read(&without_tabs(text, |line| lines.contains(&line)))
        }
        result => result,
    }
}

fn read(text: &str) -> Result<Value, Error> {
    let mut reader = Reader {
        events: events(text),
        anchors: HashMap::new(),
        values: 0,
        depth: 0,
        line: 1,
    };
    reader.document()
}

fn events(text: &str) -> Parser<'_, StrInput<'_>> {
    let options = granit_parser::options! {
        emit_comments: false,
        block_scalar_eof_without_line_feed: true,
        block_nesting_limit: MAX_DEPTH,
        flow_nesting_limit: MAX_DEPTH,
    };
    Parser::new_from_str_with_options(text, options)
}

/// The lines that begin inside of brackets, from 1, if the text is YAML but for its tabs.
fn bracketed_lines(text: &str) -> Option<HashSet<usize>> {
    let text = without_tabs(text, |_| true);
    let (mut open, mut lines) = (Vec::new(), HashSet::new());
    for event in events(&text) {
        let (event, span) = event.ok()?;
        match event {
            Event::SequenceStart(style, ..) | Event::MappingStart(style, ..) => {
                open.push((style == StructureStyle::Flow).then(|| span.start.line()));
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(first) = open.pop()? {
                    lines.extend(first + 1..=span.end.line());
                }
            }
            _ => {}
        }
    }
    Some(lines)
}

/// Blanks in place of the tabs at the beginning of some lines, more of them than any key is indented by.
fn without_tabs(text: &str, chosen: impl Fn(usize) -> bool) -> String {
    let lines = text.split_inclusive('\n').enumerate();
    let indented = lines.map(|(index, line)| {
        let rest = line.trim_start_matches([' ', '\t']);
        let has_tabs = line[..line.len() - rest.len()].contains('\t');
        if has_tabs && chosen(index + 1) {
            format!("{}{rest}", " ".repeat(MAX_INDENT))
        } else {
            line.to_owned()
        }
    });
    indented.collect()
}

/// Nobody indents a key by more.
const MAX_INDENT: usize = 200;

struct Reader<'t> {
    events: Parser<'t, StrInput<'t>>,
    /// `None` while what it stands for is read.
    anchors: HashMap<usize, Option<Anchored>>,
    values: usize,
    depth: usize,
    line: usize,
}

/// What an anchor stands for.
struct Anchored {
    value: Value,
    /// How many values that is.
    size: usize,
    /// How deep they are nested.
    height: usize,
}

impl<'t> Reader<'t> {
    fn document(&mut self) -> Result<Value, Error> {
        loop {
            match self.event()? {
                None | Some(Event::StreamEnd) => return Ok(Value::Null),
                Some(Event::DocumentStart(_, version)) => {
                    if version.is_some_and(|it| (it.major, it.minor) != (1, 1)) {
                        return Err(self.wrong("only YAML 1.1 is read"));
                    }
                    let value = self.value()?;
                    // What is wrong at its end is wrong with it.
                    self.event()?;
                    return Ok(value);
                }
                Some(_) => {}
            }
        }
    }

    fn event(&mut self) -> Result<Option<Event<'t>>, Error> {
        let Some(next) = self.events.next() else {
            return Ok(None);
        };
        let (event, span) = next?;
        self.line = span.start.line();
        Ok(Some(event))
    }

    fn wrong(&self, problem: impl Into<String>) -> Error {
        Error::Meaning {
            line: self.line,
            problem: problem.into(),
        }
    }

    fn value(&mut self) -> Result<Value, Error> {
        match self.event()? {
            Some(event) => self.value_of(event),
            None => Ok(Value::Null),
        }
    }

    fn value_of(&mut self, event: Event<'t>) -> Result<Value, Error> {
        let before = self.values;
        self.count(1)?;
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_deref())
                    .and_then(Scalar::json)
                    .map_err(|problem| self.wrong(problem))?;
                (anchor, value)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.enter(anchor)?;
                (anchor, Value::Array(self.items()?))
            }
            Event::MappingStart(_, anchor, _) => {
                self.enter(anchor)?;
                (anchor, Value::Object(self.fields()?))
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(Some(anchored)) => {
                    let (value, size) = (anchored.value.clone(), anchored.size);
                    self.check_depth(anchored.height)?;
                    self.count(size)?;
                    return Ok(value);
                }
                _ => return Err(self.wrong("an anchor contains itself")),
            },
            _ => return Ok(Value::Null),
        };
        // Zero is none.
        if anchor > 0 {
            let size = self.values - before;
            self.count(size)?;
            let anchored = Anchored {
                value: value.clone(),
                size,
                height: height(&value),
            };
            self.anchors.insert(anchor, Some(anchored));
        }
        Ok(value)
    }

    fn enter(&mut self, anchor: usize) -> Result<(), Error> {
        self.anchors.insert(anchor, None);
        self.depth += 1;
        self.check_depth(0)
    }

    fn check_depth(&self, more: usize) -> Result<(), Error> {
        if self.depth + more > MAX_DEPTH {
            return Err(self.wrong(format!("nested deeper than {MAX_DEPTH}")));
        }
        Ok(())
    }

    fn count(&mut self, more: usize) -> Result<(), Error> {
        self.values = self.values.saturating_add(more);
        if self.values > MAX_VALUES {
            return Err(self.wrong(format!("more than {MAX_VALUES} values")));
        }
        Ok(())
    }

    fn items(&mut self) -> Result<Vec<Value>, Error> {
        let mut items = Vec::new();
        loop {
            match self.event()? {
                None | Some(Event::SequenceEnd) => {
                    self.depth -= 1;
                    return Ok(items);
                }
                Some(event) => items.push(self.value_of(event)?),
            }
        }
    }

    /// The last of equal keys wins, also over and under what `<<` brings in.
    fn fields(&mut self) -> Result<Map<String, Value>, Error> {
        let mut fields = Map::new();
        loop {
            let event = match self.event()? {
                None | Some(Event::MappingEnd) => {
                    self.depth -= 1;
                    return Ok(fields);
                }
                Some(event) => event,
            };
            match self.key(event)? {
                Key::Name(name) => {
                    let value = self.value()?;
                    fields.insert(name, value);
                }
                Key::Merge => match self.value()? {
                    Value::Object(more) => fields.extend(more),
                    Value::Array(all) => {
                        for one in all.into_iter().rev() {
                            match one {
                                Value::Object(more) => fields.extend(more),
                                _ => return Err(self.wrong(BAD_MERGE)),
                            }
                        }
                    }
                    _ => return Err(self.wrong(BAD_MERGE)),
                },
            }
        }
    }

    fn key(&mut self, event: Event<'t>) -> Result<Key, Error> {
        let plain =
            matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
        if plain {
            self.count(1)?;
            return Ok(Key::Merge);
        }
        Ok(Key::Name(match self.value_of(event)? {
            Value::String(text) => text,
            Value::Bool(on) => on.to_string(),
            Value::Number(number) => number_text(&number),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                return Err(self.wrong("a key must be text, a number or a boolean"));
            }
        }))
    }
}

fn height(value: &Value) -> usize {
    let deepest = |heights: &mut dyn Iterator<Item = usize>| 1 + heights.max().unwrap_or_default();
    match value {
        Value::Array(items) => deepest(&mut items.iter().map(height)),
        Value::Object(fields) => deepest(&mut fields.values().map(height)),
        _ => 0,
    }
}

const BAD_MERGE: &str = "<< takes a map, or a list of maps";

enum Key {
    Name(String),
    Merge,
}

/// What a scalar is.
#[derive(Clone, Debug, PartialEq)]
enum Scalar {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
}

impl Scalar {
    fn json(self) -> Result<Value, String> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(on) => Value::Bool(on),
            Self::Text(text) => Value::String(text),
            Self::Integer(integer) => match (i64::try_from(integer), u64::try_from(integer)) {
                (Ok(integer), _) => Value::from(integer),
                (_, Ok(integer)) => Value::from(integer),
                _ => return Err(format!("{integer} is too large")),
            },
            // Go prints whole floats without a point.
            Self::Float(float) if is_whole(float) => Value::from(float as i64),
            Self::Float(float) => Number::from_f64(float)
                .map(Value::Number)
                .ok_or_else(|| format!("{float} is no number of JSON"))?,
        })
    }
}

/// Whether an integer says the same, which knows no negative zero.
fn is_whole(float: f64) -> bool {
    float.fract() == 0.0 && float.abs() < LARGEST_EXACT && float.to_bits() != (-0.0_f64).to_bits()
}

/// Below it every whole float is an integer, exactly.
const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Scalar, String> {
    let Some(tag) = tag else {
        return Ok(match style {
            ScalarStyle::Plain => plain(text),
            _ => Scalar::Text(text.to_owned()),
        });
    };
    let name = match tag.core_suffix() {
        Some(name) => name,
        None if tag.suffix_in_namespace(YAML_TAGS).as_deref() == Some("binary") => {
            return binary(text);
        }
        None => return Ok(Scalar::Text(text.to_owned())),
    };
    let found = plain(text);
    Ok(match (name, found) {
        ("str", _) => Scalar::Text(text.to_owned()),
        ("int", found @ Scalar::Integer(_))
        | ("float", found @ Scalar::Float(_))
        | ("bool", found @ Scalar::Bool(_))
        | ("null", found @ Scalar::Null) => found,
        ("float", Scalar::Integer(integer)) => Scalar::Float(integer as f64),
        _ => return Err(format!("{text:?} is no {name}")),
    })
}

fn binary(text: &str) -> Result<Scalar, String> {
    let packed: String = text.split_ascii_whitespace().collect();
    let bytes = STANDARD
        .decode(packed)
        .map_err(|_| "!!binary is not base64")?;
    let text = String::from_utf8(bytes).map_err(|_| "!!binary is not UTF-8")?;
    Ok(Scalar::Text(text))
}

/// A scalar without quotes and tags, by the rules of YAML 1.1 as Go reads them.
fn plain(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => {
            Scalar::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
            Scalar::Bool(false)
        }
        ".nan" | ".NaN" | ".NAN" => Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Scalar::Float(f64::NEG_INFINITY),
        _ => number(text).unwrap_or_else(|| Scalar::Text(text.to_owned())),
    }
}

fn number(text: &str) -> Option<Scalar> {
    let first = text.bytes().next()?;
    if !matches!(first, b'0'..=b'9' | b'+' | b'-' | b'.') {
        return None;
    }
    // Underscores separate digits, wherever they stand; after a leading point Go does not look for them.
    let digits = match first {
        b'.' => text.to_owned(),
        _ => text.replace('_', ""),
    };
    integer(&digits)
        .filter(|_| first != b'.')
        .map(Scalar::Integer)
        .or_else(|| float(&digits).map(Scalar::Float))
}

/// With the prefixes of Go: `0x`, `0o` or a bare `0`, `0b`; what does not fit into 64 bits is none.
fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = if let Some(rest) = lower.strip_prefix("0x") {
        (16, rest)
    } else if let Some(rest) = lower.strip_prefix("0o") {
        (8, rest)
    } else if let Some(rest) = lower.strip_prefix("0b") {
        (2, rest)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, &*lower)
    };
    // A second sign is none of the number.
    if !digits.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return None;
    }
    let value = i128::from_str_radix(digits, radix).ok()?;
    let value = if negative { -value } else { value };
    let unsigned = !text.starts_with(['+', '-']);
    let fits = i64::try_from(value).is_ok() || (unsigned && u64::try_from(value).is_ok());
    fits.then_some(value)
}

/// Digits with a point and an exponent, both optional; without hexadecimal digits or words. What is too large is none.
fn float(text: &str) -> Option<f64> {
    let body = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match body.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (body, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_fits = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !digits.is_empty() && all_digits(digits)
    });
    let has_digits = !whole.is_empty() || !fraction.is_empty();
    let fits = has_digits && all_digits(whole) && all_digits(fraction) && exponent_fits;
    fits.then(|| text.parse().ok())
        .flatten()
        .filter(|float: &f64| float.is_finite())
}

const YAML_TAGS: &str = "tag:yaml.org,2002:";
