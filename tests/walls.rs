//! The walls between the rooms: ARCHITECTURE.md's table says who may name whom, and this holds it against the source.
//!
//! Beside it, what else a reader may rely on: `unsafe` stays in `sys/`, `policy/` is pure, nothing is left to be
//! written, and every file is one room of bounded length that begins with what it is for. Each check is a function from
//! text to complaints, so that the checks themselves are tested on text that breaks them.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// At most this many lines in a file: past it, it is two rooms.
const LONGEST_FILE: usize = 600;
/// What takes a decision out of `policy/`'s hands: the system, the clock, the log.
const IMPURE: &[&str] = &["libc", "nix", "rustix", "tracing", "SystemTime", "Instant"];
/// The parts of the standard library that reach outside.
const IMPURE_STD: &[&str] = &["env", "fs", "io", "net", "os", "process", "thread"];

/// What only the CSI plugin is built on.
const GRPC: &[&str] = &["hyper", "hyper_util", "prost", "tokio", "tonic"];

/// Room -> the rooms that it may name.
type Walls = BTreeMap<String, BTreeSet<String>>;

#[test]
fn rooms_name_only_the_rooms_that_the_architecture_lets_them() {
    let walls = read_walls(&fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap());
    hold(&source_files("src"), |path, text| trespasses(&walls, path, text));
}

#[test]
fn every_room_has_a_line_in_the_architecture() {
    let walls = read_walls(&fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap());
    let rooms: BTreeSet<_> = source_files("src").iter().filter_map(|path| room_of(path)).collect();
    let written: BTreeSet<_> = walls.keys().cloned().collect();
    assert_eq!(rooms, written, "the rooms in src/, and those in ARCHITECTURE.md's table");
}

#[test]
fn unsafe_stays_in_sys() {
    hold(&source_files("src"), unsafe_outside_sys);
}

#[test]
fn policy_is_pure() {
    hold(&source_files("src"), impurities);
}

#[test]
fn grpc_stays_in_csi() {
    hold(&source_files("src"), grpc_outside_csi);
}

#[test]
fn nothing_is_left_to_be_written() {
    hold(&source_files("src"), unfinished);
}

#[test]
fn every_file_begins_with_what_it_is_for_and_is_not_too_long() {
    let files = [source_files("src"), source_files("tests"), source_files("benches")].concat();
    hold(&files, |_, text| shape(text));
}

