//! What can be wrong with a setting, always with its name and its value.

use std::fmt;

/// Where a setting was given, printed as its writer spelled it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A flag of daprd or of `dapr run`, without dashes.
    Flag(&'static str),
    /// An annotation, without the `dapr.io/` prefix.
    Annotation(&'static str),
    /// An environment variable.
    Environment(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "flag --{name}"),
            Self::Annotation(name) => write!(f, "annotation {}{name}", crate::ANNOTATION_PREFIX),
            Self::Environment(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line does not parse, or asks for help.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// A value that is not of the setting's type, or out of its range.
    #[error("invalid value {value:?} for {place}: {reason}")]
    Value {
        /// Where it was given.
        place: Place,
        /// The value as written.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting that has to be given.
    #[error("{place} is required")]
    Missing {
        /// The setting.
        place: Place,
    },
    /// Two settings that exclude each other.
    #[error("{place} with value {value} conflicts with {other}")]
    Conflict {
        /// One of them.
        place: Place,
        /// Its value.
        value: String,
        /// The other.
        other: Place,
    },
}

impl Error {
    /// The form in which a command line parser reports it, so that one path prints usage errors.
    pub fn into_clap(self) -> clap::Error {
        match self {
            Self::Usage(error) => error,
            other => clap::Error::raw(
                clap::error::ErrorKind::ValueValidation,
                format!("{other}\n"),
            ),
        }
    }
}
