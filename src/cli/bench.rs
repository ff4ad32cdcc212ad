//! `permfs bench`: what the layer costs here, for a storage admin, and as a gate for a rollout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, value_parser};
use nix::unistd::{Gid, Uid, geteuid};

use super::failure::Failure;
use super::output::{self, Style};
use super::{Outcome, values};
use crate::bench::row::{self, ROWS, Row};
use crate::bench::{self, Halt, Identity, Plan, Progress, Report, Stop, Target, Thresholds};

/// Rounds of a run, and of a quick one, where none are asked for.
const ROUNDS: u32 = 5;
const ROUNDS_QUICK: u32 = 3;
/// The exit code of a process that a signal ends is 128 and its number.
const SIGNALLED: u8 = 128;

/// Measure the mount against the bare directory, in turns: the ratio first, then medians and ranges.
///
/// Works in a directory `.permfs-bench.*` that it makes on each side and always removes, also when interrupted. Takes
/// less than half of what is free, and never more than 1 GiB. Where SOURCE cannot be reached, as in a pod, the mount is
/// measured alone.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(super) struct Bench {
    /// The bare directory.
    source: PathBuf,
    /// The mount of it; any filesystem will do.
    target: PathBuf,
    /// Write everything as JSON to a file, or `-` for standard output instead of the table.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw a chart.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Exit with 1 where a row's ratio is below that in this TOML file, which has lines such as `append = 0.7`.
    #[arg(long, value_name = "FILE")]
    fail_below: Option<PathBuf>,
    /// How many times both sides do the same [default: 5, with --quick 3].
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Measure only these rows.
    #[arg(long, value_name = "ROW,...", value_delimiter = ',', value_parser = row::find)]
    only: Vec<&'static Row>,
    /// Short samples and small files: seconds, for a first look.
    #[arg(long)]
    quick: bool,
    /// Work in SOURCE under these ids, e.g. those of the export (needs root).
    #[arg(long, value_name = "UID:GID", value_parser = identity)]
    source_as: Option<Identity>,
    /// Work in TARGET under these ids, e.g. those of the pod (needs root).
    #[arg(long, value_name = "UID:GID", value_parser = identity)]
    target_as: Option<Identity>,
    /// Drop the whole node's cached names before walk_cold and stat_cold, instead of letting them expire (needs root).
    #[arg(long)]
    drop_caches: bool,
}

impl Bench {
    pub(super) fn run(self) -> Outcome {
        let plan = self.plan()?;
        let thresholds =
            self.fail_below.as_deref().map(|file| read_thresholds(file, &plan.rows)).transpose()?;
        if self.svg.as_deref() == Some(Path::new("-")) {
            return Err(Failure::usage("a chart goes to a file: name it, as in --svg chart.svg"));
        }
        for file in [&self.json, &self.svg].into_iter().flatten() {
            expect_directory_of(file)?;
        }
        let stop = Stop::on_signals()
            .map_err(|error| Failure::failed(format!("cannot prepare for signals: {error}")))?;
        let progress = Progress::on_terminal();
        let measured = bench::run(&plan, &stop, &mut |step| progress.show(step));
        drop(progress);
        match measured {
            Ok(reports) => {
                reports.iter().try_fold(ExitCode::SUCCESS, |_, report| self.tell(report, thresholds.as_ref()))
            }
            Err(halt @ Halt::Interrupted { signal }) => {
                output::error(&halt.to_string());
                Ok(ExitCode::from(SIGNALLED + u8::try_from(signal).unwrap_or(0)))
            }
            Err(halt) if halt.is_denied() && self.target_as.is_none() && geteuid().is_root() => {
                Err(Failure::failed(format!(
                    "{halt}; root may have no rule there: give a pod's ids by --target-as"
                )))
            }
            Err(halt) => Err(Failure::failed(halt.to_string())),
        }
    }

    fn plan(&self) -> Result<Plan, Failure> {
        let needs_root = [
            ("--source-as", self.source_as.is_some()),
            ("--target-as", self.target_as.is_some()),
            ("--drop-caches", self.drop_caches),
        ];
        if let Some((option, _)) = needs_root.iter().find(|(_, given)| *given && !geteuid().is_root()) {
            return Err(Failure::usage(format!("{option} needs root; leave it out, or run this as root")));
        }
        let rows = ROWS
            .iter()
            .filter(|row| self.only.is_empty() || self.only.iter().any(|only| only.name == row.name));
        Ok(Plan {
            source: self.source.clone(),
            source_as: self.source_as,
            targets: vec![Target { path: self.target.clone(), work_as: self.target_as, may_fail: false }],
            rows: rows.collect(),
            rounds: self.rounds.unwrap_or(if self.quick { ROUNDS_QUICK } else { ROUNDS }),
            quick: self.quick,
            drop_caches: self.drop_caches,
        })
    }

    fn tell(&self, report: &Report, thresholds: Option<&Thresholds>) -> Outcome {
        match &self.json {
            Some(file) if file == Path::new("-") => output::print_json(report)?,
            Some(file) => {
                let text = serde_json::to_string_pretty(report)
                    .map_err(|error| Failure::failed(format!("cannot write this as JSON: {error}")))?;
                write(file, &format!("{text}\n"))?
            }
            None => ExitCode::SUCCESS,
        };
        if self.json.as_deref() != Some(Path::new("-")) {
            output::print(bench::table(report, thresholds, Style::of_stdout().is_coloured()))?;
        }
        if let Some(file) = &self.svg {
            write(file, &bench::chart(report, thresholds))?;
        }
        let failures = thresholds.map(|gate| gate.failures(report)).unwrap_or_default();
        failures.iter().for_each(|failure| output::error(failure));
        Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn after_help() -> String {
    let rows = ROWS.iter().map(|row| format!("  {:<14} {}\n", row.name, row.what)).collect::<String>();
    format!(
        "Rows:\n{rows}\nExit code: 0 done; 1 failed, or a row is below its threshold; 2 usage; 128+N on signal N."
    )
}

/// `UID:GID`, of either side.
fn identity(text: &str) -> Result<Identity, String> {
    let (uid, gid) = values::owner(text)?;
    Ok(Identity { uid: Uid::from_raw(uid.get()), gid: Gid::from_raw(gid.get()) })
}

fn read_thresholds(file: &Path, rows: &[&Row]) -> Result<Thresholds, Failure> {
    let text = fs::read_to_string(file).map_err(|error| {
        Failure::usage(format!("cannot read the thresholds in {}: {error}", file.display()))
    })?;
    Thresholds::parse(file, &text, rows).map_err(Failure::usage)
}

/// A slip in a path should not show only after the run.
fn expect_directory_of(file: &Path) -> Result<(), Failure> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if parent.is_dir() && !file.is_dir() {
        return Ok(());
    }
    Err(Failure::usage(format!("cannot write {}: give a file in a directory that exists", file.display())))
}

fn write(file: &Path, text: &str) -> Outcome {
    fs::write(file, text)
        .map(|()| ExitCode::SUCCESS)
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", file.display())))
}