/// Runs a check over files and fails with all that it complains of.
#[track_caller]
fn hold(files: &[PathBuf], check: impl Fn(&Path, &str) -> Vec<String>) {
    let complaints: Vec<_> = files
        .iter()
        .flat_map(|path| {
            let text = fs::read_to_string(root().join(path)).unwrap();
            check(path, &text)
                .into_iter()
                .map(|complaint| format!("{}: {complaint}", path.display()))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below a folder, relative to the project.
fn source_files(folder: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        // A folder that is not there has no files.
        for entry in fs::read_dir(root().join(&folder)).into_iter().flatten() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// `src/fs/create.rs` is of the room `fs`; `src/lib.rs` and `src/main.rs` are of none.
fn room_of(path: &Path) -> Option<String> {
    let below = path.strip_prefix("src").ok()?;
    let first = Path::new(below.iter().next()?).file_stem()?.to_str()?;
    (!["lib", "main"].contains(&first)).then(|| first.to_owned())
}

/// The table of the section "Rooms": `` | `room/` | what for | `other`, `another` | ``, or `nobody`, or `all`.
fn read_walls(architecture: &str) -> Walls {
    let section = architecture.split("\n## Rooms\n").nth(1).expect("ARCHITECTURE.md has a section Rooms");
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| {
        let cells: Vec<_> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let [room, _, names] = cells[..] else { return None };
        Some((room.strip_prefix('`')?.strip_suffix("/`")?.to_owned(), names.to_owned()))
    });
    let rows: BTreeMap<_, _> = rows.collect();
    assert!(!rows.is_empty(), "the section Rooms has a table");
    let all: BTreeSet<_> = rows.keys().cloned().collect();
    let allowed = |names: &str| match names {
        "nobody" => BTreeSet::new(),
        "all" => all.clone(),
        names => names.split(',').map(|name| name.trim().trim_matches('`').to_owned()).collect(),
    };
    rows.iter().map(|(room, names)| (room.clone(), allowed(names))).collect()
}

/// The rooms that this file names and may not.
fn trespasses(walls: &Walls, path: &Path, text: &str) -> Vec<String> {
    let Some(room) = room_of(path) else { return Vec::new() };
    let Some(allowed) = walls.get(&room) else {
        return vec![format!("`{room}` is not in ARCHITECTURE.md's table")];
    };
    rooms_named(path, &tokens(text))
        .into_iter()
        .filter(|named| *named != room && walls.contains_key(named) && !allowed.contains(named))
        .map(|named| format!("names `{named}`, which `{room}` may not"))
        .collect()
}

fn unsafe_outside_sys(path: &Path, text: &str) -> Vec<String> {
    let here = room_of(path).as_deref() != Some("sys") && tokens(text).iter().any(|token| token == "unsafe");
    here.then(|| "`unsafe` belongs in src/sys".to_owned()).into_iter().collect()
}

fn grpc_outside_csi(path: &Path, text: &str) -> Vec<String> {
    if room_of(path).as_deref() == Some("csi") {
        return Vec::new();
    }
    let tokens = tokens(text);
    let named = tokens.iter().filter(|token| GRPC.contains(&token.as_str()));
    named.map(|name| format!("names `{name}`, which is csi's")).collect()
}

fn impurities(path: &Path, text: &str) -> Vec<String> {
    if room_of(path).as_deref() != Some("policy") {
        return Vec::new();
    }
    let tokens = tokens(text);
    let named = tokens.iter().filter(|token| IMPURE.contains(&token.as_str())).cloned();
    let of_std =
        first_names_after(&tokens, "std").into_iter().filter(|name| IMPURE_STD.contains(&name.as_str()));
    named
        .chain(of_std.map(|name| format!("std::{name}")))
        .map(|name| format!("policy is pure, but names `{name}`"))
        .collect()
}

fn unfinished(_: &Path, text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let calls = tokens
        .windows(2)
        .filter(|pair| ["todo", "unimplemented"].contains(&pair[0].as_str()) && pair[1] == "!");
    calls.map(|pair| format!("`{}!` stands here", pair[0])).collect()
}

fn shape(text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if !text.starts_with("//! ") {
        complaints.push("does not begin with a paragraph (`//!`) that tells what it is for".to_owned());
    }
    let lines = text.lines().count();
    if lines > LONGEST_FILE {
        complaints.push(format!("has {lines} lines, more than {LONGEST_FILE}"));
    }
    complaints
}

/// The source without comments, strings and spaces; brackets are tokens of their own.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    flatten(TokenStream::from_str(text).expect("Rust"), &mut tokens);
    tokens
}

fn flatten(stream: TokenStream, tokens: &mut Vec<String>) {
    for tree in stream {
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                tokens.push(open.to_owned());
                flatten(group.stream(), tokens);
                tokens.push(close.to_owned());
            }
            TokenTree::Literal(_) => tokens.push("literal".to_owned()),
            other => tokens.push(other.to_string()),
        }
    }
}

/// The rooms reached from the crate's root, by `crate::` or by as many `super::` as the file is deep.
fn rooms_named(path: &Path, tokens: &[String]) -> BTreeSet<String> {
    let mut named = first_names_after(tokens, "crate");
    let depth = path.with_extension("").iter().filter(|part| *part != "src" && *part != "mod").count();
    let mut supers = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "super" => supers += 1,
            ":" => {}
            _ if supers >= depth && supers > 0 => {
                named.extend(first_names(&tokens[at..]));
                supers = 0;
            }
            _ => supers = 0,
        }
    }
    named
}

/// `root::a` and `root::{a, b::c}` name a and b.
fn first_names_after(tokens: &[String], root: &str) -> BTreeSet<String> {
    let starts = tokens.windows(3).enumerate().filter(|(_, window)| *window == [root, ":", ":"]);
    starts.flat_map(|(at, _)| first_names(&tokens[at + 3..])).collect()
}

/// The name that these tokens begin with, or all of them where they begin with a group.
fn first_names(tokens: &[String]) -> Vec<String> {
    if tokens.first().is_none_or(|first| first != "{") {
        return tokens.first().into_iter().cloned().collect();
    }
    let mut depth = 0;
    let mut names = Vec::new();
    for pair in tokens.windows(2) {
        match pair[0].as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && (pair[0] == "{" || pair[0] == ",") {
            names.push(pair[1].clone());
        }
    }
    names
}

mod the_checks_themselves {
    use super::*;

    const ARCHITECTURE: &str = "\
# x

## Rooms

| Room | For | Names |
|---|---|---|
| `policy/` | decides | nobody |
| `fs/` | conducts | `policy`, `sys` |
| `sys/` | calls | nobody |
| `cli/` | wires | all |

## Other

| `fake/` | not a room | all |
";

