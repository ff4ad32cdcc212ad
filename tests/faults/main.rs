//! Processes of a mount die at every point of every operation, and nobody notices.
//!
//! Each operation is done once undisturbed, which says what must come of it and which points it passes; then once for each hit of
//! each of them, with a death there. Nothing may be left of that: no inode, open file, descriptor or registered file.
//!
//! Needs root, /dev/fuse and the feature `faults`: cargo test --features faults --test faults

#![allow(missing_docs, clippy::unwrap_used, unreachable_pub)]

#[path = "../live/mod.rs"]
mod live;
mod operations;
mod stage;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;

use live::AIRFLOW;
use operations::{ALL, Operation};
use stage::{LONGEST, Stage};

/// Mounts at once: most of the time is spent waiting.
const MOUNTS: usize = 20;
/// A point whose hits depend on what the kernel happens to have in mind may need several tries.
const TRIES: usize = 3;

#[derive(Debug, Default)]
struct Tally {
    runs: usize,
    points: usize,
    deaths: usize,
    complaints: Vec<String>,
    missed: Vec<String>,
}

#[test]
fn a_process_may_die_at_every_point_of_every_operation_on_files_that_pass_through() {
    every_point("auto", Deaths::First);
}

#[test]
fn a_process_may_die_at_every_point_of_every_operation_on_cached_pages() {
    every_point("page", Deaths::First);
}

#[test]
fn a_successor_may_die_at_every_point_of_its_own_beginning() {
    every_point("auto", Deaths::Second);
}

/// Which death is arranged at every point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deaths {
    First,
    /// That of whoever goes on where another died between doing a thing and writing down the answer.
    Second,
}

/// Where the first of two deaths is.
const DONE: &str = "answer: before it is written down";

fn every_point(data: &str, deaths: Deaths) {
    let rules = format!("{AIRFLOW}\n[profile.airflow.cache]\ndata = \"{data}\"\n");
    let only = std::env::var("FAULTS_ONLY").ok();
    let chosen: Vec<_> = ALL
        .iter()
        .filter(|operation| only.as_ref().is_none_or(|only| operation.name.contains(only)))
        .collect();
    let next = AtomicUsize::new(0);
    let tally = Mutex::new(Tally::default());
    thread::scope(|scope| {
        for _ in 0..MOUNTS.min(chosen.len()) {
            scope.spawn(|| {
                let mut stage = Stage::new(&rules);
                while let Some(operation) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let enumerated =
                        catch_unwind(AssertUnwindSafe(|| enumerate(&mut stage, operation, deaths, &tally)));
                    if enumerated.is_err() {
                        let mut tally = tally.lock().unwrap();
                        tally.complaints.push(format!("{}: panicked; {}", operation.name, stage.log()));
                        // Whatever happened to this mount, the next operation gets another.
                        stage = Stage::new(&rules);
                    }
                }
                stage.end();
            });
        }
    });
    let tally = tally.into_inner().unwrap();
    println!(
        "data = {data}, {deaths:?}: {} operations, {} points, {} deaths, {} not come to",
        chosen.len(),
        tally.points,
        tally.deaths,
        tally.missed.len()
    );
    tally.missed.iter().for_each(|missed| println!("not come to: {missed}"));
    assert!(
        tally.complaints.is_empty(),
        "{} complaints\n{}",
        tally.complaints.len(),
        tally.complaints.join("\n\n")
    );
}

fn enumerate(stage: &mut Stage, operation: &Operation, deaths: Deaths, tally: &Mutex<Tally>) {
    // The first time is not like the others: the kernel asks what it need not ask again.
    let _ = watched(stage, operation, &[]);
    let (expected, _, passed) = watched(stage, operation, &[]);
    let first: Vec<Vec<(&str, u64)>> = match deaths {
        Deaths::First => vec![vec![]],
        Deaths::Second => (1..=hits(&passed, DONE)).map(|hit| vec![(DONE, hit)]).collect(),
    };
    for before in first {
        let passed = if before.is_empty() { passed.clone() } else { watched(stage, operation, &before).2 };
        let mut counted = BTreeMap::new();
        passed.iter().for_each(|name| *counted.entry(name.as_str()).or_insert(0_u64) += 1);
        tally.lock().unwrap().points += counted.len();
        for (name, hits) in counted {
            for hit in 1..=hits {
                let mut arranged = before.clone();
                arranged.push((name, hit));
                one(stage, operation, &arranged, &expected, tally);
            }
        }
    }
    let left = stage.left_in_worker();
    tally.lock().unwrap().complaints.extend(left.map(|left| format!("{}: {left}", operation.name)));
}

fn hits(passed: &[String], name: &str) -> u64 {
    u64::try_from(passed.iter().filter(|passed| *passed == name).count()).unwrap()
}

fn one(
    stage: &mut Stage,
    operation: &Operation,
    arranged: &[(&str, u64)],
    expected: &str,
    tally: &Mutex<Tally>,
) {
    let about = format!("{}, {arranged:?}", operation.name);
    let all = u64::try_from(arranged.len()).unwrap();
    let mut died = 0;
    for _ in 0..TRIES {
        let (outcome, now, _) = watched(stage, operation, arranged);
        died = now;
        let left = stage.left_on_export();
        let mut tally = tally.lock().unwrap();
        tally.runs += 1;
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
            return;
        }
    }
    tally.lock().unwrap().missed.push(format!("{about}: {died} of {all}"));
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
fn watched(stage: &mut Stage, operation: &Operation, arranged: &[(&str, u64)]) -> (String, u64, Vec<String>) {
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
        let outcome = stage.run(operation, arranged);
        drop(done);
        outcome
    })
}
