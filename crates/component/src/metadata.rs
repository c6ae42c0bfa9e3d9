//! Component metadata with upstream's leniency: keys ignore case and may have aliases; values are text that is read as a
//! number, duration, boolean or quantity where the field asks for one (contract 14, component-metadata.md).

use std::{collections::BTreeMap, fmt::Display, str::FromStr, time::Duration};

use crate::{Error, Result};

/// The metadata of a component. Fields are found in any spelling, and keep the one they were written in.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Metadata(BTreeMap<String, Field>);

/// A field; what it is found by is its name in lower case.
#[derive(Clone, PartialEq, Eq)]
struct Field {
    name: String,
    value: String,
}

impl Metadata {
    /// The text of a field; an empty value counts as absent.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.first(&[field])
    }

    /// The text of the first field that is set: a name and its aliases.
    pub fn first(&self, fields: &[&str]) -> Option<&str> {
        fields
            .iter()
            .filter_map(|field| self.0.get(&field.to_ascii_lowercase()))
            .map(|field| field.value.as_str())
            .find(|value| !value.is_empty())
    }

    /// The text of a field that must be set.
    ///
    /// # Errors
    /// Names the field.
    pub fn required(&self, fields: &[&str]) -> Result<&str> {
        self.first(fields)
            .ok_or_else(|| Error::invalid_metadata(fields[0], "is required"))
    }

    /// A number, or any type with a textual form.
    ///
    /// # Errors
    /// Names the field and the value.
    pub fn parse<T>(&self, fields: &[&str]) -> Result<Option<T>>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.decode(fields, |value| value.parse::<T>())
    }

    /// A boolean: `y, yes, true, t, on, 1` in any case are true, everything else is false.
    pub fn boolean(&self, fields: &[&str]) -> Option<bool> {
        self.first(fields).map(values::is_truthy)
    }

    /// A duration in Go syntax; a bare number is taken in `unit`, because components differ in what a bare number means.
    ///
    /// # Errors
    /// Names the field and the value.
    pub fn duration(&self, fields: &[&str], unit: Duration) -> Result<Option<Duration>> {
        self.decode(fields, |value| {
            if let Ok(number) = value.parse::<u32>() {
                return unit
                    .checked_mul(number)
                    .ok_or_else(|| "is too long".to_owned());
            }
            let parsed: values::GoDuration = value
                .parse()
                .map_err(|error: values::duration::Error| error.to_string())?;
            parsed.to_std().ok_or_else(|| "is negative".to_owned())
        })
    }

    /// A size in bytes, written as a quantity (`4Mi`, `100k`, `512`).
    ///
    /// # Errors
    /// Names the field and the value.
    pub fn size(&self, fields: &[&str]) -> Result<Option<u64>> {
        self.decode(fields, |value| {
            let quantity: values::Quantity = value
                .parse()
                .map_err(|error: values::quantity::Error| error.to_string())?;
            let bytes = quantity.value().and_then(|bytes| u64::try_from(bytes).ok());
            bytes.ok_or_else(|| "is no size in bytes".to_owned())
        })
    }

    /// Reads a field by `read`.
    ///
    /// # Errors
    /// Names the field and the value.
    pub fn decode<T, E: Display>(
        &self,
        fields: &[&str],
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>> {
        let Some(value) = self.first(fields) else {
            return Ok(None);
        };
        read(value.trim())
            .map(Some)
            .map_err(|error| Error::invalid_metadata(fields[0], format!("{value:?}: {error}")))
    }

    /// All fields as they are spelled, for those who hand them on: another program may tell `Host` from `host`.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.values().map(|field| (&*field.name, &*field.value))
    }

    /// Sets a field where it is absent.
    pub fn set_default(&mut self, field: &str, value: impl Into<String>) {
        let slot = self.0.entry(field.to_ascii_lowercase());
        let slot = slot.or_insert_with(|| Field {
            name: field.to_owned(),
            value: String::new(),
        });
        if slot.value.is_empty() {
            slot.value = value.into();
        }
    }
}

impl<K: AsRef<str>, V: Into<String>> FromIterator<(K, V)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(fields: I) -> Self {
        Self(
            fields
                .into_iter()
                .map(|(name, value)| {
                    let field = Field {
                        name: name.as_ref().to_owned(),
                        value: value.into(),
                    };
                    (field.name.to_ascii_lowercase(), field)
                })
                .collect(),
        )
    }
}

/// Values may be secrets: only the names are shown.
impl std::fmt::Debug for Metadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.0.values().map(|field| &field.name);
        f.debug_set().entries(names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn sample() -> Metadata {
        Metadata::from_iter([
            ("RedisHost", "localhost:6379"),
            ("maxRetries", "3"),
            ("dialTimeout", "1500ms"),
            ("readTimeout", "5"),
            ("enableTLS", "Yes"),
            ("empty", ""),
            ("bad", "five"),
        ])
    }

    #[test]
    fn keys_ignore_case_and_have_aliases() {
        let metadata = sample();
        assert_eq!(metadata.text("redishost"), Some("localhost:6379"));
        assert_eq!(
            metadata.first(&["host", "REDISHOST"]),
            Some("localhost:6379")
        );
        assert_eq!(metadata.text("empty"), None);
    }

    #[test]
    fn values_are_read_as_the_field_asks() {
        let metadata = sample();
        assert_eq!(metadata.parse::<u32>(&["maxRetries"]).unwrap(), Some(3));
        assert_eq!(metadata.boolean(&["enabletls"]), Some(true));
        let second = Duration::from_secs(1);
        assert_eq!(
            metadata.duration(&["dialTimeout"], second).unwrap(),
            Some(Duration::from_millis(1500))
        );
        assert_eq!(
            metadata.duration(&["readTimeout"], second).unwrap(),
            Some(Duration::from_secs(5))
        );
    }

    #[test]
    fn a_wrong_value_names_the_field() {
        let error = sample().parse::<u32>(&["bad"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidMetadata);
        assert!(error.to_string().contains("bad"), "{error}");
        let error = sample().required(&["absent"]).unwrap_err();
        assert_eq!(error.to_string(), "metadata field absent: is required");
    }

    #[test]
    fn spellings_are_kept() {
        let mut metadata = Metadata::from_iter([("maxRetries", "1"), ("Host", "a"), ("host", "b")]);
        metadata.set_default("consumerID", "me");
        metadata.set_default("MAXRETRIES", "9");
        let mut fields: Vec<_> = metadata.iter().collect();
        fields.sort_unstable();
        assert_eq!(
            fields,
            [("consumerID", "me"), ("host", "b"), ("maxRetries", "1")],
            "the last of two spellings counts"
        );
        assert_eq!(metadata.text("CONSUMERID"), Some("me"));
    }

    #[test]
    fn secrets_are_not_printed() {
        assert!(!format!("{:?}", sample()).contains("6379"));
    }
}
