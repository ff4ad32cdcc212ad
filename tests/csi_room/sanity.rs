//! `csi-sanity`, the conformance suite of the CSI project (kubernetes-csi/csi-test), on a room's plugin. The program comes from
//! elsewhere; CSI_SANITY names it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::process::Command;

use super::{Node, text};

/// What names the program.
pub const VARIABLE: &str = "CSI_SANITY";

/// The program, where there is one.
pub fn program() -> Option<OsString> {
    std::env::var_os(VARIABLE)
}

/// Runs all of it, node and controller, on volumes with these parameters; what it says at the end. It leaves nothing behind.
#[track_caller]
pub fn passes(program: &OsString, node: &Node, parameters: &HashMap<String, String>) -> String {
    let target = node.target("sanity");
    let room = target.ancestors().nth(3).unwrap();
    let file = room.join("parameters.yaml");
    let lines = parameters.iter().map(|(key, value)| format!("{key}: \"{value}\"\n"));
    fs::write(&file, lines.collect::<String>()).unwrap();
    let output = Command::new(program)
        .arg(format!("-csi.endpoint=unix://{}", room.join("csi.sock").display()))
        .arg(format!("-csi.mountdir={}", target.display()))
        .arg(format!("-csi.stagingdir={}", room.join("staging").display()))
        .arg(format!("-csi.testvolumeparameters={}", text(&file)))
        .arg("-ginkgo.no-color")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(node.mounts().is_empty() && node.ledger() == 0, "{:?}", node.mounts());
    let closing = said.lines().rfind(|line| line.contains("Passed")).expect("a closing line");
    assert!(closing.contains(" 0 Failed"), "{closing}");
    closing.to_owned()
}
