//! `permfs take-over`, which the mount host types: has a mount of another container go on in this one.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::Outcome;
use crate::mount::{in_background, take_over};

/// Serve a mount in place of the processes of another container. Returns when this one's serve.
#[derive(Debug, Args)]
pub(super) struct TakeOver {
    /// Where it is mounted.
    target: PathBuf,
}

impl TakeOver {
    pub(super) fn run(self) -> Outcome {
        in_background(|readiness| take_over(&self.target, readiness))?;
        Ok(ExitCode::SUCCESS)
    }
}
