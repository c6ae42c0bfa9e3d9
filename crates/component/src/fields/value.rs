//! What the text of a field is read as: one implementation for each type that a field can have.

use std::{fmt::Display, path::PathBuf, str::FromStr, time::Duration};

use values::{GoDuration, Quantity, is_truthy};

use super::Field;

/// What a text is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text, as it is.
    Text,
    /// `y, yes, true, t, on, 1` in any case are true, everything else is false.
    Boolean,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A duration in Go syntax, or a bare number of a unit.
    Duration,
    /// A size in bytes, written as a quantity (`4Mi`, `100k`, `512`).
    Size,
    /// Texts, separated by commas.
    List,
    /// One of these.
    OneOf(&'static [&'static str]),
}

/// A type that a field can have.
pub trait Value: Sized {
    /// What its text is read as.
    const KIND: Kind;

    /// Reads a text, which is not empty.
    ///
    /// # Errors
    /// What is wrong with it.
    fn read(text: &str, field: &Field) -> Result<Self, String>;

    /// How one would write it, for defaults.
    fn text(&self) -> Option<String>;

    /// The value of a field that is not set and says nothing of a default.
    fn absent() -> Option<Self> {
        None
    }
}

impl<T: Value> Value for Option<T> {
    const KIND: Kind = T::KIND;

    fn read(text: &str, field: &Field) -> Result<Self, String> {
        T::read(text, field).map(Some)
    }

    fn text(&self) -> Option<String> {
        self.as_ref().and_then(T::text)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl Value for bool {
    const KIND: Kind = Kind::Boolean;

    fn read(text: &str, _: &Field) -> Result<Self, String> {
        Ok(is_truthy(text))
    }

    fn text(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn absent() -> Option<Self> {
        Some(false)
    }
}

/// As it is written: blanks may belong to a password.
impl Value for String {
    const KIND: Kind = Kind::Text;

    fn read(text: &str, _: &Field) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn text(&self) -> Option<String> {
        Some(self.clone()).filter(|text| !text.is_empty())
    }
}

impl Value for PathBuf {
    const KIND: Kind = Kind::Text;

    fn read(text: &str, _: &Field) -> Result<Self, String> {
        Ok(text.into())
    }

    fn text(&self) -> Option<String> {
        Some(self.display().to_string())
    }
}

macro_rules! by_parsing {
    ($($type:ty: $kind:ident),+) => {$(
        impl Value for $type {
            const KIND: Kind = Kind::$kind;

            fn read(text: &str, _: &Field) -> Result<Self, String> {
                parse(text)
            }

            fn text(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )+};
}

by_parsing!(u16: Integer, u32: Integer, u64: Integer, usize: Integer, i32: Integer, i64: Integer, f64: Number);

fn parse<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    let parsed = text.trim().parse();
    parsed.map_err(|error: T::Err| error.to_string())
}

/// Below zero as well, where that means something.
impl Value for GoDuration {
    const KIND: Kind = Kind::Duration;

    fn read(text: &str, field: &Field) -> Result<Self, String> {
        let (Some(unit), Ok(number)) = (field.unit, text.trim().parse::<i64>()) else {
            return parse(text);
        };
        let unit = GoDuration::from(unit).nanoseconds();
        let nanoseconds = unit.checked_mul(number);
        nanoseconds
            .map(Self::from_nanos)
            .ok_or_else(|| "is too long".to_owned())
    }

    fn text(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Value for Duration {
    const KIND: Kind = Kind::Duration;

    fn read(text: &str, field: &Field) -> Result<Self, String> {
        let signed = GoDuration::read(text, field)?;
        signed.to_std().ok_or_else(|| "is negative".to_owned())
    }

    fn text(&self) -> Option<String> {
        GoDuration::from(*self).text()
    }
}

/// A size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Value for Size {
    const KIND: Kind = Kind::Size;

    fn read(text: &str, _: &Field) -> Result<Self, String> {
        let quantity: Quantity = parse(text)?;
        let bytes = quantity.value().and_then(|bytes| u64::try_from(bytes).ok());
        bytes
            .map(Self)
            .ok_or_else(|| "is no size in bytes".to_owned())
    }

    fn text(&self) -> Option<String> {
        i64::try_from(self.0)
            .ok()
            .map(|bytes| Quantity::from_bytes(bytes).to_string())
    }
}

/// Items are trimmed, and empty ones dropped.
impl Value for Vec<String> {
    const KIND: Kind = Kind::List;

    fn read(text: &str, _: &Field) -> Result<Self, String> {
        Ok(values::list::owned(text))
    }

    fn text(&self) -> Option<String> {
        Some(self.join(",")).filter(|text| !text.is_empty())
    }
}
