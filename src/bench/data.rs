//! Bytes: sequential, mapped, random, appended.
//!
//! Writes end with close(2), not fsync(2): that is what programs do, and over NFS close sends the data.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::Halt;
use super::ground::Ground;
use super::halt::Attempt as _;
use super::random::Random;
use super::row::Work;
use crate::sys::mapping::ReadMapping;

/// Bytes of one sequential read or write, about what cp(1) takes.
pub(super) const BLOCK: u64 = 128 << 10;
const BLOCK_LEN: usize = 128 << 10;
/// Bytes of one random read or write.
const PAGE: u64 = 4 << 10;
const PAGE_LEN: usize = 4 << 10;
/// Bytes of a log line.
pub(super) const LINE: u64 = 100;
const LINE_LEN: usize = 100;
/// The file that is read.
pub(super) const DATA: &str = "data";

/// A new file of so many blocks.
pub(super) fn seq_write(ground: &mut Ground, blocks: u64) -> Result<Work, Halt> {
    let path = ground.fresh("written");
    let block = Ground::bytes(BLOCK_LEN);
    let clock = Instant::now();
    write_blocks(ground, &path, &block, blocks)?;
    let elapsed = clock.elapsed();
    fs::remove_file(&path).attempt("remove", &path)?;
    Ok(Work { amount: blocks * BLOCK, elapsed })
}

/// Cover to cover, so many blocks of it, from the beginning again at the end.
pub(super) fn seq_read_hot(ground: &mut Ground, blocks: u64) -> Result<Work, Halt> {
    let path = cached_data(ground)?;
    let mut block = vec![0; BLOCK_LEN];
    let (mut left, mut amount) = (blocks * BLOCK, 0);
    let clock = Instant::now();
    while left > 0 {
        let read = read_blocks(ground, &path, &mut block, left)?;
        amount += read;
        left = left.saturating_sub(read.max(BLOCK));
    }
    Ok(Work { amount, elapsed: clock.elapsed() })
}

/// Once, as far as asked.
pub(super) fn seq_read_cold(ground: &mut Ground, blocks: u64) -> Result<Work, Halt> {
    let path = data(ground)?;
    let mut block = vec![0; BLOCK_LEN];
    let clock = Instant::now();
    let amount = read_blocks(ground, &path, &mut block, blocks * BLOCK)?;
    Ok(Work { amount, elapsed: clock.elapsed() })
}

/// Mapped anew and touched, line of cache by line of cache.
pub(super) fn mmap_read(ground: &mut Ground, blocks: u64) -> Result<Work, Halt> {
    let path = cached_data(ground)?;
    let length =
        usize::try_from(blocks * BLOCK).map_err(|_large| Halt::NotHere("too large to map".to_owned()))?;
    let clock = Instant::now();
    let file = File::open(&path).attempt("open", &path)?;
    let mapping = ReadMapping::of(&file, length).attempt("map", &path)?;
    std::hint::black_box(mapping.touch());
    drop(mapping);
    drop(file);
    Ok(Work { amount: blocks * BLOCK, elapsed: clock.elapsed() })
}

/// At places that no read-ahead guesses.
pub(super) fn rand_read(ground: &mut Ground, count: u64) -> Result<Work, Halt> {
    let path = cached_data(ground)?;
    let (mut page, mut random, pages) = (vec![0; PAGE_LEN], Random::new(2), ground.budget.file / PAGE);
    let file = File::open(&path).attempt("open", &path)?;
    let clock = Instant::now();
    for _ in 0..count {
        ground.go_on()?;
        file.read_exact_at(&mut page, random.below(pages) * PAGE).attempt("read", &path)?;
    }
    Ok(Work { amount: count, elapsed: clock.elapsed() })
}

/// In place, as a database does.
pub(super) fn rand_write(ground: &mut Ground, count: u64) -> Result<Work, Halt> {
    let path = data(ground)?;
    let (page, mut random, pages) = (Ground::bytes(PAGE_LEN), Random::new(3), ground.budget.file / PAGE);
    let file = File::options().write(true).open(&path).attempt("open", &path)?;
    let clock = Instant::now();
    for _ in 0..count {
        ground.go_on()?;
        file.write_all_at(&page, random.below(pages) * PAGE).attempt("write", &path)?;
    }
    let elapsed = clock.elapsed();
    // Else the other side's next row would compete with the writing back of this one.
    file.sync_data().attempt("sync", &path)?;
    Ok(Work { amount: count, elapsed })
}

/// As a logger does: one write(2) a line.
pub(super) fn append(ground: &mut Ground, count: u64) -> Result<Work, Halt> {
    let path = ground.fresh("log");
    let line = [b'x'; LINE_LEN];
    let mut file = File::options().append(true).create_new(true).open(&path).attempt("make", &path)?;
    let clock = Instant::now();
    for _ in 0..count {
        ground.go_on()?;
        file.write_all(&line).attempt("append to", &path)?;
    }
    let elapsed = clock.elapsed();
    nix::unistd::close(file).attempt("close", &path)?;
    fs::remove_file(&path).attempt("remove", &path)?;
    Ok(Work { amount: count, elapsed })
}

/// Drops a file's data from the page cache, as far as the filesystem lets it go.
pub(super) fn drop_cached(path: &Path) -> Result<(), Halt> {
    let file = File::open(path).attempt("open", path)?;
    // Dirty pages stay; posix_fadvise(2).
    file.sync_data().attempt("sync", path)?;
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).attempt("drop the cache of", path)
}

/// The file that is read, made when it is first needed.
pub(super) fn data(ground: &mut Ground) -> Result<PathBuf, Halt> {
    ground.standing(DATA, |ground, path| {
        write_blocks(ground, path, &Ground::bytes(BLOCK_LEN), ground.budget.file / BLOCK)
    })
}

/// The same, read once: what went before may have dropped it.
fn cached_data(ground: &mut Ground) -> Result<PathBuf, Halt> {
    let path = data(ground)?;
    read_blocks(ground, &path, &mut vec![0; BLOCK_LEN], ground.budget.file)?;
    Ok(path)
}

fn write_blocks(ground: &Ground, path: &Path, block: &[u8], blocks: u64) -> Result<(), Halt> {
    let mut file = File::create_new(path).attempt("make", path)?;
    for _ in 0..blocks {
        ground.go_on()?;
        file.write_all(block).attempt("write", path)?;
    }
    // File's drop would swallow the error, and over NFS a full disk may show only here.
    nix::unistd::close(file).attempt("close", path)
}

/// Bytes read: at most `limit`, fewer where the file ends.
fn read_blocks(ground: &Ground, path: &Path, block: &mut [u8], limit: u64) -> Result<u64, Halt> {
    let mut file = File::open(path).attempt("open", path)?;
    let mut amount = 0;
    while amount < limit {
        ground.go_on()?;
        match u64::try_from(file.read(block).attempt("read", path)?) {
            Ok(0) | Err(_) => break,
            Ok(read) => amount += read,
        }
    }
    Ok(amount)
}
