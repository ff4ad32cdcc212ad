//! `permfs completions`: for the shell.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::{Cli, Outcome, output};

/// Print a completion script for a shell.
#[derive(Debug, Args)]
#[command(after_help = "Example: permfs completions bash > /usr/share/bash-completion/completions/permfs")]
pub(super) struct Completions {
    /// Which shell.
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Outcome {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "permfs", &mut script);
        output::print(String::from_utf8_lossy(&script))
    }
}
