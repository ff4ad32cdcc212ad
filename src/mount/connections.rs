//! The FUSE connections of this kernel. To end one there is the filesystem fusectl (Documentation/filesystems/fuse/fuse.rst):
//! systemd mounts it; where nobody has, it is mounted for the moment. Whether one has ended is better asked of its
//! process's own device: the number under which fusectl lists it is dealt out again at once.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process;

use nix::mount::MsFlags;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::table::DeviceNumber;
use crate::sys::{self, Errno};

const USUAL_PLACE: &str = "/sys/fs/fuse/connections";
/// FUSE_CTL_SUPER_MAGIC, linux/magic.h.
const FUSECTL_MAGIC: i64 = 0x6573_5543;

/// Whether the kernel is through with the mount that this process serves: there is nothing left that it could be needed
/// for, in no mount namespace. Also told of a process that is stopped or stuck; none where its files may not be looked at.
pub(super) fn is_over(process: u32) -> Option<bool> {
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).ok()?;
    let device = descriptors
        .filter_map(Result::ok)
        .find(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == Path::new("/dev/fuse")));
    // It has let go of it already.
    let Some(device) = device else { return Some(true) };
    let number = device.file_name().to_str()?.parse().ok()?;
    let device = sys::process::open_file_of(process, number).ok()?;
    // fuse_dev_poll() reports an error when, and only when, the connection has ended.
    let mut polled = [PollFd::new(device.as_fd(), PollFlags::empty())];
    poll(&mut polled, PollTimeout::ZERO).ok()?;
    Some(polled[0].revents()?.contains(PollFlags::POLLERR))
}

/// A view of all connections.
#[derive(Debug)]
pub(super) struct Connections {
    path: PathBuf,
    own_mount: bool,
}

impl Connections {
    /// Opens the view; `runtime` is where it is mounted if need be.
    ///
    /// # Errors
    /// Where it is not mounted and cannot be.
    pub(super) fn open(runtime: &Path) -> Result<Self, Errno> {
        let usual = Path::new(USUAL_PLACE);
        if nix::sys::statfs::statfs(usual).is_ok_and(|found| found.filesystem_type().0 == FUSECTL_MAGIC) {
            return Ok(Self { path: usual.to_owned(), own_mount: false });
        }
        let path = runtime.join(format!(".fusectl-{}", process::id()));
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        // From here on it is taken down.
        let view = Self { path, own_mount: true };
        sys::mount::mount(OsStr::new("fusectl"), &view.path, c"fusectl", flags, OsStr::new(""))?;
        Ok(view)
    }

    /// Ends the connection: whoever waits for it gets ECONNABORTED.
    ///
    /// # Errors
    /// ENOENT where it is gone.
    pub(super) fn abort(&self, device: DeviceNumber) -> Result<(), Errno> {
        // Connections are named by the minor number; the major is 0.
        Ok(fs::write(self.path.join(device.minor.to_string()).join("abort"), "1")?)
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        if self.own_mount {
            let _ = sys::mount::unmount(&self.path, true);
            let _ = fs::remove_dir(&self.path);
        }
    }
}
