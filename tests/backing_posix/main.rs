//! The real backing against real filesystems. Needs root (mounts, other users) and mkfs.ext4; fails without. On NFS
//! `tests/real_nfs` has it.

#![allow(clippy::unwrap_used, reason = "what tests share is test, too")]

#[path = "../backing_room/mod.rs"]
mod backing_room;

mod dirs;
mod files;
mod handles;
mod identity;
mod locks;
mod mounts;
mod names;
mod xattrs;

use std::ffi::{CStr, OsStr};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use backing_room::*;
use nix::mount::MsFlags;
use permfs::backing::posix::{File, PosixBacking};
use permfs::policy::{Credentials, NfsGid, NfsUid, Permissions};
use permfs::sys::{credentials, mount};
use tempfile::TempDir;

/// A filesystem of its own, gone at the end of the test.
struct Export {
    path: PathBuf,
    _around: TempDir,
}

impl Export {
    fn mounted(
        fstype: &CStr,
        source: impl FnOnce(&Path) -> PathBuf,
        data: impl FnOnce(&Path) -> String,
    ) -> Self {
        credentials::reset().expect("these tests need root");
        let around = tempfile::tempdir().unwrap();
        let path = around.path().join("export");
        std::fs::create_dir(&path).unwrap();
        let (source, data) = (source(around.path()), data(around.path()));
        mount::mount(source.as_os_str(), &path, fstype, MsFlags::empty(), OsStr::new(&data))
            .expect("these tests need root");
        Self { path, _around: around }
    }

    /// tmpfs, owned by 2001:2001, 0755: handles, no block device.
    fn tmpfs() -> Self {
        Self::mounted(c"tmpfs", |_| "tmpfs".into(), |_| "size=64m,uid=2001,gid=2001,mode=0755".into())
    }

    /// ext4 on a loop device, owned by 2001:2001: reuses inode numbers.
    fn ext4() -> Self {
        credentials::reset().expect("these tests need root");
        let around = tempfile::tempdir().unwrap();
        let (image, path) = (around.path().join("image"), around.path().join("export"));
        std::fs::create_dir(&path).unwrap();
        std::fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-E", "root_owner=2001:2001"]).arg(&image));
        run(Command::new("mount").args(["-o", "loop"]).args([&image, &path]));
        Self { path, _around: around }
    }

    /// overlayfs: no handles.
    fn overlay() -> Self {
        let data = |around: &Path| {
            for dir in ["lower", "upper", "work"] {
                std::fs::create_dir(around.join(dir)).unwrap();
                std::os::unix::fs::chown(around.join(dir), Some(2001), Some(2001)).unwrap();
            }
            let around = around.display();
            format!("lowerdir={around}/lower,upperdir={around}/upper,workdir={around}/work")
        };
        Self::mounted(c"overlay", |_| "overlay".into(), data)
    }

    fn open(&self) -> PosixBacking {
        outside(|| PosixBacking::open(&self.path)).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The mode (with type), uid and gid of a name.
    fn look(&self, name: &str) -> (u32, u32, u32) {
        let meta = outside(|| std::fs::symlink_metadata(self.path(name))).unwrap();
        (meta.mode(), meta.uid(), meta.gid())
    }

    fn chmod(&self, name: &str, mode: u32) {
        outside(|| {
            std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
        });
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        outside(|| mount::unmount(&self.path, true)).expect("the test's filesystem is mounted");
    }
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}
