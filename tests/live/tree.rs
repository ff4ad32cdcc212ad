//! A whole tree as text, to compare two of them: owners, modes, sizes, links, times, xattrs, content.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{self, FileType, Stat};

/// One line per object below `root`, sorted by path. Hard links name the first path of their object.
pub fn listing(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut first_paths = HashMap::new();
    visit(root, Path::new("."), &mut first_paths, &mut lines);
    lines
}

/// Compares two listings; the error has the lines that only one of them has.
pub fn same_trees(what: &str, bare: &[String], other: &[String]) -> Result<(), String> {
    if bare == other {
        return Ok(());
    }
    let missing = bare.iter().filter(|line| !other.contains(line)).map(|line| format!("\n  bare: {line}"));
    let extra = other.iter().filter(|line| !bare.contains(line)).map(|line| format!("\n  {what}: {line}"));
    Err(format!("the trees differ at the end{}", missing.chain(extra).collect::<String>()))
}

fn visit(root: &Path, path: &Path, first_paths: &mut HashMap<(u64, u64), PathBuf>, lines: &mut Vec<String>) {
    let full = root.join(path);
    let stat = fs::lstat(&full).unwrap();
    let first = first_paths.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.to_owned()).clone();
    let kind = FileType::from_raw_mode(stat.st_mode);
    let content = match kind {
        FileType::RegularFile => format!("{:016x}", digest(&std::fs::read(&full).unwrap())),
        FileType::Symlink => std::fs::read_link(&full).unwrap().display().to_string(),
        _ => String::new(),
    };
    lines.push(format!(
        "{} = {}: {} {content} {}",
        path.display(),
        first.display(),
        describe(&stat),
        xattrs(&full)
    ));
    if kind == FileType::Directory {
        let mut names: Vec<_> =
            std::fs::read_dir(&full).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            visit(root, &path.join(name), first_paths, lines);
        }
    }
}

fn xattrs(path: &Path) -> String {
    let mut names = vec![0_u8; 4096];
    let length = fs::llistxattr(path, &mut *names).unwrap();
    let mut described: Vec<_> = names[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0_u8; 8192];
            let length = fs::lgetxattr(path, std::ffi::OsStr::from_bytes(name), &mut *value).unwrap();
            format!("{}={:016x}", String::from_utf8_lossy(name), digest(&value[..length]))
        })
        .collect();
    described.sort();
    described.join(" ")
}

/// What stat(2) says, as far as it must be the same on both sides.
pub fn describe(stat: &Stat) -> String {
    let kind = FileType::from_raw_mode(stat.st_mode);
    // A directory's size is the filesystem's own. FUSE leaves the times of a fifo's traffic out (S_NOCMTIME).
    let size = if kind == FileType::Directory { 0 } else { stat.st_size };
    let (atime, mtime) = if kind == FileType::Fifo {
        (String::new(), String::new())
    } else {
        (time_of(stat.st_atime, stat.st_atime_nsec), time_of(stat.st_mtime, stat.st_mtime_nsec))
    };
    format!(
        "{:06o} {}:{} links {} size {size} rdev {} blksize {} atime {atime} mtime {mtime}",
        stat.st_mode, stat.st_uid, stat.st_gid, stat.st_nlink, stat.st_rdev, stat.st_blksize
    )
}

/// FNV-1a: enough to tell contents apart.
pub fn digest(data: &[u8]) -> u64 {
    data.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// A time that was set is given exactly; one that the kernel took from its clock is "now".
fn time_of(seconds: i64, nanoseconds: u64) -> String {
    const DAY: u64 = 86_400;
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    if seconds.abs_diff(now) < DAY { "now".to_owned() } else { format!("{seconds}.{nanoseconds:09}") }
}
