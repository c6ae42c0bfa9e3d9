//! The command line of daprd and the shared flags of `dapr run`, built from the rows and read back into settings.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::{Door, Error, Kind, Place, ROWS, Row, Settings};

/// The command line of daprd. Switches take an optional `=value`, lists repeat, the last of anything else wins, and
/// arguments that are no flags are passed over.
pub fn command() -> Command {
    Command::new("daprd")
        .about("The Dapr sidecar")
        .disable_version_flag(true)
        .args_override_self(true)
        .args(ROWS.iter().filter_map(|row| argument(row, row.flag?, None)))
        .arg(Arg::new("ignored").num_args(0..).hide(true))
}

/// The flags of `dapr run` that are settings of daprd; read them back with [`Settings::from_run_matches`].
pub fn run_arguments() -> Vec<Arg> {
    ROWS.iter()
        .filter_map(|row| row.run.and_then(|run| argument(row, run.name, run.short)))
        .collect()
}

fn argument(row: &'static Row, name: &'static str, short: Option<char>) -> Option<Arg> {
    let mut help = row.help.to_owned();
    if !row.default.is_empty() {
        help = format!("{help} [default: {}]", row.default);
    }
    if let Some(advice) = row.deprecated {
        help = format!("{help} (deprecated: {advice})");
    }
    let arg = Arg::new(name).long(name).help(help).hide(row.hidden);
    let arg = match short {
        Some(short) => arg.short(short),
        None => arg,
    };
    Some(match row.kind {
        Kind::Switch => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("BOOL"),
        Kind::List => arg
            .action(ArgAction::Append)
            .allow_hyphen_values(true)
            .value_name("LIST"),
        Kind::Integer | Kind::Port => arg.allow_hyphen_values(true).value_name("NUMBER"),
        Kind::Duration => arg.allow_hyphen_values(true).value_name("DURATION"),
        Kind::Quantity => arg.allow_hyphen_values(true).value_name("QUANTITY"),
        Kind::Text | Kind::Secret => arg.allow_hyphen_values(true).value_name("TEXT"),
    })
}

impl Settings {
    /// Reads daprd's command line, the program's name first, and the environment for what it leaves out.
    ///
    /// # Errors
    /// [`Error::Usage`] for unknown flags and for `--help`, [`Error::Value`] for values of the wrong type; a bad
    /// duration in the environment only goes to [`Settings::ignored`].
    pub fn from_args(
        args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Error> {
        let mut settings = Self::from_matches(&command().try_get_matches_from(args)?, Door::Flag)?;
        for row in ROWS {
            let Some(name) = row.environment else {
                continue;
            };
            if (row.access.text)(&settings).is_some() {
                continue;
            }
            if let Some(text) = environment(name).filter(|text| !text.is_empty()) {
                let read = row.read(
                    &mut settings,
                    &text,
                    Door::Environment,
                    Place::Environment(name),
                );
                match read {
                    // Compat: Q-environment-durations: a bad tuning value is warned about, not refused.
                    Err(error) if row.kind == Kind::Duration => {
                        settings.ignored.push(error.to_string())
                    }
                    read => read?,
                }
            }
        }
        Ok(settings)
    }

    /// Reads the flags of [`run_arguments`] out of a parsed command line; only flags that were given count.
    ///
    /// # Errors
    /// [`Error::Value`] for values of the wrong type.
    pub fn from_run_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Self::from_matches(matches, Door::Run)
    }

    fn from_matches(matches: &ArgMatches, door: Door) -> Result<Self, Error> {
        let mut settings = Self::default();
        for row in ROWS {
            let name = match door {
                Door::Run => row.run.map(|run| run.name),
                _ => row.flag,
            };
            let Some(name) = name else { continue };
            if matches.value_source(name) != Some(ValueSource::CommandLine) {
                continue;
            }
            for text in matches.get_many::<String>(name).into_iter().flatten() {
                let unset = match row.kind {
                    Kind::List | Kind::Text | Kind::Secret => false,
                    Kind::Port if door == Door::Run => text.is_empty() || text.starts_with('-'),
                    _ => text.is_empty(),
                };
                if !unset {
                    row.read(&mut settings, text, door, Place::Flag(name))?;
                }
            }
        }
        Ok(settings)
    }

    /// The arguments that say these settings: one flag for each field that is set, in the order of the table.
    /// Settings without a flag are left out, and so are switches that are off where off is the default.
    pub fn to_args(&self) -> Vec<String> {
        let mut args = Vec::new();
        for row in ROWS {
            let (Some(flag), Some(text)) = (row.flag, (row.access.text)(self)) else {
                continue;
            };
            match row.kind {
                Kind::Switch if row.three_states => args.push(format!("--{flag}={text}")),
                Kind::Switch if text == "true" => args.push(format!("--{flag}")),
                Kind::Switch if row.default == "true" => args.push(format!("--{flag}={text}")),
                Kind::Switch => {}
                _ => args.extend([format!("--{flag}"), text]),
            }
        }
        args
    }

    /// What was given and passed over, a sentence each, for the log.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// The deprecated flags among these settings, with what to use instead.
    pub fn deprecated(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        ROWS.iter()
            .filter(|row| (row.access.text)(self).is_some())
            .filter_map(|row| Some((row.flag?, row.deprecated?)))
    }
}

impl Row {
    pub(crate) fn read(
        &self,
        settings: &mut Settings,
        text: &str,
        door: Door,
        place: Place,
    ) -> Result<(), Error> {
        (self.access.read)(settings, text, door).map_err(|reason| {
            let value = if self.kind == Kind::Secret {
                "***"
            } else {
                text
            };
            Error::Value {
                place,
                value: value.chars().take(MAX_SHOWN).collect(),
                reason,
            }
        })
    }
}

/// How many characters of a bad value an error repeats.
const MAX_SHOWN: usize = 128;
