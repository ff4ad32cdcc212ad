//! Many inodes: what each costs in memory, and that a mount is there at once whatever the size of the tree.

#![allow(missing_docs, clippy::unwrap_used)]

mod live;

use std::fs;
use std::time::{Duration, Instant};

use live::{Backing, Mount, TRANSPARENT};
use nix::sys::stat::{Mode, SFlag, mknod};

/// In how many directories, and how many files in each.
const DIRECTORIES: u64 = 60;
const FILES: u64 = 1000;
/// Bytes of memory per inode seen; 323 were measured over 300,000 of them, 96 of these in shared memory.
const EACH: u64 = 400;

#[test]
fn an_inode_costs_a_few_hundred_bytes_and_a_large_tree_no_time_to_mount() {
    let mut mount = Mount::unmounted(Backing::Tmpfs);
    for directory in 0..DIRECTORIES {
        let directory = mount.source().join(format!("{directory}"));
        fs::create_dir(&directory).unwrap();
        for file in 0..FILES {
            mknod(&directory.join(format!("{file}")), SFlag::S_IFREG, Mode::from_bits_truncate(0o644), 0)
                .unwrap();
        }
    }
    let begin = Instant::now();
    mount.mount(TRANSPARENT);
    // Ten milliseconds where nobody else is at work.
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    assert_eq!(mount.status()["counters"]["inodes"], 1, "the root is known, and nothing else is looked at");
    let before = memory(mount.daemon());
    let mut seen = 0;
    for directory in fs::read_dir(mount.target()).unwrap() {
        for file in fs::read_dir(directory.unwrap().path()).unwrap() {
            assert_eq!(file.unwrap().metadata().unwrap().len(), 0);
            seen += 1;
        }
    }
    assert_eq!(seen, DIRECTORIES * FILES);
    let each = memory(mount.daemon()).saturating_sub(before) / seen;
    assert!(each < EACH, "{each} bytes for each inode");
}

/// Resident bytes.
fn memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