    fn complaints(path: &str, text: &str) -> usize {
        trespasses(&read_walls(ARCHITECTURE), Path::new(path), text).len()
    }

    #[test]
    fn the_table_is_read_with_nobody_and_all() {
        let walls = read_walls(ARCHITECTURE);
        assert_eq!(walls.keys().collect::<Vec<_>>(), ["cli", "fs", "policy", "sys"]);
        assert!(walls["policy"].is_empty());
        assert_eq!(walls["fs"].iter().collect::<Vec<_>>(), ["policy", "sys"]);
        assert_eq!(walls["cli"].len(), 4);
    }

    #[test]
    fn a_room_named_in_any_way_is_seen() {
        for text in [
            "use crate::fs::Inode;",
            "use crate::{fs, sys};",
            "use crate::{sys::{Name, Errno}, fs::{self, Inode}};",
            "use crate::fs;",
            "fn f() { let x = crate :: fs :: new(); }",
            "macro_rules! m { () => { $crate::fs::f() } }",
            "use super::super::fs::Inode;",
            "use super::super::{sys, fs};",
        ] {
            assert!(complaints("src/policy/mode.rs", text) > 0, "{text}");
        }
        assert_eq!(complaints("src/policy/mod.rs", "use super::fs;"), 1);
        assert_eq!(complaints("src/policy.rs", "use super::fs;"), 1);
    }

    #[test]
    fn what_is_allowed_or_only_talked_of_is_not_a_trespass() {
        for text in [
            "use crate::policy::Mode; use crate::sys;",
            "// crate::cli is where this comes from\n/// See [`crate::cli`].\nfn f() {}",
            "const TEXT: &str = \"crate::cli\";",
            "use super::cli;",
            "use crate::fs::{cli, sys::cli};",
        ] {
            assert_eq!(complaints("src/fs/create.rs", text), 0, "{text}");
        }
        assert_eq!(complaints("src/cli/mod.rs", "use crate::{fs, policy, sys};"), 0);
        assert_eq!(complaints("src/main.rs", "use crate::fs;"), 0);
    }

    #[test]
    fn a_room_without_a_line_in_the_table_is_one_complaint() {
        assert_eq!(complaints("src/fake/mod.rs", ""), 1);
    }

    #[test]
    fn unsafe_is_seen_in_code_and_only_there() {
        let outside = |text| unsafe_outside_sys(Path::new("src/fs/io.rs"), text).len();
        assert_eq!(outside("fn f() { unsafe { g() } }"), 1);
        assert_eq!(outside("unsafe impl Send for X {}"), 1);
        assert_eq!(outside("// unsafe\n#![deny(unsafe_code)]\nconst X: &str = \"unsafe\";"), 0);
        assert_eq!(unsafe_outside_sys(Path::new("src/sys/io.rs"), "unsafe fn f() {}").len(), 0);
    }

    #[test]
    fn grpc_is_seen_outside_csi() {
        let named = |path: &str| grpc_outside_csi(Path::new(path), "use tonic::Status;").len();
        assert_eq!((named("src/host/client.rs"), named("src/csi/node.rs")), (1, 0));
    }

    #[test]
    fn impurity_is_seen_in_policy_alone() {
        let inside = |text| impurities(Path::new("src/policy/mode.rs"), text).len();
        assert_eq!(inside("use std::fs;"), 1);
        assert_eq!(inside("use std::{fmt, time::{Duration, Instant}, io::Read};"), 2);
        assert_eq!(inside("use nix::errno::Errno; use std::time::Duration;"), 1);
        assert_eq!(inside("use std::{fmt, borrow::Cow};"), 0);
        assert_eq!(impurities(Path::new("src/fs/io.rs"), "use std::fs;").len(), 0);
    }

    #[test]
    fn what_is_left_to_be_written_is_seen() {
        let found = |text| unfinished(Path::new("src/fs/io.rs"), text).len();
        assert_eq!(found("fn f() { todo!() } fn g() { unimplemented!(\"later\") }"), 2);
        assert_eq!(found("// todo!()\nfn todo() {}"), 0);
    }

    #[test]
    fn a_file_without_a_paragraph_or_an_end_is_seen() {
        assert_eq!(shape("//! What for.\n"), [""; 0]);
        assert_eq!(shape("use std::fs;\n").len(), 1);
        assert_eq!(shape(&format!("//! What for.\n{}", "\n".repeat(LONGEST_FILE))).len(), 1);
    }
}
