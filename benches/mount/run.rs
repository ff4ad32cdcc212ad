//! Conducts a run, here or inside the machine: mount, count, measure, take down.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use permfs::bench::{self, Plan, Progress, Stop};

use super::Failure;
use super::candidates::{self, Candidate};
use super::counting::Counter;
use super::export::{Export, OWNER};
use super::operations;
use super::options::Options;
use super::outcome::{CountPair, Measured, Outcome};
use super::round_trip;

/// The export inside the machine, and the mount that the NFS client counts by; see `tests/nfs/vm`.
const NFS_MOUNT: &str = "/nfs";
const NFS_EXPORT: &str = "/nfs/data";

/// A load average of the last minute from which on somebody else is at work.
const BUSY: f64 = 0.5;

/// permfs and its peers on one local export.
pub fn locally(options: &Options, stop: &Stop) -> Result<Outcome, Failure> {
    if options.pinned {
        // Before there is a thread or a daemon: all of them inherit it.
        pin()?;
    }
    let mut export = match &options.dir {
        Some(dir) => Export::below(dir)?,
        None => Export::in_memory()?,
    };
    let source = export.on_disk("export", OWNER)?;
    let (candidates, mut notes) = candidates::mount_all(&mut export, &source, options)?;
    notes.extend(others_at_work());
    let kind = if options.pinned { "pinned" } else { "local" };
    let place = export.place.clone();
    let request = request(&export, &mut notes)?;
    let mut outcome = Outcome { kind, place, request, notes, candidates: Vec::new() };
    measure(&mut outcome, &source, &candidates, options, stop)?;
    Ok(outcome)
}

/// permfs against the NFS mount it stands on; inside the machine.
pub fn over_nfs(options: &Options, stop: &Stop) -> Result<Outcome, Failure> {
    let mut export = Export::below(Path::new("/tmp"))?;
    let source = PathBuf::from(NFS_EXPORT);
    let permfs = candidates::permfs(&mut export, &source, "permfs", ("auto", "server"))?;
    let place = "NFS v4.2, 0.3 ms on the link".to_owned();
    let mut notes = Vec::new();
    let request = request(&export, &mut notes)?;
    let mut outcome = Outcome { kind: "nfs", place, request, notes, candidates: Vec::new() };
    let candidates = [permfs];
    measure(&mut outcome, &source, &candidates, options, stop)?;
    let rpcs = Counter::Rpcs(PathBuf::from(NFS_MOUNT));
    for (measured, candidate) in outcome.candidates.iter_mut().zip(&candidates) {
        let bare = operations::count(&source, candidates::identity(OWNER), &rpcs)?;
        let through = operations::count(&candidate.path, candidate.identity(), &rpcs)?;
        let pairs = bare.into_iter().zip(through);
        measured.rpcs = pairs.map(|(bare, permfs)| CountPair { bare, permfs }).collect();
    }
    Ok(outcome)
}

/// What a request takes at least; a note says where that cannot be told.
fn request(export: &Export, notes: &mut Vec<String>) -> Result<Option<f64>, Failure> {
    let at = export.new_directory("nothing")?;
    Ok(round_trip::measure(&at).inspect_err(|why| notes.push(why.clone())).ok())
}

fn measure(
    outcome: &mut Outcome,
    source: &Path,
    candidates: &[Candidate],
    options: &Options,
    stop: &Stop,
) -> Result<(), Failure> {
    let plan = Plan {
        source: source.to_owned(),
        source_as: Some(candidates::identity(OWNER)),
        targets: candidates.iter().map(Candidate::target).collect(),
        rows: options.rows(),
        rounds: options.rounds,
        quick: options.quick,
        drop_caches: true,
    };
    let progress = Progress::on_terminal();
    let reports = bench::run(&plan, stop, &mut |step| progress.show(step))?;
    drop(progress);
    for (candidate, report) in candidates.iter().zip(reports) {
        stop.check()?;
        let requests = if candidate.name.starts_with("permfs") {
            operations::count(
                &candidate.path,
                candidate.identity(),
                &Counter::Requests(candidate.path.clone()),
            )?
        } else {
            Vec::new()
        };
        let (name, how) = (candidate.name, candidate.how.clone());
        outcome.candidates.push(Measured { name, how, report, requests, rpcs: Vec::new() });
    }
    Ok(stop.check()?)
}

/// A sentence, where the machine has been busy with something else.
fn others_at_work() -> Option<String> {
    let load: f64 = fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()?;
    (load >= BUSY).then(|| {
        format!("others were at work (load average {load} at the start): the ranges are wide, and the ratios too low")
    })
}

/// Whoever comes from here on stays on one CPU: the last of those that are allowed, since the first has most of the interrupts.
///
/// # Errors
/// A sentence, where the kernel does not let it.
pub fn pin() -> Result<(), String> {
    pin_to_last().map_err(|error| format!("cannot stay on one CPU: {error}"))
}

fn pin_to_last() -> nix::Result<()> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let last = (0..CpuSet::count()).rev().find(|&cpu| allowed.is_set(cpu) == Ok(true)).unwrap_or(0);
    let mut one = CpuSet::new();
    one.set(last)?;
    sched_setaffinity(Pid::from_raw(0), &one)
}
