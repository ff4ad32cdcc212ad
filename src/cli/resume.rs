//! `permfs resume`, which nobody types: what the keeper of a mount becomes when it is upgraded.

use std::os::fd::RawFd;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::Outcome;
use crate::mount::resume;

/// Go on as the keeper of a mount, from what another program has left.
#[derive(Debug, Args)]
pub(super) struct Resume {
    /// The descriptor of what was left.
    state: RawFd,
    /// Where it is mounted, for whoever looks at the list of processes.
    target: PathBuf,
}

impl Resume {
    pub(super) fn run(self) -> Outcome {
        tracing::debug!(target = %self.target.display(), "going on as another program");
        resume(self.state)?;
        Ok(ExitCode::SUCCESS)
    }
}
