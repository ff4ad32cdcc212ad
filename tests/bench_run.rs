//! `permfs bench`, run: on directories, on a mount, in a pod, as a gate, and with a wrong command line.

#![allow(missing_docs, clippy::unwrap_used)]

mod bench_room;
mod live;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use bench_room::{Room, assert_empty, bench, complaint};
use live::mount::permfs;
use live::{AIRFLOW, Mount, TRANSPARENT, copy_program};
use serde_json::Value;

/// Rows that need no waiting, for tests of something else.
const SOME: &str = "seq_write,append,create,parallel";

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", complaint(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_quick_run_measures_every_row_on_both_sides_and_leaves_nothing() {
    let room = Room::new();
    let (svg, file) = (room.file("chart.svg"), room.file("report.json"));
    let options =
        ["--quick", "--rounds", "2", "--svg", svg.to_str().unwrap(), "--json", file.to_str().unwrap()];
    let output = room.bench(&options).output().unwrap();
    assert!(output.status.success(), "{}", complaint(&output));
    assert_eq!(complaint(&output), "", "no progress where there is no terminal");

    let table = String::from_utf8(output.stdout).unwrap();
    let report: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), permfs::bench::row::ROWS.len());
    for row in rows {
        assert!(table.contains(row["name"].as_str().unwrap()), "{row} is not in\n{table}");
        if row["not_measured"].is_null() {
            assert_eq!(row["samples"].as_array().unwrap().len(), 2, "{row}");
            assert!(row["ratio"]["median"].as_f64().unwrap() > 0.0, "{row}");
            assert!(row["ratio"]["min"].as_f64() <= row["ratio"]["max"].as_f64(), "{row}");
        } else {
            assert_eq!(row["name"], "seq_read_cold", "only this cannot be done, and only in memory: {row}");
        }
    }
    assert!(report["notes"][0].as_str().unwrap().contains("these are two directories"));
    roxmltree::Document::parse(&fs::read_to_string(&svg).unwrap()).unwrap();
    assert_empty(&[room.source(), room.target()]);
}

#[test]
fn a_mount_is_measured_against_its_export_with_the_ids_of_both_sides() {
    let mount = Mount::of(AIRFLOW);
    let options =
        ["--quick", "--rounds", "1", "--json", "-", "--source-as", "2001:2001", "--target-as", "50000:0"];
    let report = json(&bench(&mount.source(), &mount.target(), &options).output().unwrap());
    assert_eq!(report["target"]["filesystem"], "fuse.permfs");
    assert_eq!(report["notes"], Value::Array(Vec::new()), "the mount shows the export");
    assert!(
        report["rows"]
            .as_array()
            .unwrap()
            .iter()
            .all(|row| row["target"].is_object() || row["name"] == "seq_read_cold")
    );
    assert_empty(&[mount.source()]);
}

#[test]
fn root_without_a_rule_is_told_what_to_give() {
    let mount = Mount::of(AIRFLOW);
    let output = bench(&mount.source(), &mount.target(), &["--quick"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint(&output).contains("--target-as"), "{}", complaint(&output));
    assert_empty(&[mount.source()]);
}

#[test]
fn a_pod_that_cannot_reach_the_source_measures_the_mount_alone() {
    let room = Room::new();
    fs::set_permissions(room.source(), fs::Permissions::from_mode(0o700)).unwrap();
    // A copy, since a pod's user may not pass through the directories to the one under test.
    let program = room.file("permfs");
    copy_program(Path::new(permfs().get_program()), &program);
    let gate = room.file("gate.toml");
    fs::write(&gate, "append = 0.1\n").unwrap();
    let mut command = Command::new(&program);
    command
        .arg("bench")
        .args([room.source(), room.target()])
        .args(["--quick", "--only", SOME])
        .uid(50000)
        .gid(0);

    let output = command.output().unwrap();
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", complaint(&output));
    assert!(table.contains("alone") && table.contains("Permission denied"), "{table}");

    let gated = command.arg("--fail-below").arg(&gate).output().unwrap();
    assert_eq!(gated.status.code(), Some(1), "a gate that cannot be judged does not open");
    assert!(complaint(&gated).contains("append: not compared with native"), "{}", complaint(&gated));
    assert_empty(&[room.source(), room.target()]);
}

#[test]
fn a_gate_opens_and_closes_with_the_exit_code() {
    let room = Room::new();
    let gate = room.file("gate.toml");
    for (text, code) in
        [("append = 0.01\n", 0), ("# comment\napend = 0.01\n", 2), ("append = 0.01\nmkdir = 0.5\n", 2)]
    {
        fs::write(&gate, text).unwrap();
        let options = ["--quick", "--only", SOME, "--fail-below", gate.to_str().unwrap()];
        let output = room.bench(&options).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}: {}", complaint(&output));
        assert_empty(&[room.source(), room.target()]);
    }
    // No mount is twice as fast as its export.
    let mounted = Mount::of(TRANSPARENT);
    fs::write(&gate, "open_read = 2.0\n").unwrap();
    let options = ["--quick", "--only", "open_read", "--fail-below", gate.to_str().unwrap()];
    let output = bench(&mounted.source(), &mounted.target(), &options).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let complaint = complaint(&output);
    assert!(complaint.starts_with("permfs: open_read: ") && complaint.lines().count() == 1, "{complaint}");
}

#[test]
fn a_wrong_command_line_is_refused_before_anything_is_made() {
    let room = Room::new();
    let missing = room.file("missing/report.json");
    for (options, says) in [
        (vec!["--only", "apend"], "did you mean `append`?"),
        (vec!["--rounds", "0"], "0 is not in 1..=1000"),
        (vec!["--json", missing.to_str().unwrap()], "give a file in a directory that exists"),
        (vec!["--svg", "-"], "a chart goes to a file"),
        (vec!["--fail-below", "/nonexistent"], "cannot read the thresholds in /nonexistent"),
        (vec!["--target-as", "50000"], "write UID:GID"),
    ] {
        let output = room.bench(&options).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{options:?}");
        assert!(complaint(&output).contains(says), "{options:?}: {}", complaint(&output));
    }
    let output = bench(&room.source(), &room.file("nowhere"), &["--quick"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_empty(&[room.source(), room.target()]);
}
