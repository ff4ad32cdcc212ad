//! `permfs host`: the mount host.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::Outcome;
use super::failure::Failure;
use crate::host::server::serve;

/// Mount for the CSI plugin: one process per published volume, which stays when the plugin or this process goes.
#[derive(Debug, Args)]
pub(super) struct Host {
    /// Where to listen for the plugin.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
}

impl Host {
    pub(super) fn run(self) -> Outcome {
        serve(&self.socket).map_err(|error| Failure::failed(error.to_string()))?;
        Ok(ExitCode::SUCCESS)
    }
}
