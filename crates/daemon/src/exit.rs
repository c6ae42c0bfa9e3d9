//! Exit codes, in one place because scripts and orchestrators depend on them.

use std::io::Write as _;
use std::process::ExitCode;

/// How a program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Stopped on request, or finished.
    Success,
    /// Could not start, a task failed or panicked, or shutdown took too long.
    Failure,
    /// The command line could not be understood.
    Usage,
}

impl Exit {
    /// The number that the operating system sees.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Exit::Success => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
        }
    }
}

/// Why a command line leads to no running program.
#[derive(Debug)]
pub enum Stop {
    /// It asks for a text, such as the version.
    Text(String),
    /// What clap says: help, or what is wrong.
    Clap(clap::Error),
}

impl Stop {
    /// Prints it where it belongs, and says how the program ends.
    pub(crate) fn print(&self) -> Exit {
        match self {
            Stop::Text(text) => {
                // A reader that has gone away wants nothing more.
                let _ = writeln!(std::io::stdout(), "{text}");
                Exit::Success
            }
            Stop::Clap(error) => {
                // Help goes to standard output and is no failure; clap knows which is which.
                let _ = error.print();
                if error.use_stderr() {
                    Exit::Usage
                } else {
                    Exit::Success
                }
            }
        }
    }
}

/// All programs print their version alone, as daprd always has (contract 9.1); clap would put the name before it.
impl From<clap::Error> for Stop {
    fn from(error: clap::Error) -> Self {
        match error.kind() {
            clap::error::ErrorKind::DisplayVersion => Stop::Text(crate::version().to_owned()),
            _ => Stop::Clap(error),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}
