//! Processes of a mount die at every point of every operation, and nobody notices.
//!
//! Each operation is done once undisturbed, which says what must come of it and which points it passes; then once for each hit of
//! each of them, with a death there. Nothing may be left of that: no inode, open file, descriptor or registered file.
//!
//! Needs root, /dev/fuse and the feature `faults`: cargo test --features faults --test faults -- --nocapture
//! A second death follows a first one of each operation with FAULTS_LONG=1, else of one operation only. FAULTS_ONLY=NAME is only
//! those operations whose names contain that.

#![allow(missing_docs, clippy::unwrap_used, unreachable_pub)]

#[path = "../live/mod.rs"]
mod live;
mod operations;
mod points;
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use live::AIRFLOW;
use operations::{ALL, BEGINNINGS, Operation};
use stage::{ALL_IS_SEEN, LONGEST, QUIET, Stage};

/// Mounts at once: most of the time is spent waiting.
const MOUNTS: usize = 16;
/// A point whose hits depend on who of several is first may need several tries.
const TRIES: usize = 10;

/// What the kernel has been told it knows for as long as an operation lasts, however busy the machine is: which requests it makes is
/// no matter of time then.
const KNOWN: &str = "attr_timeout = \"1h\"\nentry_timeout = \"1h\"\n";

/// Hits of a point that are tried where their number is a matter of time: the first ones.
const OF_MANY: u64 = 5;

#[derive(Debug, Default)]
struct Tally {
    operations: usize,
    /// Pairs of an operation and a point that it passes.
    pairs: usize,
    deaths: usize,
    /// The points at which somebody died.
    died_at: BTreeSet<String>,
    complaints: Vec<String>,
    missed: Vec<String>,
}

/// What is enumerated of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// A death at each hit of each point that it passes.
    Death,
    /// The same on cached pages, where that passes other points than on files that pass through.
    OnPages,
    /// A second death, at each point that a successor passes until it has begun: another died between doing a thing and writing down
    /// the answer.
    Beginning,
    /// A third, of the process in reserve, after that of a worker and of its keeper.
    Reserve,
}

/// Where it is in the middle of a count, or of forgetting, or has an answer that is written down and not sent.
const HALF: &[&str] = &["inode: lookups", "journal: half forgot", "before it is sent"];
/// Where a worker has done a thing, and nobody knows.
const DONE: &str = "answer: before it is written down";
/// Where its keeper has seen it.
const SEEN: &str = "keeper: it is buried";
/// The last point of a successor's beginning.
const BEGUN: &str = "worker: has begun";

/// The keeper's last one, to which it comes beside what the worker does then.
const HEARD: &str = "keeper: before others hear of the worker";

/// Points at which nobody is let die, and why.
const NOT_REACHED: &[(&str, &str)] = &[
    ("reserve: the keeper died", ALONE),
    ("reserve: before it is the keeper", ALONE),
    ("reserve: before there is another", ALONE),
    ("keeper: begins", "there is no mount yet; who mounts is told"),
    ("slot: before its pipe", PIPES),
    ("slot: a request is on its way", PIPES),
    ("before flush", NETWORK),
    ("after flush", NETWORK),
    ("table: before a continuation", LONG),
    ("table: a continuation written", LONG),
    ("table: a continuation released", LONG),
    ("table: taken", "a record is new once; afterwards there is a free one"),
    (
        "journal: half uncounted",
        "an answer that the kernel does not want any more, which no operation here brings about",
    ),
    ("before access", OTHER_RULES),
    ("after access", OTHER_RULES),
    ("before chmod_file", OTHER_RULES),
    ("after chmod_file", OTHER_RULES),
];
const NETWORK: &str = "the export is local: nothing is left to be written at a close";
/// The same for requests that come by a pipe.
const PIPES: &str = "user-mode Linux only (`fuse/device.rs`); tests/real_nfs kills workers there";
const LONG: &str = "what is noted of a file here fits into one record";
const OTHER_RULES: &str =
    "a new file adopts its directory's group, or a mode that is held, under other rules only";
const ALONE: &str = "it is the only process left that holds the mount: with it the mount ends";

