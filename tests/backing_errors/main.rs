//! Every call to the export fails once, with every error that servers and kernels have for it, in every operation that makes it.
//!
//! The caller is told that very error, or, where a reason stands in [`BORNE`], does not notice. The export is then as it was before
//! or as it is when nothing fails, and never between. Nothing stays behind: no inode, open file or reference; and the mount goes on.
//!
//! No root, no mount: the export is in memory. What the real one's errors are is `backing/posix`'s affair.

#![allow(missing_docs, clippy::unwrap_used, unreachable_pub)]

mod faulty;
mod operations;
mod world;

use std::collections::BTreeSet;

use faulty::Failing;
use operations::{ALL, Operation, prepare};
use permfs::fs::Errno;
use world::World;

const ERRORS: [Errno; 7] =
    [Errno::EIO, Errno::ENOSPC, Errno::EDQUOT, Errno::EINTR, Errno::ESTALE, Errno::EMFILE, Errno::ENOMEM];

/// Errors that a caller does not hear of: operation (or any, where empty), call, error (or any), and why.
const BORNE: &[(&str, &str, Option<Errno>, &str)] = &[
    ("", "resolve", Some(Errno::ESTALE), "tried again as the owner, or found through who has it open"),
    ("", "open_name", None, "the name is a hint: the file is opened by its handle"),
    ("readdirplus", "find", None, "the name is listed without attributes, and looked up when it is used"),
    ("unlink", "lookup", None, "only to keep what somebody may stand in"),
    ("rmdir", "lookup", None, "likewise"),
    ("rename", "lookup", None, "likewise"),
    ("rename over", "lookup", None, "likewise"),
    ("rename of a directory over another", "lookup", None, "likewise"),
    ("rename to elsewhere", "lookup", None, "likewise"),
    ("rename to elsewhere", "resolve", None, "likewise; the rename itself comes to the directory again"),
    ("removexattr", "getxattr", None, "only evidence for a successor that it was there"),
];

#[derive(Debug, Default)]
struct Tally {
    pairs: usize,
    injected: usize,
    told: usize,
    borne: BTreeSet<String>,
    complaints: Vec<String>,
}

/// How one run ended.
struct Run {
    outcome: Result<String, Errno>,
    calls: Vec<&'static str>,
    before: String,
    after: String,
    left: Vec<String>,
    held: usize,
}

#[test]
fn every_error_of_every_call_is_told_and_leaves_nothing_half_done() {
    let mut tally = Tally::default();
    for local in [false, true] {
        for operation in ALL {
            enumerate(operation, local, &mut tally);
        }
    }
    println!(
        "{} operations, {} pairs of an operation and a call, {} errors: {} told, {} borne in {} ways",
        ALL.len(),
        tally.pairs,
        tally.injected,
        tally.told,
        tally.injected - tally.told,
        tally.borne.len()
    );
    assert!(tally.complaints.is_empty(), "{}\n{}", tally.complaints.len(), tally.complaints.join("\n"));
}

fn enumerate(operation: &Operation, local: bool, tally: &mut Tally) {
    let undisturbed = run(operation, local, Failing::None);
    assert!(undisturbed.outcome.is_ok(), "{}: {:?}", operation.name, undisturbed.outcome);
    for (index, call) in undisturbed.calls.iter().enumerate() {
        tally.pairs += 1;
        for error in ERRORS {
            let about = format!("{} (local: {local}), {call} ({index}) says {error:?}", operation.name);
            tally.injected += 1;
            let once = run(operation, local, Failing::Only(index, error));
            let mut complain = |what: String| tally.complaints.push(format!("{about}: {what}"));
            once.left.iter().for_each(|left| complain(left.clone()));
            if once.held > undisturbed.held {
                complain(format!("{} references are held, not {}", once.held, undisturbed.held));
            }
            let (none, all) = (once.after == once.before, once.after == undisturbed.after);
            if !none && !all {
                complain(format!("half done:\n{}", once.after));
            }
            match &once.outcome {
                Err(told) if *told == error => tally.told += 1,
                Ok(said)
                    if Ok(said) == undisturbed.outcome.as_ref()
                        && all
                        && is_borne(operation, call, error) =>
                {
                    tally.borne.insert(format!("{}: {call}", operation.name));
                }
                other => complain(format!("it became {other:?}")),
            }
            let gone = run(operation, local, Failing::From(index, error));
            let mut complain =
                |what: String| tally.complaints.push(format!("{about} and all after it: {what}"));
            gone.left.iter().for_each(|left| complain(left.clone()));
            if gone.held > undisturbed.held {
                complain(format!("{} references are held, not {}", gone.held, undisturbed.held));
            }
            if gone.outcome.as_ref().err() != Some(&error) && !is_borne(operation, call, error) {
                complain(format!("it became {:?}", gone.outcome));
            }
        }
    }
}

fn is_borne(operation: &Operation, call: &str, error: Errno) -> bool {
    BORNE.iter().any(|(name, borne, which, _)| {
        (name.is_empty() || *name == operation.name)
            && *borne == call
            && which.is_none_or(|which| which == error)
    })
}

fn run(operation: &Operation, local: bool, failing: Failing) -> Run {
    let world = World::new(local);
    let ready = prepare(&world).unwrap();
    let before = world.tree();
    world.export.tell(failing);
    let outcome = (operation.act)(&world, &ready);
    let calls = world.export.tell(Failing::None);
    let after = world.tree();
    let mut left = Vec::new();
    if let Err(error) = world.serves() {
        left.push(format!("it does not go on: {error:?}"));
    }
    left.extend(world.give_back());
    let (export, held) = (world.export.clone(), world.export.held());
    drop(world);
    if export.held() > 0 {
        left.push(format!("{} references outlive the mount", export.held()));
    }
    Run { outcome, calls, before, after, left, held }
}
