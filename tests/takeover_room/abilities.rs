//! What the file system under test can do at all: tried once, before anything is expected of it. NFS, for one, knows no
//! RENAME_EXCHANGE, and its version 3 no xattrs.
//!
//! What it can do then it must do at every time: a refusal in the middle of the load is a fault.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, Mode, OFlags, RenameFlags, XattrFlags, copy_file_range, fallocate, linkat,
    open, renameat_with, setxattr,
};

/// What need not be there.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Abilities {
    pub exchange: bool,
    pub no_replace: bool,
    pub nameless_files: bool,
    pub attributes: bool,
    pub allocate: bool,
    pub punch: bool,
    pub copy_range: bool,
    /// What is open stays so without its name, whatever happens to the mount.
    pub removed_files: bool,
}

impl Abilities {
    /// Tries everything in `directory`, which is left as it was.
    pub fn of(directory: &Path) -> io::Result<Self> {
        let (one, other) = (directory.join("ability-1"), directory.join("ability-2"));
        fs::write(&one, "something to copy")?;
        fs::write(&other, "")?;
        let (file, target) = (File::options().read(true).write(true).open(&one)?, File::create(&other)?);
        let exchanged = |flags| renameat_with(CWD, &one, CWD, &other, flags);
        let this = Self {
            exchange: exchanged(RenameFlags::EXCHANGE).is_ok(),
            // NFS knows it only for a name that exists: that is no use.
            no_replace: {
                let free = directory.join("ability-3");
                let moved = renameat_with(CWD, &other, CWD, &free, RenameFlags::NOREPLACE).is_ok();
                if moved {
                    fs::rename(&free, &other)?;
                }
                moved
            },
            nameless_files: nameless(directory).is_ok(),
            attributes: setxattr(&one, "user.ability", b"1", XattrFlags::empty()).is_ok(),
            copy_range: copy_file_range(&file, None, &target, None, 4).is_ok(),
            allocate: fallocate(&file, FallocateFlags::empty(), 0, 100).is_ok(),
            punch: {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(&file, flags, 0, 4).is_ok()
            },
            removed_files: true,
        };
        file.write_all_at(b"still writable", 0)?;
        drop((file, target));
        fs::remove_file(&one)?;
        fs::remove_file(&other)?;
        Ok(this)
    }

    /// The names of what is missing.
    pub fn missing(&self) -> Vec<String> {
        [
            ("rename-exchange", self.exchange),
            ("rename-noreplace", self.no_replace),
            ("tmpfile", self.nameless_files),
            ("xattr", self.attributes),
            ("fallocate", self.allocate),
            ("punch-hole", self.punch),
            ("copy_file_range", self.copy_range),
            ("removed-files", self.removed_files),
        ]
        .into_iter()
        .filter(|(_, there)| !there)
        .map(|(name, _)| name.to_owned())
        .collect()
    }
}

/// O_TMPFILE, and a name for it afterwards.
fn nameless(directory: &Path) -> io::Result<()> {
    let file = open(directory, OFlags::TMPFILE | OFlags::RDWR, Mode::from_raw_mode(0o664))?;
    let name = directory.join("ability-4");
    give_name(&file, &name)?;
    fs::remove_file(name)
}

/// linkat(2) of an open file, in the way that needs no capability.
pub fn give_name(file: &impl std::os::fd::AsRawFd, name: &Path) -> io::Result<()> {
    let itself = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(CWD, itself, CWD, name, AtFlags::SYMLINK_FOLLOW)?)
}
