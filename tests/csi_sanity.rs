//! The conformance suite of the CSI project on the real plugin and host, and a `path` volume:
//! `CSI_SANITY=/path/to/csi-sanity cargo test --test csi_sanity -- --ignored --nocapture`. `tests/real_nfs` has the same on an export.
#![allow(clippy::unwrap_used, missing_docs)]

mod csi_room;

use std::collections::HashMap;
use std::fs;

use csi_room::{Node, sanity, text};

#[test]
#[ignore = "needs csi-sanity, named by CSI_SANITY"]
fn csi_sanity_finds_nothing_to_complain_of() {
    let program = sanity::program().expect("CSI_SANITY names the program");
    let node = Node::new();
    let parameters = HashMap::from([("path".to_owned(), text(&node.export()))]);
    println!("{}", sanity::passes(&program, &node, &parameters));
    assert_eq!(fs::read_dir(node.export().join(".permfs")).unwrap().count(), 0);
}
