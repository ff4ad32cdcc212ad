//! Names and attributes: the storms that a build, a checkout or a scheduler makes.
//!
//! Paths are made before the clock starts, and what a row needs or leaves is made and removed outside its time.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::Halt;
use super::ground::Ground;
use super::halt::Attempt as _;
use super::row::Work;

/// Bytes of a file that is made.
pub(super) const NEW_LEN: usize = 1 << 10;
/// Bytes of a file that is opened and read.
const READ_LEN: usize = 4 << 10;
/// Standing small files, which stat, open and rename go through in turn.
const STANDING: u64 = 64;

/// stat(2) of files that exist.
pub(super) fn stat_hot(ground: &mut Ground, count: u64) -> Result<Work, Halt> {
    let paths = small_files(ground)?;
    let stat = |path: &PathBuf| fs::metadata(path).map(drop).attempt("stat", path);
    // What went before may have dropped them.
    paths.iter().try_for_each(stat)?;
    measured(ground, count, paths.iter().cycle(), stat)
}

/// The whole life of a reader.
pub(super) fn open_read(ground: &mut Ground, count: u64) -> Result<Work, Halt> {
    let paths = small_files(ground)?;
    let mut bytes = vec![0; READ_LEN];
    let mut open_read = |path: &PathBuf| {
        let file = File::open(path).attempt("open", path)?;
        file.read_exact_at(&mut bytes, 0).attempt("read", path)
    };
    paths.iter().try_for_each(&mut open_read)?;
    measured(ground, count, paths.iter().cycle(), open_read)
}

/// New files in one new directory.
pub(super) fn create(ground: &mut Ground, count: u64) -> Result<Work, Halt> {
    let (dir, paths) = names(ground, count)?;
    let bytes = Ground::bytes(NEW_LEN);
    let work = measured(ground, count, paths.iter(), |path| make_file(path, &bytes))?;
    ground.remove(&dir)?;
    Ok(work)
}

/// The same files, removed.
pub(super) fn unlink(ground: &mut Ground, count: u64) -> Result<Work, Halt> {
    let (dir, paths) = names(ground, count)?;
    let bytes = Ground::bytes(NEW_LEN);
    measured(ground, count, paths.iter(), |path| make_file(path, &bytes))?;
    let work = measured(ground, count, paths.iter(), |path| fs::remove_file(path).attempt("remove", path))?;
    ground.remove(&dir)?;
    Ok(work)
}

/// Files renamed within their directory, there and back.
pub(super) fn rename(ground: &mut Ground, count: u64) -> Result<Work, Halt> {
    let (dir, paths) = names(ground, STANDING)?;
    let bytes = Ground::bytes(NEW_LEN);
    measured(ground, STANDING, paths.iter(), |path| make_file(path, &bytes))?;
    let away: Vec<_> = paths.iter().map(|path| path.with_extension("renamed")).collect();
    let there = paths.iter().zip(&away);
    let back = away.iter().zip(&paths);
    let work = measured(ground, count, there.chain(back).cycle(), |(from, to)| {
        fs::rename(from, to).attempt("rename", from)
    })?;
    ground.remove(&dir)?;
    Ok(work)
}

/// Empty directories in one new directory.
pub(super) fn mkdir(ground: &mut Ground, count: u64) -> Result<Work, Halt> {
    let (dir, paths) = names(ground, count)?;
    let work = measured(ground, count, paths.iter(), |path| fs::create_dir(path).attempt("make", path))?;
    ground.remove(&dir)?;
    Ok(work)
}

/// The same directories, removed.
pub(super) fn rmdir(ground: &mut Ground, count: u64) -> Result<Work, Halt> {
    let (dir, paths) = names(ground, count)?;
    measured(ground, count, paths.iter(), |path| fs::create_dir(path).attempt("make", path))?;
    let work = measured(ground, count, paths.iter(), |path| fs::remove_dir(path).attempt("remove", path))?;
    ground.remove(&dir)?;
    Ok(work)
}

/// Makes, writes, closes.
pub(super) fn make_file(path: &Path, bytes: &[u8]) -> Result<(), Halt> {
    let mut file = File::create_new(path).attempt("make", path)?;
    file.write_all(bytes).attempt("write", path)?;
    nix::unistd::close(file).attempt("close", path)
}

/// `count` operations, one for each item, timed together.
fn measured<T>(
    ground: &Ground,
    count: u64,
    mut items: impl Iterator<Item = T>,
    mut operation: impl FnMut(T) -> Result<(), Halt>,
) -> Result<Work, Halt> {
    let mut amount = 0;
    let clock = Instant::now();
    while amount < count {
        let Some(item) = items.next() else { break };
        ground.go_on()?;
        operation(item)?;
        amount += 1;
    }
    Ok(Work { amount, elapsed: clock.elapsed() })
}

/// A new directory, and so many paths in it.
fn names(ground: &mut Ground, count: u64) -> Result<(PathBuf, Vec<PathBuf>), Halt> {
    let dir = ground.fresh("names");
    fs::create_dir(&dir).attempt("make", &dir)?;
    let paths = paths_in(&dir, count);
    Ok((dir, paths))
}

fn small_files(ground: &mut Ground) -> Result<Vec<PathBuf>, Halt> {
    let dir = ground.standing("small", |ground, dir| {
        fs::create_dir(dir).attempt("make", dir)?;
        let bytes = Ground::bytes(READ_LEN);
        measured(ground, STANDING, paths_in(dir, STANDING).iter(), |path| make_file(path, &bytes)).map(drop)
    })?;
    Ok(paths_in(&dir, STANDING))
}

fn paths_in(dir: &Path, count: u64) -> Vec<PathBuf> {
    (0..count).map(|number| dir.join(format!("file-{number:05}"))).collect()
}
