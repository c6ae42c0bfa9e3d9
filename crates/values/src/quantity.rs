//! Kubernetes quantities: `4Mi`, `100m`, `1e3`. Used for body sizes and for the resources of the sidecar container.
//!
//! Held exactly in billionths, the finest step Kubernetes keeps; anything finer is rounded away from zero.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::MAX_TEXT;

/// An amount with its text form.
#[derive(Clone, Debug)]
pub struct Quantity {
    /// Billionths.
    nano: i128,
    notation: Notation,
    /// The text as written, when Kubernetes would print it unchanged.
    written: Option<Box<str>>,
}

/// Which family of suffixes prints the amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notation {
    Binary,
    Decimal,
    Exponent,
}

/// Why a text is no quantity.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// Not a number followed by a suffix.
    #[error("invalid quantity {0:?}")]
    Invalid(String),
    /// The suffix is none of n, u, m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei, or `e` with an exponent.
    #[error("unknown suffix {suffix:?} in quantity {text:?}")]
    Suffix {
        /// The suffix as written.
        suffix: String,
        /// The whole text.
        text: String,
    },
    /// Beyond what fits (about 10^20 whole units).
    #[error("quantity {0:?} is out of range")]
    Range(String),
}

impl Quantity {
    /// A whole number of bytes (or of anything), printed with binary suffixes.
    pub fn from_bytes(bytes: i64) -> Self {
        Self {
            nano: i128::from(bytes) * ONE,
            notation: Notation::Binary,
            written: None,
        }
    }

    /// The amount in whole units, rounded up; `None` if it does not fit (Q-quantity-overflow).
    pub fn value(&self) -> Option<i64> {
        let whole =
            self.nano / ONE + i128::from(self.nano % ONE > 0) - i128::from(self.nano % ONE < 0);
        i64::try_from(whole).ok()
    }

    /// True for nothing, whatever the suffix.
    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }

    /// True below zero.
    pub fn is_negative(&self) -> bool {
        self.nano < 0
    }
}

impl PartialEq for Quantity {
    /// Amounts compare; spellings do not.
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl FromStr for Quantity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let shown = || text.chars().take(64).collect::<String>();
        if text.is_empty() || text.len() > MAX_TEXT {
            return Err(Error::Invalid(shown()));
        }
        let (negative, body) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, rest) = body.split_at(digits(body));
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => rest.split_at(digits(rest)),
            None => ("", rest),
        };
        if !suffix
            .bytes()
            .all(|b| b.is_ascii_digit() || b"eEinumkKMGTP+-".contains(&b))
        {
            return Err(Error::Invalid(shown()));
        }
        let (scale, notation) = interpret(suffix).ok_or_else(|| Error::Suffix {
            suffix: suffix.to_owned(),
            text: shown(),
        })?;
        let whole = whole.trim_start_matches('0');
        let magnitude = match (amount(whole, fraction, &scale), scale) {
            // Binary sizes stop at the largest signed 64-bit number instead of failing.
            (magnitude, Scale::Two(_)) => magnitude.unwrap_or(MAX_BINARY).min(MAX_BINARY),
            (magnitude, Scale::Ten(_)) => magnitude.ok_or_else(|| Error::Range(shown()))?,
        };
        let notation = match notation {
            // A binary fraction of one unit prints as decimal, so that it is not rounded.
            Notation::Binary if magnitude > 0 && magnitude < ONE => Notation::Decimal,
            notation => notation,
        };
        let written = prints_as_written(whole, fraction, &scale, notation).then(|| text.into());
        Ok(Self {
            nano: if negative { -magnitude } else { magnitude },
            notation,
            written,
        })
    }
}

/// The factor a suffix stands for.
#[derive(Clone, Copy)]
enum Scale {
    Two(u32),
    Ten(i32),
}