#[test]
fn a_process_may_die_at_every_point_of_every_operation() {
    let only = std::env::var("FAULTS_ONLY").ok();
    let chosen = |all: &'static [Operation]| -> Vec<&'static Operation> {
        all.iter()
            .filter(|operation| only.as_ref().is_none_or(|only| operation.name.contains(only)))
            .collect()
    };
    let long = std::env::var_os("FAULTS_LONG").is_some();
    // What takes longest comes first.
    let courses = [Course::Beginning, Course::Reserve, Course::Death, Course::OnPages];
    let work: Vec<(Course, &Operation)> = courses
        .into_iter()
        .flat_map(|course| {
            let few = course == Course::Reserve || course == Course::Beginning && !long;
            let chosen = chosen(if few { BEGINNINGS } else { ALL });
            chosen.into_iter().map(move |operation| (course, operation))
        })
        .collect();
    let next = AtomicUsize::new(0);
    let tallies = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..MOUNTS.min(work.len()) {
            scope.spawn(|| {
                let mut stages = Stages::default();
                while let Some((course, operation)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut tally = Tally::default();
                    let done = AssertUnwindSafe(|| enumerate(&mut stages, operation, *course, &mut tally));
                    if catch_unwind(done).is_err() {
                        tally.complaints.push(format!("{}: panicked; {}", operation.name, stages.logs()));
                        // Whatever happened to this mount, the next operation gets another.
                        stages = Stages::default();
                    }
                    let mut tallies = tallies.lock().unwrap();
                    let sum: &mut Tally = tallies.entry(format!("{course:?}")).or_default();
                    sum.add(tally);
                }
                stages.end();
            });
        }
    });
    let mut all = Tally::default();
    for (course, tally) in tallies.into_inner().unwrap() {
        println!("{course}: {tally}");
        all.add(tally);
    }
    println!("{} points in the source; in all: {all}", points::named().len());
    all.missed.iter().for_each(|missed| println!("not come to: {missed}"));
    assert!(
        all.complaints.is_empty(),
        "{} complaints\n{}",
        all.complaints.len(),
        all.complaints.join("\n\n")
    );
    if only.is_none() {
        assert_eq!(never_died_at(&all.died_at), BTreeSet::new(), "points at which nobody died");
    }
}

/// The points of the source at which nobody died, without those for which a reason is given; and reasons that are none.
fn never_died_at(died_at: &BTreeSet<String>) -> BTreeSet<String> {
    let excused: BTreeSet<String> = NOT_REACHED.iter().map(|(name, _)| (*name).to_owned()).collect();
    let left: BTreeSet<String> = points::named().difference(died_at).cloned().collect();
    left.symmetric_difference(&excused).cloned().collect()
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.operations += other.operations;
        self.pairs += other.pairs;
        self.deaths += other.deaths;
        self.died_at.extend(other.died_at);
        self.complaints.extend(other.complaints);
        self.missed.extend(other.missed);
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (operations, points, pairs) = (self.operations, self.died_at.len(), self.pairs);
        let (deaths, missed) = (self.deaths, self.missed.len());
        write!(
            to,
            "{operations} operations, {points} points, {pairs} pairs of an operation and a point, {deaths} deaths, {missed} hits not come to"
        )
    }
}

/// A mount of each kind, when it is first needed.
#[derive(Default)]
struct Stages {
    passing_through: Option<Stage>,
    pages: Option<Stage>,
}

impl Stages {
    fn of(&mut self, data: &str) -> &mut Stage {
        let stage = if data == "page" { &mut self.pages } else { &mut self.passing_through };
        stage.get_or_insert_with(|| {
            Stage::new(&format!("{AIRFLOW}\n[profile.airflow.cache]\ndata = \"{data}\"\n{KNOWN}"))
        })
    }

    fn logs(&self) -> String {
        [&self.passing_through, &self.pages].into_iter().flatten().map(Stage::log).collect()
    }

    fn end(self) {
        [self.passing_through, self.pages].into_iter().flatten().for_each(Stage::end);
    }
}

