//! The points as the source names them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// All of them: `point!` is one, `around!` is one before and one after.
pub fn named() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut names);
    names
}

fn read(directory: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, names);
        } else if !path.ends_with("sys/fault.rs") {
            let text = fs::read_to_string(&path).unwrap();
            names.extend(literals(&text, "point!(").map(str::to_owned));
            let calls = literals(&text, "around!(");
            names.extend(calls.flat_map(|name| [format!("before {name}"), format!("after {name}")]));
        }
    }
}

/// The first argument of each call of a macro.
fn literals<'a>(text: &'a str, call: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(call)
        .skip(1)
        .map(|rest| rest.trim_start().strip_prefix('"').unwrap().split('"').next().unwrap())
}