fn interpret(suffix: &str) -> Option<(Scale, Notation)> {
    if let Some(index) = DECIMAL.iter().position(|known| *known == suffix) {
        return Some((Scale::Ten(index as i32 * 3 - 9), Notation::Decimal));
    }
    if let Some(index) = BINARY
        .iter()
        .position(|known| *known == suffix && !suffix.is_empty())
    {
        return Some((Scale::Two(index as u32 * 10), Notation::Binary));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some((Scale::Ten(exponent), Notation::Exponent))
}

/// Billionths of `whole.fraction` times the scale, rounded up; `None` beyond the range.
fn amount(whole: &str, fraction: &str, scale: &Scale) -> Option<i128> {
    let (kept, dropped) = fraction.split_at(fraction.len().min(MAX_FRACTION_DIGITS));
    if whole.len() > MAX_WHOLE_DIGITS {
        return None;
    }
    let mantissa: i128 = match format!("{whole}{kept}").as_str() {
        "" => 0,
        digits => digits.parse().ok()?,
    };
    let sticky = dropped.bytes().any(|digit| digit != b'0');
    if mantissa == 0 && !sticky {
        return Some(0);
    }
    let (factor, exponent) = match *scale {
        Scale::Two(power) => (1i128 << power, 0),
        Scale::Ten(exponent) => (1, exponent),
    };
    let shift = exponent.checked_add(9 - kept.len() as i32)?;
    let scaled = mantissa.checked_mul(factor)?;
    let (value, remainder) = match (shift, 10i128.checked_pow(shift.unsigned_abs())) {
        (0.., Some(ten)) => (scaled.checked_mul(ten)?, 0),
        (0.., None) => return None,
        (_, Some(ten)) => (scaled / ten, scaled % ten),
        (_, None) => (0, 1),
    };
    value
        .checked_add(i128::from(remainder != 0 || sticky))
        .filter(|value| *value <= MAX_NANO)
}

/// Whether Kubernetes prints the text as it was written (a sign or trailing zeros included) instead of normalising.
fn prints_as_written(whole: &str, fraction: &str, scale: &Scale, notation: Notation) -> bool {
    let whole = if whole.is_empty() { "0" } else { whole };
    let digits = format!("{whole}{fraction}");
    let Ok(value) = digits.parse::<i64>() else {
        return false;
    };
    match *scale {
        Scale::Two(power) => {
            let room = 15 - whole.len() as i32 - (power as f32 * 3.0 / 10.0) as i32 - 1;
            notation == Notation::Binary && fraction.is_empty() && room >= 0 && value & 7 != 0
        }
        Scale::Ten(exponent) => {
            let shift = exponent.saturating_sub(fraction.len() as i32);
            digits.len() <= 18
                && shift >= -9
                && shift % 3 == 0
                && !digits.ends_with("000")
                && !digits.starts_with('0')
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        if let Some(written) = &self.written {
            return f.write_str(written);
        }
        let whole = self.nano % ONE == 0;
        if self.notation == Notation::Binary && whole && self.nano.abs() >= 1024 * ONE {
            let (mut number, mut index) = (self.nano / ONE, 0);
            while number % 1024 == 0 && index + 1 < BINARY.len() {
                (number, index) = (number / 1024, index + 1);
            }
            return write!(f, "{number}{}", BINARY[index]);
        }
        let (mut number, mut index) = (self.nano, 0);
        while number % 1000 == 0
            && (self.notation == Notation::Exponent || index + 1 < DECIMAL.len())
        {
            (number, index) = (number / 1000, index + 1);
        }
        match (self.notation, index as i32 * 3 - 9) {
            (Notation::Exponent, 0) => write!(f, "{number}"),
            (Notation::Exponent, exponent) => write!(f, "{number}e{exponent}"),
            _ => write!(f, "{number}{}", DECIMAL[index]),
        }
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// Decimal suffixes in steps of a thousand, from billionths up.
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
/// Binary suffixes in steps of 1024.
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// Billionths in one.
const ONE: i128 = 1_000_000_000;
/// Largest magnitude, in billionths: far above any size, far below overflow.
const MAX_NANO: i128 = ONE * ONE * ONE * 1000;
/// Largest magnitude with a binary suffix, in billionths.
const MAX_BINARY: i128 = i64::MAX as i128 * ONE;
/// Digits behind the point that are kept exactly; a rest only rounds up.
const MAX_FRACTION_DIGITS: usize = 18;
/// Digits before the point: those of the largest value in billionths, which prints as such.
const MAX_WHOLE_DIGITS: usize = 31;

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(text: &str) -> String {
        text.parse::<Quantity>().expect("a quantity").to_string()
    }

    #[test]
    fn amounts_are_normalised() {
        assert_eq!(printed("1024Ki"), "1Mi");
        assert_eq!(printed("0.0000000001"), "1n");
        assert_eq!(printed("2000"), "2k");
        assert_eq!(printed("12000e3"), "12e6");
        assert_eq!(printed("0.5Ki"), "512");
        assert_eq!(Quantity::from_bytes(4 << 20).to_string(), "4Mi");
    }

    #[test]
    fn binary_sizes_stop_at_the_largest_number() {
        let largest: Quantity = "16Ei".parse().expect("a quantity");
        assert_eq!(largest.value(), Some(i64::MAX));
        assert_eq!(printed("-909494702Ti"), "-9223372036854775807");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "4ki",
            "--4",
            "4MiB",
            "e3e",
            "99999999999999999999999",
            "1e99",
            "1Ei1",
            "Ki4",
        ] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }

    #[test]
    fn equality_ignores_spelling() {
        assert_eq!("1Ki".parse::<Quantity>(), "1024".parse());
    }
}
