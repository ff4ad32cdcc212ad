//! A tree of directories and files, walked as `find -size` or `git status` does: names and attributes of everything.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::Halt;
use super::ground::Ground;
use super::halt::Attempt as _;
use super::meta::make_file;
use super::row::Work;

/// Files in each directory of a tree.
const FILES: u64 = 25;
/// The most directories of a tree.
const MAX_DIRECTORIES: u64 = 40;
/// One in so many of the names that may exist is in one tree; there are two trees.
const PART: u64 = 8;

/// Again and again, until that many entries have been seen.
pub(super) fn walk_hot(ground: &mut Ground, entries: u64) -> Result<Work, Halt> {
    let tree = ground.standing("tree", make)?;
    let mut amount = 0;
    let clock = Instant::now();
    while amount < entries {
        // At least one, so that this ends whatever is seen.
        amount += walk(ground, &tree)?.max(1);
    }
    Ok(Work { amount, elapsed: clock.elapsed() })
}

/// Once, a tree that only [`stat_cold`] looks at, too: each begins with nothing cached.
pub(super) fn walk_cold(ground: &mut Ground, _once: u64) -> Result<Work, Halt> {
    let tree = ground.standing("cold-tree", make)?;
    let clock = Instant::now();
    let amount = walk(ground, &tree)?;
    Ok(Work { amount, elapsed: clock.elapsed() })
}

/// stat(2) of the files of that tree, by their paths, once each.
pub(super) fn stat_cold(ground: &mut Ground, _once: u64) -> Result<Work, Halt> {
    let tree = ground.standing("cold-tree", make)?;
    let directories = (0..directories(ground.budget.names)).map(|number| directory(&tree, number));
    let paths: Vec<_> =
        directories.flat_map(|directory| (0..FILES).map(move |number| file(&directory, number))).collect();
    let mut amount = 0;
    let clock = Instant::now();
    for path in &paths {
        ground.go_on()?;
        fs::metadata(path).attempt("stat", path)?;
        amount += 1;
    }
    Ok(Work { amount, elapsed: clock.elapsed() })
}

/// The number of entries seen.
fn walk(ground: &Ground, tree: &Path) -> Result<u64, Halt> {
    let mut seen = 0;
    let mut directories = vec![tree.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).attempt("list", &directory)? {
            ground.go_on()?;
            let entry = entry.attempt("list", &directory)?;
            let metadata = entry.metadata().attempt("stat an entry of", &directory)?;
            seen += 1;
            if metadata.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    Ok(seen)
}

fn make(ground: &Ground, tree: &Path) -> Result<(), Halt> {
    fs::create_dir(tree).attempt("make", tree)?;
    for number in 0..directories(ground.budget.names) {
        let directory = directory(tree, number);
        fs::create_dir(&directory).attempt("make", &directory)?;
        for number in 0..FILES {
            ground.go_on()?;
            make_file(&file(&directory, number), b"x")?;
        }
    }
    Ok(())
}

fn directory(tree: &Path, number: u64) -> PathBuf {
    tree.join(format!("directory-{number}"))
}

fn file(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("file-{number}"))
}

fn directories(names: u64) -> u64 {
    (names / PART / (FILES + 1)).clamp(1, MAX_DIRECTORIES)
}
