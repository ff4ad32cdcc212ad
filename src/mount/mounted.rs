//! This process's mount in the kernel's table, and taking it down from inside.
//!
//! The kernel gives a device number to the next filesystem as soon as ours is unmounted, and nothing in the mount table
//! says which of the two it means (unique mount ids came with Linux 6.8). So a mount is only taken down while its session
//! lives, or where what is there answers as a mount without a process does.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statfs::statfs;

use super::patience::within;
use super::table::{DeviceNumber, MountTable};
use crate::sys::{self, Errno};

/// How long a mount that may be somebody else's, and hang, may take to say that nobody serves it. One that nobody serves
/// says so at once.
const DEAD_PATIENCE: Duration = Duration::from_secs(1);

/// A mount that this process serves; taken down when dropped.
#[derive(Debug)]
pub(super) struct Mounted {
    pub(super) device: DeviceNumber,
    source: String,
    /// Whether it is gone, or somebody else's business.
    over: bool,
}

impl Mounted {
    /// What was mounted on `target` a moment ago; none where something else is on top of it by now.
    pub(super) fn find(target: &Path) -> Option<Self> {
        let table = MountTable::read().ok()?;
        let entry = table.on_top_of(target).filter(|entry| entry.is_permfs())?;
        Some(Self { device: entry.device, source: entry.source.clone(), over: false })
    }

    /// Takes it down while its session lives; where it is in use it is detached.
    pub(super) fn take_down(mut self) {
        self.unmount_where(|_| true);
        self.over = true;
    }

    /// After the end of its session: it was unmounted, unless its connection was aborted. Then it is still there.
    pub(super) fn session_ended(mut self) {
        self.unmount_where(is_dead);
        self.over = true;
    }

    /// It is another process's to take down.
    pub(super) fn leave(mut self) {
        self.over = true;
    }

    fn unmount_where(&self, condition: impl Fn(&Path) -> bool) {
        let Ok(table) = MountTable::read() else { return };
        for entry in table.of_device(self.device) {
            let ours = entry.is_permfs() && entry.source == self.source;
            if !ours || table.on_top_of(&entry.target) != Some(entry) || !condition(&entry.target) {
                continue;
            }
            if let Err(Errno::EBUSY) = sys::mount::unmount(&entry.target, false) {
                let _ = sys::mount::unmount(&entry.target, true);
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if !self.over {
            self.unmount_where(|_| true);
        }
    }
}

/// Whether nobody serves the mount there any more. By statfs(2), which is never answered from a cache.
fn is_dead(target: &Path) -> bool {
    let target: PathBuf = target.to_owned();
    let answer = within(DEAD_PATIENCE, move || statfs(&target).err().map(Errno::from));
    matches!(answer, Some(Some(Errno::ENOTCONN | Errno::ECONNABORTED)))
}
