//! Reads JSON into Rust types by the rules of Go's `encoding/json`, on which callers have come to rely:
//!
//! - the names of a struct's fields are matched without regard to case; keys of maps are left as they are;
//! - of two members for one field, the last one counts;
//! - null leaves a field as if it were absent, and is the zero value of a number, string, list or map;
//! - unknown members are passed over.
//!
//! So structs need `#[serde(default)]`, and must not use `flatten` or be untagged.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{
        self, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor,
        value::BorrowedStrDeserializer,
    },
    forward_to_deserialize_any,
};
use serde_json::value::RawValue;

use super::first_value;

/// Reads a value, and nothing may follow it.
///
/// # Errors
/// Names the field, and what is wrong with it.
pub fn read<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, Error> {
    let value: &RawValue =
        serde_json::from_str(text).map_err(|error| Error::new(error.to_string()))?;
    T::deserialize(Json(value.get()))
}

/// Reads the first value of a text; what follows it is ignored.
///
/// # Errors
/// As [`read`].
pub fn read_first<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, Error> {
    T::deserialize(Json(first_value(text).map_err(Error::new)?.get()))
}

/// Why a value could not be read.
#[derive(Debug, PartialEq, Eq)]
pub struct Error {
    /// Names of fields and keys, outermost first.
    path: Vec<String>,
    problem: String,
}

impl Error {
    fn new(problem: String) -> Self {
        Self {
            path: Vec::new(),
            problem,
        }
    }

    fn below(mut self, name: &str) -> Self {
        self.path.insert(0, name.to_owned());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "field {}: ", self.path.join("."))?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(problem: T) -> Self {
        Self::new(problem.to_string())
    }
}

/// The valid text of one value.
#[derive(Clone, Copy)]
struct Json<'de>(&'de str);

impl<'de> Json<'de> {
    fn is_null(self) -> bool {
        self.0 == "null"
    }

    /// Reads by serde_json, whose positions are within this value only and would mislead.
    fn plain<T>(
        self,
        read: impl FnOnce(
            &mut serde_json::Deserializer<serde_json::de::StrRead<'de>>,
        ) -> serde_json::Result<T>,
    ) -> Result<T, Error> {
        read(&mut serde_json::Deserializer::from_str(self.0)).map_err(|error| {
            let text = error.to_string();
            let problem = text
                .rsplit_once(" at line ")
                .map_or(&*text, |(problem, _)| problem);
            Error::new(problem.to_owned())
        })
    }

    fn items(self) -> Result<Vec<&'de RawValue>, Error> {
        self.plain(|json| Vec::deserialize(json))
    }

    fn members(self) -> Result<Members<'de>, Error> {
        self.plain(|json| json.deserialize_map(Collect))
    }
}

type Members<'de> = Vec<(Cow<'de, str>, &'de RawValue)>;

/// Collects members in order, duplicates included.
struct Collect;

impl<'de> Visitor<'de> for Collect {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            members.push((key, map.next_value()?));
        }
        Ok(members)
    }
}

/// A key, borrowed where it has no escapes.
struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

macro_rules! zero_where_null {
    ($($method:ident, $visit:ident, $zero:expr;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            if self.is_null() {
                return visitor.$visit($zero);
            }
            self.plain(|json| json.$method(visitor))
        })*
    };
}

