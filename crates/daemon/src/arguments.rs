//! Command lines in Go's dialect: long options with one dash, booleans with an optional `=value`.
//! Clap wants two dashes, so arguments pass through here first.

use std::ffi::OsString;

/// Rewrites long options with one dash to two (`-port=1` and `-port 1` alike). Arguments after `--`
/// stay, and so do a lone `-`, negative numbers and one-letter options.
///
/// With the command at hand only its own options are rewritten, and a value that begins with a dash is
/// tied to its option (`--flag=-x`), because Go's parsers take the next argument whatever it is.
#[must_use]
pub fn normalise(args: Vec<OsString>, command: Option<&clap::Command>) -> Vec<OsString> {
    let mut out = Vec::with_capacity(args.len());
    let mut rest = args.into_iter();
    out.extend(rest.next()); // the program's own name
    while let Some(arg) = rest.next() {
        let Some(text) = arg.to_str() else {
            out.push(arg);
            continue;
        };
        if text == "--" {
            out.push(arg);
            out.extend(rest);
            break;
        }
        let Some(name) = long_name(text, command) else {
            out.push(arg);
            continue;
        };
        let long = format!("--{}", text.trim_start_matches('-'));
        let takes_next = !text.contains('=') && command.is_some_and(|c| needs_value(c, name));
        match rest.as_slice().first().and_then(|next| next.to_str()) {
            Some(value) if takes_next && value.starts_with('-') => {
                out.push(format!("{long}={value}").into());
                rest.next();
            }
            _ => out.push(long.into()),
        }
        if takes_next
            && out
                .last()
                .is_some_and(|last| !last.to_string_lossy().contains('='))
        {
            out.extend(rest.next());
        }
    }
    out
}

/// A boolean as Go's flag packages read it, for clap's `value_parser`.
///
/// # Errors
/// A text that names the value, for anything else.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        other => Err(format!("{other:?} is not a boolean")),
    }
}

/// The option name in `text`, if `text` is a long option with one or two dashes.
fn long_name<'a>(text: &'a str, command: Option<&clap::Command>) -> Option<&'a str> {
    let (single, body) = match text.strip_prefix("--") {
        Some(body) => (false, body),
        None => (true, text.strip_prefix('-')?),
    };
    let name = body.split('=').next().unwrap_or_default();
    if !single {
        return Some(name);
    }
    let long = name.len() > 1 && name.starts_with(|c: char| c.is_ascii_alphabetic());
    let known =
        command.is_none_or(|command| find(command, name).is_some() || GENERATED.contains(&name));
    (long && known).then_some(name)
}

/// Options that clap adds when it parses.
const GENERATED: [&str; 2] = ["help", "version"];

fn find<'a>(command: &'a clap::Command, name: &str) -> Option<&'a clap::Arg> {
    command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(name))
        .or_else(|| {
            command.get_arguments().find(|arg| {
                arg.get_all_aliases()
                    .is_some_and(|aliases| aliases.contains(&name))
            })
        })
}

fn needs_value(command: &clap::Command, name: &str) -> bool {
    find(command, name)
        .is_some_and(|arg| arg.get_action().takes_values() && !arg.is_require_equals_set())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Arg, ArgAction};

    fn command() -> clap::Command {
        clap::Command::new("test")
            .arg(Arg::new("port").long("port"))
            .arg(Arg::new("max").long("app-max-concurrency"))
            .arg(
                Arg::new("mtls")
                    .long("enable-mtls")
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true")
                    .action(ArgAction::Set),
            )
    }

    fn run(args: &[&str], command: Option<&clap::Command>) -> Vec<String> {
        let args = std::iter::once("prog").chain(args.iter().copied());
        normalise(args.map(OsString::from).collect(), command)
            .into_iter()
            .skip(1)
            .map(|arg| arg.into_string().unwrap())
            .collect()
    }

    #[test]
    fn one_dash_becomes_two() {
        for command in [None, Some(&command())] {
            assert_eq!(run(&["-port=1"], command), ["--port=1"]);
            assert_eq!(run(&["-port", "1"], command), ["--port", "1"]);
            assert_eq!(run(&["--port", "1"], command), ["--port", "1"]);
            assert_eq!(run(&["-", "-p", "-1"], command), ["-", "-p", "-1"]);
            assert_eq!(run(&["--", "-port"], command), ["--", "-port"]);
            assert_eq!(run(&["-help"], command), ["--help"]);
            assert_eq!(run(&["-version"], command), ["--version"]);
        }
    }

    #[test]
    fn values_that_begin_with_a_dash() {
        let command = command();
        let run = |args: &[&str]| run(args, Some(&command));
        assert_eq!(
            run(&["-app-max-concurrency", "-1"]),
            ["--app-max-concurrency=-1"]
        );
        assert_eq!(run(&["--port", "-port"]), ["--port=-port"]);
        assert_eq!(
            run(&["-enable-mtls", "-port", "1"]),
            ["--enable-mtls", "--port", "1"]
        );
        assert_eq!(run(&["-unknown"]), ["-unknown"]);
        assert_eq!(
            run(&["--port", "x", "-enable-mtls=false"]),
            ["--port", "x", "--enable-mtls=false"]
        );
    }

    #[test]
    fn booleans() {
        assert_eq!(boolean("T"), Ok(true));
        assert_eq!(boolean("0"), Ok(false));
        assert!(boolean("yes").is_err());
    }
}
