//! The FUSE connections of this kernel, in whatever mount namespace they are used: the filesystem fusectl
//! (Documentation/filesystems/fuse/fuse.rst). systemd mounts it; where nobody has, it is mounted for the moment.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

use nix::mount::MsFlags;

use super::table::DeviceNumber;
use crate::sys::{self, Errno};

const USUAL_PLACE: &str = "/sys/fs/fuse/connections";
/// FUSE_CTL_SUPER_MAGIC, linux/magic.h.
const FUSECTL_MAGIC: i64 = 0x6573_5543;

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
        if nix::sys::statfs::statfs(usual)
            .is_ok_and(|found| i64::from(found.filesystem_type().0) == FUSECTL_MAGIC)
        {
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

    /// Whether the connection of this filesystem still exists.
    pub(super) fn lives(&self, device: DeviceNumber) -> bool {
        self.of(device).exists()
    }

    /// Ends the connection: whoever waits for it gets ECONNABORTED.
    ///
    /// # Errors
    /// ENOENT where it is gone.
    pub(super) fn abort(&self, device: DeviceNumber) -> Result<(), Errno> {
        Ok(fs::write(self.of(device).join("abort"), "1")?)
    }

    /// Connections are named by the minor number; the major is 0.
    fn of(&self, device: DeviceNumber) -> PathBuf {
        self.path.join(device.minor.to_string())
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
