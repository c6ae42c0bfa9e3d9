//! What a component is configured with, declared once as a struct: parsing, defaults, aliases, errors that name the field,
//! warnings and the printed tables all come from that declaration (contract 14, component-metadata.md).
//!
//! ```
//! use component::{Metadata, fields::SECOND, metadata};
//! use std::time::Duration;
//!
//! metadata! {
//!     /// What a store is opened with.
//!     pub struct Settings {
//!         /// Where the server is.
//!         host: String => "host" | "url";
//!         /// Longest wait for an answer.
//!         timeout: Duration => "timeout", default(Duration::from_secs(20)), unit(SECOND);
//!         /// Its password, where it asks for one.
//!         password: Option<String> => "password", secret;
//!     }
//!     ignored { "poolSize": Integer }
//! }
//!
//! let settings = Settings::read(&Metadata::from_iter([("HOST", "a"), ("timeout", "5")])).unwrap();
//! assert_eq!((&*settings.host, settings.timeout), ("a", Duration::from_secs(5)));
//! let error = Settings::read(&Metadata::default()).err().unwrap();
//! assert_eq!(error.to_string(), "metadata field host: is required");
//! ```
//!
//! The type says the rest: an `Option` may be absent, a `bool` is false then, a field with a `default` has that, and any
//! other is required.

use std::time::Duration;

use crate::{Error, ErrorKind, Metadata, Result};

pub use value::{Kind, Size, Value};

mod value;

/// The unit of bare numbers in most fields.
pub const SECOND: Duration = Duration::from_secs(1);
/// The unit of bare numbers in some.
pub const MILLISECOND: Duration = Duration::from_millis(1);

/// A field as it can be printed.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name; spellings that differ in case only are the same.
    pub name: &'static str,
    /// Other names, which count where the first is not set.
    pub aliases: &'static [&'static str],
    /// What its text is read as.
    pub kind: Kind,
    /// What it is where it is not set, as one would write it.
    pub default: Option<String>,
    /// There is no component without it.
    pub required: bool,
    /// Its value is not shown.
    pub secret: bool,
    /// What to use instead, for a field that works and should not be used any more.
    pub deprecated: Option<&'static str>,
    /// What a bare number counts, for durations.
    pub unit: Option<Duration>,
    /// It is accepted, because components in use have it, and changes nothing.
    pub ignored: bool,
    /// What it does.
    pub about: String,
}

impl Field {
    /// A field that is accepted and changes nothing.
    pub fn ignored(name: &'static str, kind: Kind) -> Self {
        Self {
            ignored: true,
            ..Self::new(name, &[], kind)
        }
    }

