//! `benches/mount`, what it computes and shows: RPCs read, tables and charts drawn, the record replaced. That it runs is a
//! step of `scripts/test`.

#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

#[path = "../benches/mount/bound.rs"]
mod bound;
#[path = "../benches/mount/chart.rs"]
mod chart;
#[path = "../benches/mount/counting.rs"]
mod counting;
#[path = "../benches/mount/options.rs"]
mod options;
#[path = "../benches/mount/outcome.rs"]
mod outcome;
#[path = "../benches/mount/record.rs"]
mod record;
#[path = "../benches/mount/table.rs"]
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use outcome::{Count, CountPair, Measured, Outcome};
use permfs::bench::Thresholds;
use permfs::bench::report::{Place, Report, RowReport};
use permfs::bench::row::ROWS;
use permfs::bench::stats::Spread;

/// Every row at this ratio, but the first, which is not measured.
fn measured(name: &'static str, ratio: f64) -> Measured {
    let spread = |number: f64| Spread { median: number, min: number * 0.9, max: number * 1.1 };
    let place = || Place { path: "/x".to_owned(), filesystem: "ext4".to_owned(), compared: true };
    let rows = ROWS.iter().enumerate().map(|(index, row)| RowReport {
        name: row.name,
        what: row.what,
        unit: row.unit,
        ratio: (index > 0).then(|| spread(ratio)),
        source: (index > 0).then(|| spread(1e6)),
        target: (index > 0).then(|| spread(1e6 * ratio)),
        samples: Vec::new(),
        not_measured: (index == 0).then(|| "it <cannot> & will not".to_owned()),
    });
    let report = Report {
        schema: 1,
        permfs: "0.1.0",
        started: "2026-11-21T05:22:17Z".to_owned(),
        kernel: "6.18".to_owned(),
        cpus: 2,
        rounds: 5,
        quick: false,
        source: place(),
        target: place(),
        notes: vec!["a < b".to_owned()],
        rows: rows.collect(),
    };
    Measured { name, how: "-o fast".to_owned(), report, requests: Vec::new(), rpcs: Vec::new() }
}

fn outcome(candidates: Vec<Measured>) -> Outcome {
    let place = "ext4 in memory".to_owned();
    Outcome { kind: "pinned", place, request: None, notes: Vec::new(), candidates }
}

fn count(total: f64) -> Count {
    Count { operation: "unlink", total, by_kind: BTreeMap::from([("remove".to_owned(), total)]) }
}

#[test]
fn rpcs_are_those_of_the_mount_that_is_asked_for() {
    let text = "device proc mounted on /proc with fstype proc\n\
        device a:/ mounted on /nfs2 with fstype nfs4 statvers=1.1\n\tper-op statistics\n\t        READ: 9 9 0 0\n\
        device a:/ mounted on /nfs with fstype nfs4 statvers=1.1\n\topts:\trw\n\tper-op statistics\n\
        \t        NULL: 1 1 0 44 24 0 0 0 0\n\t        READ: 3 3 0 600 7000 0 1 1 0\n\n";
    let counts = counting::rpcs_in(text, Path::new("/nfs")).unwrap();
    assert_eq!(counts, BTreeMap::from([("null".to_owned(), 1), ("read".to_owned(), 3)]));
    assert_eq!(counting::rpcs_in(text, Path::new("/elsewhere")), None);
    assert_eq!(counting::rpcs_in("", Path::new("/nfs")), None);
}

#[test]
fn a_row_is_flagged_where_a_peer_is_ahead_by_more_than_three_percent() {
    let level = outcome(vec![measured("permfs", 0.50), measured("bindfs", 0.515), measured("mergerfs", 0.2)]);
    assert_eq!(table::behind(&level, 1), None);
    let behind = outcome(vec![
        measured("permfs", 0.50),
        measured("permfs-page", 0.9),
        measured("bindfs", 0.51),
        measured("mergerfs", 0.52),
    ]);
    assert_eq!(table::behind(&behind, 1).as_deref(), Some("behind mergerfs"));
    assert_eq!(table::behind(&behind, 0), None, "what was not measured cannot be compared");
    assert!(table::text(&behind).contains("behind mergerfs"));
    assert_eq!(table::behind(&outcome(vec![measured("permfs", 0.5)]), 1), None, "nobody is there");
}

#[test]
fn the_table_tells_what_was_left_out_and_what_each_operation_asked_for() {
    let mut permfs = measured("permfs", 0.5);
    permfs.requests = vec![count(2.0)];
    permfs.rpcs = vec![CountPair { bare: count(1.0), permfs: count(2.5) }];
    let text = table::text(&outcome(vec![permfs]));
    assert!(text.contains("it <cannot> & will not") && text.contains("a < b"), "{text}");
    assert!(text.contains("remove 2.5") && text.contains("0.50 0.45..0.55"), "{text}");
}

#[test]
fn what_the_requests_alone_allow_counts_those_that_are_waited_for_and_the_rpcs_more() {
    let kinds = ["getattr", "unlink", "forget"].map(|kind| (kind.to_owned(), 1.0));
    let mut permfs = measured("permfs", 0.4);
    permfs.requests = vec![Count { operation: "unlink", total: 3.0, by_kind: BTreeMap::from(kinds) }];
    let mut one = outcome(vec![permfs]);
    assert_eq!(
        (bound::heading(&one), bound::lines(&one)),
        (None, Vec::new()),
        "where a request was not measured"
    );
    // As long as half an operation on the bare side, which takes a microsecond.
    one.request = Some(0.5);
    assert!(table::text(&one).contains("0.50 at most, has 0.40"), "{}", table::text(&one));
    one.candidates[0].rpcs = vec![CountPair { bare: count(1.0), permfs: count(2.0) }];
    assert!(bound::lines(&one)[0].contains("0.33 at most"), "{:?}", bound::lines(&one));
}

#[test]
fn the_chart_is_well_formed() {
    let svg = chart::draw(&outcome(vec![measured("permfs", 0.5), measured("bindfs", 40.0)]));
    roxmltree::Document::parse(&svg).unwrap();
}

#[test]
fn a_record_replaces_what_is_between_its_own_markers_alone() {
    let text = "a\n<!-- recorded: nfs -->\nold\n<!-- end: nfs -->\nb\n<!-- recorded: pinned -->\n<!-- end: pinned -->\n";
    let new = record::replaced(text, "nfs", "new\n").unwrap();
    assert_eq!(
        new,
        "a\n<!-- recorded: nfs -->\nnew\n<!-- end: nfs -->\nb\n<!-- recorded: pinned -->\n<!-- end: pinned -->\n"
    );
    assert_eq!(record::replaced(&new, "nfs", "new\n").as_ref(), Some(&new));
    assert_eq!(record::replaced(text, "local", "new\n"), None);
}

#[test]
fn the_readme_has_a_place_for_each_kind_of_run_and_the_thresholds_are_sound() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches");
    let readme = fs::read_to_string(folder.join("README.md")).unwrap();
    for kind in ["local", "pinned", "nfs"] {
        assert!(record::replaced(&readme, kind, "").is_some(), "{kind}");
    }
    let rows: Vec<_> = ROWS.iter().collect();
    for file in ["thresholds.toml", "thresholds-nfs.toml"] {
        let text = fs::read_to_string(folder.join(file)).unwrap();
        Thresholds::parse(Path::new(file), &text, &rows).unwrap();
    }
}
