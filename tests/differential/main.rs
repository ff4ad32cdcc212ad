//! Random sequences of system calls, done on a bare directory and through a mount of another directory on the same
//! filesystem that translates nothing, or everybody to themselves: every result, every errno and both whole trees must be
//! the same.
//!
//! `PERMFS_DIFFERENTIAL_CASES` says how many sequences (the default takes half a minute). A difference is shrunk and
//! printed as Rust; paste it into `regressions.rs`.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod generate;
#[path = "../live/mod.rs"]
mod live;
mod operation;
mod regressions;
mod side;
mod stage;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

use generate::sequences;
use operation::Step;
use stage::Stage;

/// How many sequences run in each data mode where nothing else is said.
const CASES: u32 = 2_000;
/// A translation that leaves everything as it is.
const IDENTITY: &str = r#"
version = 1

[profile.identity]
uid = [ { pod = "1-4294967294", nfs = "1-4294967294" } ]
gid = [ { pod = "1-4294967294", nfs = "1-4294967294" } ]

[profile.identity.unmapped]
root = "keep"
nfs = "keep"
pod = "keep"

[profile.identity.cache]
data = "page"
"#;

/// The longest sequence.
const STEPS: usize = 60;

#[test]
fn a_transparent_mount_cannot_be_told_from_the_directory_itself() {
    compare(&Stage::new(&through_the_page_cache()), sequences(STEPS));
}

/// The kernel writes past permfs here, with the same credentials whoever writes and the flags of the open.
#[test]
fn nor_can_one_with_passthrough() {
    let sequences =
        sequences(STEPS).prop_map(|steps| steps.into_iter().map(Step::under_passthrough).collect::<Vec<_>>());
    compare(&Stage::new(live::TRANSPARENT), sequences);
}

/// Each id has a rule, and the rules say what is there already.
#[test]
fn nor_can_one_that_translates_everybody_to_themselves() {
    let sequences =
        sequences(STEPS).prop_map(|steps| steps.into_iter().map(Step::without_set_ids).collect::<Vec<_>>());
    compare(&Stage::new(IDENTITY), sequences);
}

#[test]
fn sequences_that_once_differed_no_longer_do() {
    for rules in [live::TRANSPARENT, &through_the_page_cache()] {
        let stage = Stage::new(rules);
        let differing: Vec<_> = regressions::sequences()
            .into_iter()
            .filter_map(|(name, steps)| Some(format!("{name}: {}", stage.compare(&steps).err()?)))
            .collect();
        assert!(differing.is_empty(), "{rules}\n{}", differing.join("\n"));
    }
}

fn through_the_page_cache() -> String {
    format!("{}\n[profile.transparent.cache]\ndata = \"page\"\n", live::TRANSPARENT)
}

fn compare(stage: &Stage, sequences: impl Strategy<Value = Vec<Step>>) {
    let cases =
        std::env::var("PERMFS_DIFFERENTIAL_CASES").map_or(CASES, |cases| cases.parse().expect("a number"));
    let config = Config { cases, max_shrink_iters: 4_000, failure_persistence: None, ..Config::default() };
    let outcome =
        TestRunner::new(config).run(&sequences, |steps| stage.compare(&steps).map_err(TestCaseError::fail));
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(difference, steps)) => {
            let steps: String = steps.iter().map(|step| format!("        {step:?},\n")).collect();
            panic!("{difference}\n\nshrunk to\n    vec![\n{steps}    ]");
        }
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}
