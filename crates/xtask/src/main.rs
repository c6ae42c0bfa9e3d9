//! Chores of the repository. `cargo run -p xtask -- <chore>`; the Makefile has the everyday ones.

use clap::Parser;

/// Declares the chores: a chore is a module with `Arguments` (its flags) and `run(&Arguments)`.
macro_rules! chores {
    ($($(#[$doc:meta])* $name:ident => $module:path),+ $(,)?) => {
        #[derive(clap::Subcommand)]
        enum Chore {
            $($(#[$doc])* $name(chores::$name::Arguments)),+
        }
        mod chores {
            $(#[allow(non_snake_case, reason = "named after the variant")] pub use $module as $name;)+
        }
        fn run(chore: &Chore) -> anyhow::Result<()> {
            match chore {
                $(Chore::$name(arguments) => chores::$name::run(arguments)),+
            }
        }
    };
}

chores! {
    /// Measure the footprint of programs, and what sidecars add to calls, state and events.
    Bench => xtask::bench,
    /// Build the programs.
    Build => xtask::programs,
    /// Write the files that are printed from code.
    Gen => xtask::generate,
    /// Build the programs and pack an image of each.
    Images => xtask::images,
    /// Pack an image of one program.
    Pack => xtask::images::pack,
    /// Build and run the tests, crate by crate.
    Test => xtask::test,
    /// Check the rules of the repository.
    Tidy => xtask::tidy,
}

#[derive(Parser)]
#[command(name = "xtask", about = "Chores of the repository")]
struct CommandLine {
    #[command(subcommand)]
    chore: Chore,
}

fn main() -> anyhow::Result<()> {
    run(&CommandLine::parse().chore)
}
