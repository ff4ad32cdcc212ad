//! `permfs man`: the manual pages, made from the same words as --help.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory};

use super::failure::Failure;
use super::{Cli, Outcome};

/// Write the manual pages into a directory.
#[derive(Debug, Args)]
#[command(after_help = "Example: permfs man /usr/local/share/man/man1")]
pub(super) struct Man {
    /// An existing directory.
    dir: PathBuf,
}

impl Man {
    pub(super) fn run(self) -> Outcome {
        clap_mangen::generate_to(Cli::command(), &self.dir).map_err(|error| {
            let dir = self.dir.display();
            Failure::failed(format!(
                "cannot write manual pages to {dir}: {error}; name an existing directory"
            ))
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
