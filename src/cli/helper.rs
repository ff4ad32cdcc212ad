//! `mount.permfs`: what mount(8) and the fstab call, with their argument order and exit codes.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use nix::sched::{CloneFlags, setns};

use super::failure::Failure;
use super::mount::plan;
use super::mount_options::MountOptions;
use super::rules::RulesArgs;
use crate::mount::{in_background, run};
use crate::telemetry::{self, LogFormat};

/// mount(8): "incorrect invocation or permissions".
const INCORRECT: u8 = 1;
/// mount(8): "mount failure".
const MOUNT_FAILURE: u8 = 32;

/// Mount helper of permfs: called by mount(8), see permfs-mount(1).
#[derive(Debug, Parser)]
#[command(name = "mount.permfs", version)]
struct Helper {
    /// A directory, or an NFS export as server:/export[/sub].
    source: OsString,
    /// The directory to mount on.
    target: PathBuf,
    /// Leave out options that are not known.
    #[arg(short)]
    sloppy: bool,
    /// Do everything but the mount.
    #[arg(short)]
    fake: bool,
    /// There is no mtab to keep.
    #[arg(short = 'n')]
    _no_mtab: bool,
    /// Say more.
    #[arg(short)]
    verbose: bool,
    /// The mount namespace to mount in, by a file of it (setns(2)); mount(8) leaves entering it to its helpers.
    #[arg(short = 'N', value_name = "NAMESPACE")]
    namespace: Option<PathBuf>,
    /// Mount options.
    #[arg(short, value_name = "OPT,...")]
    options: Vec<String>,
    /// The type that mount(8) was asked for.
    #[arg(short = 't', value_name = "TYPE")]
    _kind: Option<String>,
}

pub(super) fn main() -> ExitCode {
    let helper = match Helper::try_parse() {
        Ok(helper) => helper,
        Err(error) => {
            // Nobody is left to tell where this cannot be printed.
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(INCORRECT) };
        }
    };
    let level = if helper.verbose { tracing::Level::DEBUG } else { tracing::Level::INFO };
    telemetry::init(level, LogFormat::Text);
    match helper.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::from(if failure.is_usage() { INCORRECT } else { MOUNT_FAILURE })
        }
    }
}

impl Helper {
    fn run(self) -> Result<(), Failure> {
        // While there is one thread. The rules, too, are read in there, where the process stays.
        if let Some(namespace) = &self.namespace {
            enter(namespace)?;
        }
        let options = MountOptions::parse(&self.options, self.sloppy)?;
        let plan = plan(&self.source, self.target, &RulesArgs::default(), options)?;
        if !self.fake {
            in_background(|readiness| run(&plan, readiness))?;
        }
        Ok(())
    }
}

fn enter(namespace: &Path) -> Result<(), Failure> {
    let entered =
        File::open(namespace).and_then(|file| setns(file, CloneFlags::CLONE_NEWNS).map_err(io::Error::from));
    entered.map_err(|error| {
        let shown = namespace.display();
        Failure::failed(format!(
            "cannot enter the mount namespace {shown}: {error}; name a file such as /proc/PID/ns/mnt, as root"
        ))
    })
}
