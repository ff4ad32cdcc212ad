//! What the kernel tells of a FUSE mount's connection, and ending it (Documentation/filesystems/fuse.rst).

use std::fs;
use std::io;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// How many requests have no answer, those included for which nobody waits.
pub fn waiting(target: &Path) -> usize {
    let waiting = connection(target, |connection| fs::read_to_string(connection.join("waiting")));
    waiting.unwrap().trim().parse().unwrap()
}

/// Ends it: whoever waits is told ECONNABORTED.
pub fn abort(target: &Path) -> io::Result<()> {
    connection(target, |connection| fs::write(connection.join("abort"), "1"))
}

/// Does something with the directory that the kernel has for the connection. Asks nobody who may hang.
fn connection<T>(target: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let line = mounts.lines().find(|line| line.split(' ').nth(4) == target.to_str());
    let minor = line.and_then(|line| line.split(' ').nth(2)?.split(':').nth(1)).unwrap_or_default();
    let all = tempfile::tempdir()?;
    mount(Some("none"), all.path(), Some("fusectl"), MsFlags::empty(), None::<&str>)?;
    let done = act(&all.path().join(minor));
    umount2(all.path(), MntFlags::MNT_DETACH)?;
    done
}
