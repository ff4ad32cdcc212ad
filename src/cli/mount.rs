//! `permfs mount`: shows SOURCE at TARGET under the rules.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::Outcome;
use super::failure::Failure;
use super::mount_options::MountOptions;
use super::rules::{Rules, RulesArgs};
use crate::mount::{Plan, Readiness, Source, in_background, run};

/// Mount a directory or an NFS export with ids translated.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  permfs mount /srv/export /mnt/dags --config rules.toml
  permfs mount nas:/export/dags /mnt/dags --config rules.toml --profile airflow -o nfs:vers=4.2
  permfs mount /srv/export /mnt/dags --map-uid 50000:2001 --map-gid 0:2001")]
pub(super) struct Mount {
    /// A directory, or an NFS export as server:/export[/sub], which permfs mounts itself.
    source: OsString,
    /// The directory to mount on.
    target: PathBuf,
    #[command(flatten)]
    rules: RulesArgs,
    /// Mount options: ro, noexec, watch, config=, profile=, map_uid=, map_gid=, context=, max_inodes=, and nfs:OPTION for the NFS mount.
    #[arg(short = 'o', value_name = "OPT,...")]
    options: Vec<String>,
    /// Follow the rules file: when its content has changed, its rules hold. As -o watch.
    #[arg(long)]
    watch: bool,
    /// Stay in the foreground and log to standard error.
    #[arg(long, short)]
    foreground: bool,
}

impl Mount {
    pub(super) fn run(self) -> Outcome {
        let mut options = MountOptions::parse(&self.options, false)?;
        options.watch |= self.watch;
        let plan = plan(&self.source, self.target, &self.rules, options)?;
        if self.foreground {
            run(&plan, &mut Readiness::in_foreground())?;
        } else {
            in_background(|readiness| run(&plan, readiness))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What to mount, from what was written. Reads the rules, touches nothing else.
pub(super) fn plan(
    source: &OsString,
    target: PathBuf,
    flags: &RulesArgs,
    options: MountOptions,
) -> Result<Plan, Failure> {
    let Rules { policy, profile, source: rules, flags } = options.rules(flags)?.load()?;
    let watch = options.watch;
    if watch && rules.is_none() {
        return Err(Failure::usage("there is no rules file to watch: add --config FILE, or leave out watch"));
    }
    let source = Source::parse(source, options.nfs);
    let (read_only, no_exec) = (options.read_only, options.no_exec);
    let (context, shown_source, max_inodes) = (options.context, options.shown_source, options.max_inodes);
    Ok(Plan {
        source,
        target,
        policy,
        rules,
        flags,
        watch,
        profile,
        read_only,
        no_exec,
        context,
        max_inodes,
        shown_source,
    }
    .absolute())
}