    fn new(name: &'static str, aliases: &'static [&'static str], kind: Kind) -> Self {
        Self {
            name,
            aliases,
            kind,
            default: None,
            required: false,
            secret: false,
            deprecated: None,
            unit: None,
            ignored: false,
            about: String::new(),
        }
    }

    fn is(&self, name: &str) -> bool {
        let mut names = self.aliases.iter().chain([&self.name]);
        names.any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// The fields of a component, in the order in which they are shown.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    list: Vec<Field>,
    free: bool,
}

impl Fields {
    /// These.
    pub fn new(list: Vec<Field>) -> Self {
        Self { list, free: false }
    }

    /// None are known, and any are handed on: for components whose fields somebody else knows.
    pub fn unknown() -> Self {
        Self::default().and_others()
    }

    /// The same with those of another struct, for what several components share.
    #[must_use]
    pub fn and(mut self, mut others: Self) -> Self {
        self.list.append(&mut others.list);
        self.free |= others.free;
        self
    }

    /// The same, with fields besides whose names are not known before.
    #[must_use]
    pub fn and_others(mut self) -> Self {
        self.free = true;
        self
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Field> {
        self.list.iter()
    }

    /// The field of a name or an alias.
    pub fn find(&self, name: &str) -> Option<&Field> {
        self.list.iter().find(|field| field.is(name))
    }

    /// What is odd about the metadata of a component, a sentence each: fields that nobody reads, and those that are out of
    /// use. Nothing of it keeps a component from being opened.
    pub fn warnings(&self, metadata: &Metadata) -> Vec<String> {
        let set = metadata.iter().filter(|(_, value)| !value.is_empty());
        set.filter_map(|(name, _)| match self.find(name) {
            None if self.free || is_of_the_runtime(name) => None,
            None => Some(format!(
                "metadata field {name} is not known and has no effect"
            )),
            Some(field) if field.ignored => {
                Some(format!("metadata field {name} has no effect here"))
            }
            Some(field) => field
                .deprecated
                .map(|instead| format!("metadata field {name} is deprecated: use {instead}")),
        })
        .collect()
    }
}

/// Fields that the runtime reads, whatever the component is (contract 3.3).
fn is_of_the_runtime(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    OF_THE_RUNTIME.contains(&&*name) || name.starts_with("outbox")
}

const OF_THE_RUNTIME: [&str; 13] = [
    "actorstatestore",
    "allowedtopics",
    "consumerid",
    "daprnamespacedtopics",
    "direction",
    "entityname",
    "keyprefix",
    "primaryencryptionkey",
    "protectedtopics",
    "publishingscopes",
    "route",
    "secondaryencryptionkey",
    "subscriptionscopes",
];

/// A field of the type `T`: what [`metadata!`](crate::metadata!) makes of a line.
pub struct Spec<T> {
    field: Field,
    default: Option<T>,
    absent: Option<&'static str>,
}

impl<T: Value> Spec<T> {
    /// Required, unless the type or what follows says otherwise.
    pub fn new(name: &'static str, aliases: &'static [&'static str]) -> Self {
        Self {
            field: Field::new(name, aliases, T::KIND),
            default: None,
            absent: None,
        }
    }

    /// What it is where it is not set.
    #[must_use]
    pub fn default(mut self, value: T) -> Self {
        self.default = Some(value);
        self
    }

    /// What a bare number counts. A duration without this has to name its unit.
    #[must_use]
    pub fn unit(mut self, unit: Duration) -> Self {
        self.field.unit = Some(unit);
        self
    }

    /// Its value is not shown.
    #[must_use]
    pub fn secret(mut self) -> Self {
        self.field.secret = true;
        self
    }

    /// It works, and something else should be used.
    #[must_use]
    pub fn deprecated(mut self, instead: &'static str) -> Self {
        self.field.deprecated = Some(instead);
        self
    }

    /// What is said where it is required and not set, in place of naming the field.
    #[must_use]
    pub fn absent(mut self, text: &'static str) -> Self {
        self.absent = Some(text);
        self
    }

    /// Reads it.
    ///
    /// # Errors
    /// Names the field, and the value unless it is secret.
    pub fn read(self, metadata: &Metadata) -> Result<T> {
        let field = &self.field;
        let mut names = [field.name]
            .into_iter()
            .chain(field.aliases.iter().copied());
        if let Some(text) = names.find_map(|name| metadata.text(name)) {
            return T::read(text, field).map_err(|problem| {
                let problem = match field.secret {
                    true => problem,
                    false => format!("{text:?}: {problem}"),
                };
                Error::invalid_metadata(field.name, problem)
            });
        }
        self.default
            .or_else(T::absent)
            .ok_or_else(|| match self.absent {
                Some(text) => Error::new(ErrorKind::InvalidMetadata, text),
                None => Error::invalid_metadata(self.field.name, "is required"),
            })
    }

    /// The field as it can be printed; `about` are the lines of its comment.
    pub fn describe(self, about: &[&str]) -> Field {
        let default = self.default.or_else(T::absent);
        let about: Vec<&str> = about.iter().map(|line| line.trim()).collect();
        Field {
            required: default.is_none(),
            default: default.and_then(|value| value.text()),
            about: about.join(" "),
            ..self.field
        }
    }
}

/// Declares the metadata of a component as a struct: see [`fields`](mod@crate::fields). The struct gets `read` and `fields`.
#[macro_export]
macro_rules! metadata {
    (
        $(#[$about:meta])* $visible:vis struct $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $field:ident: $type:ty => $key:literal $(| $alias:literal)*
                    $(, $flag:ident $(($($argument:tt)*))?)*;
            )*
        }
        $(ignored { $($ignored:literal: $kind:ident),* $(,)? })?
    ) => {
        $(#[$about])*
        $visible struct $name {
            $($(#[doc = $doc])* pub $field: $type,)*
        }

        impl $name {
            /// Reads the metadata.
            ///
            /// # Errors
            /// Names the field.
            pub fn read(metadata: &$crate::Metadata) -> $crate::Result<Self> {
                Ok(Self {
                    $($field: $crate::fields::Spec::<$type>::new($key, &[$($alias),*])
                        $(.$flag($($($argument)*)?))*
                        .read(metadata)?,)*
                })
            }

            /// The fields, as they can be printed.
            pub fn fields() -> $crate::fields::Fields {
                $crate::fields::Fields::new(::std::vec![
                    $($crate::fields::Spec::<$type>::new($key, &[$($alias),*])
                        $(.$flag($($($argument)*)?))*
                        .describe(&[$($doc),*]),)*
                    $($($crate::fields::Field::ignored($ignored, $crate::fields::Kind::$kind),)*)?
                ])
            }
        }
    };
}

#[cfg(test)]
mod tests;
