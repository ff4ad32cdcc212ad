//! `permfs reload`: has running mounts read their rules anew.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::failure::Failure;
use super::{Outcome, output};
use crate::mount::{Complaint, RELOAD_PATIENCE, Reloaded, reload};

/// Read the rules anew, without unmounting: refused as a whole where the file is wrong, with the old rules still in force.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code: 0 the rules of the file are in force, 1 a mount does not answer, 2 they are refused and the old ones hold.
A mount made with --watch, and the CSI driver's, reload by themselves when the file's content has changed.")]
pub(super) struct Reload {
    /// Where they are mounted.
    #[arg(required = true)]
    targets: Vec<PathBuf>,
}

impl Reload {
    /// All of them, whatever becomes of some; ends with the code of the first that failed.
    pub(super) fn run(self) -> Outcome {
        let mut code = 0;
        for target in &self.targets {
            let failure = match reload(target, RELOAD_PATIENCE) {
                Ok(Reloaded::Done(what)) => {
                    output::print(format_args!("{}: {what}\n", output::path(target)))?;
                    continue;
                }
                Ok(Reloaded::Refused(complaints)) => Failure::Rules(complaints),
                Err(failure) => failure.into(),
            };
            failure.print();
            code = if code == 0 { failure.code() } else { code };
        }
        Ok(ExitCode::from(code))
    }
}

/// Says on standard error what `permfs check` says of the same file.
pub(super) fn complain(complaints: &[Complaint]) {
    for Complaint { sentence, quoted } in complaints {
        match quoted {
            Some(quoted) => output::say(quoted),
            None => output::error(sentence),
        }
    }
    output::say("the rules in force stay as they are");
}
