//! `permfs unmount`: takes a mount down, whether its process lives, hangs or is dead.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{Outcome, output};
use crate::mount::{Unmounted, unmount};

/// Unmount; returns once the mount, its process and its own NFS mount are gone.
#[derive(Debug, Args)]
pub(super) struct Unmount {
    /// Where it is mounted.
    target: PathBuf,
    /// Detach it also while it is in use; it goes when its last user does.
    #[arg(long, short)]
    lazy: bool,
}

impl Unmount {
    pub(super) fn run(self) -> Outcome {
        match unmount(&self.target, self.lazy)? {
            Unmounted::Gone => Ok(ExitCode::SUCCESS),
            Unmounted::Detached => output::print(format_args!(
                "{} is detached; its process ends when the last open file is closed\n",
                output::path(&self.target)
            )),
        }
    }
}
