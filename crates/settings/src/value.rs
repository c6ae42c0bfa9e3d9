//! The types that settings have, and how their text is read at each door.

use std::fmt;

use values::{GoDuration, Quantity, is_truthy, list};

use crate::Door;

/// The type of a row, for help texts and for the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// True or false; on the command line the value may be left out.
    Switch,
    /// A signed number.
    Integer,
    /// A TCP port.
    Port,
    /// A Go duration.
    Duration,
    /// A Kubernetes quantity.
    Quantity,
    /// Comma-separated; on the command line it may also be repeated.
    List,
    /// Text that is never printed.
    Secret,
}

/// A text that does not show in debug output or errors.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// A type that a row can have.
pub(crate) trait Value: Sized {
    const KIND: Kind;

    /// Reads the text of a door; the error says what is wrong, without the value.
    fn read(text: &str, door: Door) -> Result<Self, String>;

    /// The text that a flag carries.
    fn text(&self) -> String;

    /// Takes in a repetition of the flag; the last one wins unless the type collects.
    fn join(&mut self, later: Self) {
        *self = later;
    }
}

impl Value for String {
    const KIND: Kind = Kind::Text;

    fn read(text: &str, _: Door) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn text(&self) -> String {
        self.clone()
    }
}

impl Value for Secret {
    const KIND: Kind = Kind::Secret;

    fn read(text: &str, _: Door) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}

impl Value for bool {
    const KIND: Kind = Kind::Switch;

    fn read(text: &str, door: Door) -> Result<Self, String> {
        match (door, text) {
            (Door::Annotation | Door::Environment, _) => Ok(is_truthy(text)),
            (_, "1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            (_, "0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            _ => Err("neither true nor false".to_owned()),
        }
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for i64 {
    const KIND: Kind = Kind::Integer;

    fn read(text: &str, _: Door) -> Result<Self, String> {
        text.parse()
            .map_err(|error: std::num::ParseIntError| error.to_string())
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for u16 {
    const KIND: Kind = Kind::Port;

    fn read(text: &str, _: Door) -> Result<Self, String> {
        text.parse()
            .map_err(|_| "not a port between 0 and 65535".to_owned())
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for GoDuration {
    const KIND: Kind = Kind::Duration;

    fn read(text: &str, door: Door) -> Result<Self, String> {
        let duration: Self = text
            .parse()
            .map_err(|error: values::duration::Error| error.to_string())?;
        match door {
            Door::Environment if duration <= Self::ZERO => Err("not above zero".to_owned()),
            _ => Ok(duration),
        }
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for Quantity {
    const KIND: Kind = Kind::Quantity;

    fn read(text: &str, _: Door) -> Result<Self, String> {
        text.parse()
            .map_err(|error: values::quantity::Error| error.to_string())
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for Vec<String> {
    const KIND: Kind = Kind::List;

    fn read(text: &str, _: Door) -> Result<Self, String> {
        Ok(list::owned(text))
    }

    fn text(&self) -> String {
        self.as_slice().join(",")
    }

    fn join(&mut self, later: Self) {
        self.extend(later);
    }
}
