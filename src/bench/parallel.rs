//! Several threads at once, each in a directory of its own, through the whole life of small files.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Instant;

use super::Halt;
use super::ground::Ground;
use super::halt::Attempt as _;
use super::meta::{NEW_LEN, make_file};
use super::row::Work;

/// As many as a busy pod has; `row::ROWS` tells the number.
const THREADS: u64 = 8;
/// Operations in the life of a file.
const OPERATIONS: u64 = 5;

/// `count` operations, shared out.
pub(super) fn mixed(ground: &mut Ground, count: u64) -> Result<Work, Halt> {
    let dir = ground.fresh("parallel");
    fs::create_dir(&dir).attempt("make", &dir)?;
    let files = count.div_ceil(THREADS * OPERATIONS);
    let shared = &*ground;
    let clock = Instant::now();
    thread::scope(|scope| {
        // New threads inherit the ids of the one that starts them (clone(2)).
        let workers: Vec<_> = (0..THREADS)
            .map(|number| dir.join(format!("thread-{number}")))
            .map(|dir| scope.spawn(move || lives(shared, &dir, files)))
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or(Err(Halt::Died)))
    })?;
    let elapsed = clock.elapsed();
    ground.remove(&dir)?;
    Ok(Work { amount: files * THREADS * OPERATIONS, elapsed })
}

/// So many files, one after the other.
fn lives(ground: &Ground, dir: &Path, files: u64) -> Result<(), Halt> {
    fs::create_dir(dir).attempt("make", dir)?;
    let bytes = Ground::bytes(NEW_LEN);
    let mut read = vec![0; NEW_LEN];
    let (name, renamed) = (dir.join("new"), dir.join("renamed"));
    for _ in 0..files {
        ground.go_on()?;
        make_file(&name, &bytes)?;
        fs::metadata(&name).attempt("stat", &name)?;
        let file = File::open(&name).attempt("open", &name)?;
        file.read_exact_at(&mut read, 0).attempt("read", &name)?;
        drop(file);
        fs::rename(&name, &renamed).attempt("rename", &name)?;
        fs::remove_file(&renamed).attempt("remove", &renamed)?;
    }
    Ok(())
}
