//! The conformance suite of the CSI project (kubernetes-csi/csi-test, `csi-sanity`) on the real plugin and host. The program
//! comes from elsewhere: `CSI_SANITY=/path/to/csi-sanity cargo test --test csi_sanity -- --ignored`.
#![allow(clippy::unwrap_used, missing_docs)]

mod csi_room;

use std::fs;
use std::process::Command;

use csi_room::{Node, text};

#[test]
#[ignore = "needs csi-sanity, named by CSI_SANITY"]
fn csi_sanity_finds_nothing_to_complain_of() {
    let program = std::env::var_os("CSI_SANITY").expect("CSI_SANITY names the program");
    let node = Node::new();
    let target = node.target("sanity");
    let room = target.ancestors().nth(3).unwrap();
    let parameters = room.join("parameters.yaml");
    fs::write(&parameters, format!("path: {}\n", text(&node.export()))).unwrap();
    let output = Command::new(program)
        .arg(format!("-csi.endpoint=unix://{}", room.join("csi.sock").display()))
        .arg(format!("-csi.mountdir={}", target.display()))
        .arg(format!("-csi.stagingdir={}", room.join("staging").display()))
        .arg(format!("-csi.testvolumeparameters={}", parameters.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(node.mounts().is_empty() && node.ledger() == 0);
    assert_eq!(fs::read_dir(node.export().join(".permfs")).unwrap().count(), 0);
}
