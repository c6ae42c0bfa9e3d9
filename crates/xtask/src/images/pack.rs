//! Packs one program of this machine, such as those of the test cluster.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;

use super::USER;
use super::archive::{Image, Start};

/// Flags of the chore.
#[derive(clap::Args)]
pub struct Arguments {
    /// Name and tag of the image
    #[arg(long)]
    image: String,
    /// The program; it gets its own file name, in the root folder, and is the image's entrypoint
    #[arg(long)]
    program: PathBuf,
    /// Numeric user the program runs as
    #[arg(long, default_value_t = USER)]
    user: u32,
    /// The archive to write
    #[arg(long)]
    out: PathBuf,
}

/// Writes the archive and says its path and the image's id.
pub fn run(arguments: &Arguments) -> Result<()> {
    let image = Image {
        name: arguments.image.clone(),
        program: arguments.program.clone(),
        user: arguments.user,
        start: Start::Entrypoint,
    };
    let id = image.write(&arguments.out)?;
    writeln!(std::io::stdout(), "{} {id}", arguments.out.display())?;
    Ok(())
}
