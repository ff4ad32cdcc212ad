//! What a service manager gives a process that it starts (sd_listen_fds(3)): descriptors from 3 on, and their names.

use std::collections::HashMap;
use std::env;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::process;

use super::{ANCHOR, DEVICE, MEMORY, SOURCE};
use crate::sys::{Errno, descriptors, passing};

/// The first one (SD_LISTEN_FDS_START).
const FIRST: RawFd = 3;

/// Descriptors of a mount, as a process before this one had them kept. They are open as long as this is.
#[derive(Debug)]
pub(super) struct Inherited {
    by_name: HashMap<String, OwnedFd>,
}

impl Inherited {
    /// None where this process was given nothing of a mount. At most once.
    pub(super) fn of_this_process() -> Option<Self> {
        let read = |name: &str| env::var(name).ok();
        let names =
            names(&read("LISTEN_PID")?, &read("LISTEN_FDS")?, &read("LISTEN_FDNAMES")?, process::id());
        let by_name: HashMap<_, _> =
            names.into_iter().filter_map(|(fd, name)| Some((name, adopt(fd).ok()?))).collect();
        (!by_name.is_empty()).then_some(Self { by_name })
    }

    pub(super) fn device(&self) -> Option<RawFd> {
        self.number(DEVICE)
    }

    pub(super) fn source(&self) -> Option<RawFd> {
        self.number(SOURCE)
    }

    /// By the numbers of their mounts.
    pub(super) fn anchors(&self) -> HashMap<u64, RawFd> {
        let index = |name: &str| name.strip_prefix(ANCHOR)?.parse().ok();
        self.by_name.iter().filter_map(|(name, fd)| Some((index(name)?, fd.as_raw_fd()))).collect()
    }

    /// The shared memory. From now on it is the caller's.
    pub(super) fn take_memory(&mut self) -> Option<OwnedFd> {
        self.by_name.remove(MEMORY)
    }

    /// From now on the records own what is left.
    pub(super) fn leave_to_records(self) {
        for fd in self.by_name.into_values() {
            let _ = fd.into_raw_fd();
        }
    }

    /// Their names, also that of the memory.
    pub(super) fn names(&self) -> Vec<String> {
        self.by_name.keys().cloned().chain([MEMORY.to_owned()]).collect()
    }

    fn number(&self, name: &str) -> Option<RawFd> {
        self.by_name.get(name).map(AsRawFd::as_raw_fd)
    }
}

/// Under another number, since they come without FD_CLOEXEC.
fn adopt(fd: RawFd) -> Result<OwnedFd, Errno> {
    let given = descriptors::adopt(fd)?;
    passing::above(given.as_fd(), FIRST)
}

/// The descriptors that are a mount's, if any of them are this process's.
fn names(process: &str, count: &str, names: &str, this: u32) -> Vec<(RawFd, String)> {
    if process.parse() != Ok(this) {
        return Vec::new();
    }
    let Ok(count) = count.parse() else { return Vec::new() };
    let named = (FIRST..).zip(names.split(':')).take(count);
    let ours = |name: &str| [DEVICE, MEMORY, SOURCE].contains(&name) || name.starts_with(ANCHOR);
    named.filter(|(_, name)| ours(name)).map(|(fd, name)| (fd, name.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_a_mounts_and_this_process_was_given_is_taken() {
        let given = "connection:permfs-state:stored:permfs-device:permfs-mount-0:permfs-source";
        let taken = |process: &str, count: &str| {
            let taken = names(process, count, given, 7);
            taken.into_iter().map(|(fd, name)| format!("{fd} {name}")).collect::<Vec<_>>()
        };
        assert_eq!(taken("7", "5"), ["4 permfs-state", "6 permfs-device", "7 permfs-mount-0"]);
        assert!(taken("8", "5").is_empty() && taken("7", "x").is_empty() && taken("", "5").is_empty());
    }
}
