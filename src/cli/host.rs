//! `permfs host`: the mount host.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::Outcome;
use super::failure::Failure;
use crate::host::is_settled;
use crate::host::server::{Parting, serve};

/// Mount for the CSI plugin: one process per published volume, which stays when the plugin or this process goes.
#[derive(Debug, Args)]
#[command(after_help = "\
Where another container's host serves, this one takes its place, and its mounts go on in this container.")]
pub(super) struct Host {
    /// Where to listen for the plugin.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// At SIGTERM go on until no mount is left in this container: they would end with it.
    #[arg(long)]
    outstay_mounts: bool,
    /// Tell whether this container's host is there and all of the node's mounts are served in it; exit code 1 if not, with the reason.
    #[arg(long, conflicts_with = "outstay_mounts")]
    check: bool,
}

impl Host {
    pub(super) fn run(self) -> Outcome {
        if self.check {
            is_settled(&self.socket).map_err(Failure::failed)?;
            return Ok(ExitCode::SUCCESS);
        }
        let parting = if self.outstay_mounts { Parting::OutstayMounts } else { Parting::MountsStay };
        serve(&self.socket, parting).map_err(|error| Failure::failed(error.to_string()))?;
        Ok(ExitCode::SUCCESS)
    }
}
