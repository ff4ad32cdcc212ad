//! `permfs upgrade`: has running mounts go on with this very program.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::failure::Failure;
use super::{Outcome, output};
use crate::mount::{upgrade, upgrade_targets};

/// Have running mounts go on with this very program, without unmounting: no operation fails, no lock is lost, open files stay open.
#[derive(Debug, Args)]
#[command(after_help = "\
Install the new version, and run its `permfs upgrade`. The processes are replaced one mount after the other.
Exit code: 0 all of them run this program, 1 some go on with the old one, and why is said.")]
pub(super) struct Upgrade {
    /// Where they are mounted; all mounts of permfs where none is given.
    targets: Vec<PathBuf>,
}

impl Upgrade {
    /// All of them, whatever becomes of some; ends with the code of the first that failed.
    pub(super) fn run(self) -> Outcome {
        let targets = if self.targets.is_empty() { upgrade_targets()? } else { self.targets };
        let mut code = 0;
        for target in &targets {
            let done = match upgrade(target) {
                Ok(done) => done,
                Err(failure) => {
                    let failure = Failure::from(failure);
                    failure.print();
                    code = if code == 0 { failure.code() } else { code };
                    continue;
                }
            };
            let (version, took) = (env!("CARGO_PKG_VERSION"), done.took.as_millis());
            output::print(format_args!(
                "{}: upgraded to {version} in {took} ms (keeper {}, worker {})\n",
                output::path(target),
                done.keeper,
                done.worker
            ))?;
        }
        Ok(ExitCode::from(code))
    }
}