fn enumerate(stages: &mut Stages, operation: &Operation, course: Course, tally: &mut Tally) {
    let ordinary = undisturbed(stages.of("auto"), operation);
    let (stage, (expected, passed)) = match course {
        // What is done to the mount, and not to a file.
        Course::OnPages if operation.by_root => return,
        Course::OnPages => {
            let on_pages = undisturbed(stages.of("page"), operation);
            if counted(&on_pages.1) == counted(&ordinary.1) {
                return;
            }
            (stages.of("page"), on_pages)
        }
        _ => (stages.of("auto"), ordinary),
    };
    tally.operations += 1;
    let befores: Vec<Vec<(&str, u64)>> = match course {
        Course::Death | Course::OnPages => vec![vec![]],
        Course::Beginning => {
            let done = (1..=hits(&passed, DONE)).map(|hit| (DONE, hit));
            let half = HALF.iter().filter(|half| hits(&passed, half) > 0).map(|half| (*half, 1));
            done.chain(half).map(|first| vec![first]).collect()
        }
        Course::Reserve => vec![vec![(DONE, 1), (SEEN, 1)]],
    };
    for before in befores {
        let mut passed =
            if before.is_empty() { passed.clone() } else { passed_after(stage, operation, &before, tally) };
        if !before.is_empty() {
            let begun = passed.iter().rposition(|name| name == BEGUN);
            let beside = passed.split_off(begun.map_or(0, |index| index + 1));
            passed.extend(beside.into_iter().filter(|name| name == HEARD));
        }
        let counted = counted(&passed);
        tally.pairs += counted.len();
        let survivable =
            counted.into_iter().filter(|(name, _)| NOT_REACHED.iter().all(|(not, _)| not != name));
        for (name, hits) in survivable {
            let hits = if operation.lasts { hits.min(OF_MANY) } else { hits };
            for hit in 1..=hits {
                let mut arranged = before.clone();
                arranged.push((name, hit));
                one(stage, operation, &arranged, &expected, tally);
            }
        }
    }
    let left = stage.left_in_worker();
    tally.complaints.extend(left.map(|left| format!("{}: {left}", operation.name)));
}

/// What comes of it, and which points it passes, when nobody dies.
fn undisturbed(stage: &mut Stage, operation: &Operation) -> (String, Vec<String>) {
    // The first time is not like the others: the kernel asks what it need not ask again.
    let _ = watched(stage, operation, &[], QUIET);
    let (expected, _, passed) = watched(stage, operation, &[], ALL_IS_SEEN);
    (expected, passed)
}

/// Which points are passed after these deaths.
fn passed_after(
    stage: &mut Stage,
    operation: &Operation,
    deaths: &[(&str, u64)],
    tally: &mut Tally,
) -> Vec<String> {
    let all = u64::try_from(deaths.len()).unwrap();
    let mut tries = (0..TRIES).map(|_| watched(stage, operation, deaths, ALL_IS_SEEN));
    if let Some((_, _, passed)) = tries.find(|(_, died, _)| *died == all) {
        return passed;
    }
    tally.missed.push(format!("{}, {deaths:?}: and whatever comes after it", operation.name));
    Vec::new()
}

fn counted(passed: &[String]) -> BTreeMap<&str, u64> {
    let mut counted = BTreeMap::new();
    passed.iter().for_each(|name| *counted.entry(name.as_str()).or_insert(0) += 1);
    counted
}

fn hits(passed: &[String], name: &str) -> u64 {
    u64::try_from(passed.iter().filter(|passed| *passed == name).count()).unwrap()
}

fn one(
    stage: &mut Stage,
    operation: &Operation,
    arranged: &[(&str, u64)],
    expected: &str,
    tally: &mut Tally,
) {
    let about = format!("{}, {arranged:?}", operation.name);
    let all = u64::try_from(arranged.len()).unwrap();
    let mut died = 0;
    for _ in 0..TRIES {
        let (outcome, now, _) = watched(stage, operation, arranged, QUIET);
        died = now;
        let left = stage.left_on_export();
        tally.deaths += usize::try_from(died).unwrap();
        if outcome != expected {
            println!("WRONG: {about}:\n{}", difference(expected, &outcome));
            tally.complaints.push(format!("{about}:\n{}", difference(expected, &outcome)));
        }
        if let Some(left) = left {
            println!("LEFT: {about}: {left}");
            tally.complaints.push(format!("{about}: {left}"));
        }
        if died == all {
            tally.died_at.extend(arranged.iter().map(|(name, _)| (*name).to_owned()));
            return;
        }
    }
    tally.missed.push(format!("{about}: {died} of {all}"));
}

fn difference(expected: &str, outcome: &str) -> String {
    let lines = |one: &str, other: &str, mark: &str| -> String {
        one.lines()
            .filter(|line| !other.lines().any(|o| o == *line))
            .map(|line| format!("  {mark} {line}\n"))
            .collect()
    };
    lines(expected, outcome, "must be") + &lines(outcome, expected, "was")
}

/// Runs it; if that takes too long, the mount is ended, so that whoever hangs there gets an error.
fn watched(
    stage: &mut Stage,
    operation: &Operation,
    arranged: &[(&str, u64)],
    quiet: Duration,
) -> (String, u64, Vec<String>) {
    let execute = stage.executioner();
    let about = format!("{}, {arranged:?}", operation.name);
    let (done, over) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if over.recv_timeout(LONGEST) == Err(mpsc::RecvTimeoutError::Timeout) {
                println!("HANGS: {about}");
                execute();
            }
        });
        let outcome = stage.run(operation, arranged, quiet);
        drop(done);
        outcome
    })
}