impl<'de> Deserializer<'de> for Json<'de> {
    type Error = Error;

    zero_where_null! {
        deserialize_bool, visit_bool, false;
        deserialize_i8, visit_i8, 0;
        deserialize_i16, visit_i16, 0;
        deserialize_i32, visit_i32, 0;
        deserialize_i64, visit_i64, 0;
        deserialize_u8, visit_u8, 0;
        deserialize_u16, visit_u16, 0;
        deserialize_u32, visit_u32, 0;
        deserialize_u64, visit_u64, 0;
        deserialize_f32, visit_f32, 0.0;
        deserialize_f64, visit_f64, 0.0;
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_null() {
            return visitor.visit_borrowed_str("");
        }
        let inner = self
            .0
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'));
        match inner.map(super::scan::unescape) {
            Some(Cow::Borrowed(text)) => visitor.visit_borrowed_str(text),
            Some(Cow::Owned(text)) => visitor.visit_string(text),
            None => self.plain(|json| json.deserialize_str(visitor)),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.plain(|json| json.deserialize_any(visitor))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    /// Raw values come this way too; they have to be read by serde_json.
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.plain(|json| json.deserialize_newtype_struct(name, visitor))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let items = if self.is_null() {
            Vec::new()
        } else {
            self.items()?
        };
        visitor.visit_seq(Items(items.into_iter()))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let members = if self.is_null() {
            Vec::new()
        } else {
            self.members()?
        };
        visitor.visit_map(Entries::new(members))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let members = if self.is_null() {
            Vec::new()
        } else {
            self.members()?
        };
        let mut folded: Members<'de> = Vec::with_capacity(members.len());
        for (key, value) in members {
            let exact = fields.iter().find(|field| **field == key);
            let field =
                exact.or_else(|| fields.iter().find(|field| field.eq_ignore_ascii_case(&key)));
            let Some(field) = field.filter(|_| !super::is_null(value)) else {
                continue;
            };
            match folded.iter_mut().find(|(name, _)| name == field) {
                Some(member) => member.1 = value,
                None => folded.push((Cow::Borrowed(field), value)),
            }
        }
        visitor.visit_map(Entries::new(folded))
    }

    forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Error> for Json<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

struct Items<'de>(std::vec::IntoIter<&'de RawValue>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let item = self.0.next();
        item.map(|value| seed.deserialize(Json(value.get())))
            .transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Entries<'de> {
    members: std::vec::IntoIter<(Cow<'de, str>, &'de RawValue)>,
    current: Option<(String, &'de RawValue)>,
}

impl<'de> Entries<'de> {
    fn new(members: Members<'de>) -> Self {
        Self {
            members: members.into_iter(),
            current: None,
        }
    }
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.members.next() else {
            return Ok(None);
        };
        self.current = Some((key.clone().into_owned(), value));
        match key {
            Cow::Borrowed(key) => seed.deserialize(BorrowedStrDeserializer::new(key)),
            Cow::Owned(key) => seed.deserialize(key.into_deserializer()),
        }
        .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (name, value) = self
            .current
            .take()
            .ok_or_else(|| de::Error::custom("a value without a key"))?;
        seed.deserialize(Json(value.get()))
            .map_err(|error| error.below(&name))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase", default)]
    struct Entry {
        entry_id: String,
        count: i32,
        metadata: BTreeMap<String, String>,
        options: Option<Options>,
        items: Vec<Options>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Options {
        concurrency: String,
    }

    fn entry(text: &str) -> Entry {
        read(text).unwrap()
    }

    #[test]
    fn names_of_fields_have_any_case_and_keys_of_maps_their_own() {
        let one = entry(
            r#"{"ENTRYID": "1", "Metadata": {"Key": "a", "key": "b"}, "oPtions": {"Concurrency": "x"},
                "ITEMS": [{"CONCURRENCY": "y"}], "other": [1]}"#,
        );
        assert_eq!(one.entry_id, "1");
        assert_eq!(one.metadata.len(), 2);
        assert_eq!(one.options.unwrap().concurrency, "x");
        assert_eq!(one.items[0].concurrency, "y");
    }

    #[test]
    fn of_two_members_for_a_field_the_last_one_counts() {
        assert_eq!(entry(r#"{"entryId": "1", "entryID": "2"}"#).entry_id, "2");
        assert_eq!(entry(r#"{"entryID": "2", "entryId": "1"}"#).entry_id, "1");
        assert_eq!(entry(r#"{"entryId": "1", "entryId": "3"}"#).entry_id, "3");
    }

    #[test]
    fn null_is_as_good_as_nothing() {
        let none = entry(
            r#"{"entryId": null, "count": null, "metadata": null, "options": null, "items": null}"#,
        );
        assert_eq!(none, Entry::default());
        assert_eq!(entry("null"), Entry::default());
        let empty =
            entry(r#"{"entryId": "1", "ENTRYID": null, "metadata": {"a": null}, "items": [null]}"#);
        assert_eq!(empty.entry_id, "1");
        assert_eq!(empty.metadata["a"], "");
        assert_eq!(empty.items, [Options::default()]);
    }

    #[test]
    fn raw_values_are_borrowed_as_they_are() {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Item<'a> {
            #[serde(borrow)]
            value: Option<&'a RawValue>,
        }
        let item: Item<'_> = read(r#"{"Value": {"B": 1.10}}"#).unwrap();
        assert_eq!(item.value.unwrap().get(), r#"{"B": 1.10}"#);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let problem = |text: &str| read::<Entry>(text).unwrap_err().to_string();
        assert_eq!(
            problem(r#"{"metadata": {"a": 1}}"#),
            "field metadata.a: invalid type: integer `1`, expected a string"
        );
        assert_eq!(
            problem(r#"{"options": {"concurrency": []}}"#),
            "field options.concurrency: invalid type: sequence, expected a string"
        );
        assert!(problem("[]").contains("expected an object"));
        assert!(problem("{} x").contains("trailing"));
        assert_eq!(read_first::<Entry>("{} x").unwrap(), Entry::default());
        assert_eq!(read_first::<Entry>("").unwrap_err().to_string(), "EOF");
    }
}
