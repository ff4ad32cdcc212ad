//! The kernel's mount table (/proc/self/mountinfo, see proc(5)): what is mounted where, told without touching it.
//!
//! `status`, `unmount` and the refusals of `mount` look here and never stat a mount point, which could hang.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use super::MountFailure;

/// The filesystem type that permfs mounts under.
pub const PERMFS_TYPE: &str = "fuse.permfs";

/// The longest chain of symlinks followed to a target (as the kernel's, path_resolution(7)).
const MAX_SYMLINKS: usize = 40;

/// The device number of a mounted filesystem. FUSE filesystems have major 0, and /sys/fs/fuse/connections/ is named by
/// the minor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct DeviceNumber {
    /// 0 for whatever is not on a block device.
    pub major: u32,
    /// Unique among the mounted filesystems of a major.
    pub minor: u32,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// The filesystem's device number.
    pub device: DeviceNumber,
    /// The directory of the filesystem that is shown: `/`, or another one for a bind mount.
    pub root: PathBuf,
    /// Where it is mounted.
    pub target: PathBuf,
    /// Type, with the subtype after a dot.
    pub kind: String,
    /// What was mounted, as mount(2) was told.
    pub source: String,
}

impl MountEntry {
    /// Whether it is one of ours.
    #[must_use]
    pub fn is_permfs(&self) -> bool {
        self.kind == PERMFS_TYPE
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|&b| b == b' ');
        let device = fields.nth(2)?;
        let root = unescape(fields.next()?);
        let target = unescape(fields.next()?);
        // Optional fields follow, up to a lone dash.
        fields.find(|&field| field == b"-")?;
        let kind = unescape(fields.next()?);
        let source = unescape(fields.next().unwrap_or_default());
        let (major, minor) = std::str::from_utf8(device).ok()?.split_once(':')?;
        Some(Self {
            device: DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? },
            root: root.into(),
            target: target.into(),
            kind: kind.to_string_lossy().into_owned(),
            source: source.to_string_lossy().into_owned(),
        })
    }
}

/// All mounts of this mount namespace, in the order of mounting.
#[derive(Debug, Clone, Default)]
pub struct MountTable {
    entries: Vec<MountEntry>,
}

impl MountTable {
    /// Reads it.
    ///
    /// # Errors
    /// Where /proc is not mounted.
    pub fn read() -> Result<Self, MountFailure> {
        let text = fs::read("/proc/self/mountinfo").map_err(|e| MountFailure::MountTable(e.into()))?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &[u8]) -> Self {
        Self { entries: text.split(|&b| b == b'\n').filter_map(MountEntry::parse).collect() }
    }

    /// What is mounted exactly there, the topmost where several are.
    #[must_use]
    pub fn on_top_of(&self, target: &Path) -> Option<&MountEntry> {
        self.entries.iter().rev().find(|entry| entry.target == target)
    }

    /// The mount in which `path` lies, taken as it is written.
    #[must_use]
    pub fn covering(&self, path: &Path) -> Option<&MountEntry> {
        let over = self.entries.iter().filter(|entry| path.starts_with(&entry.target));
        over.max_by_key(|entry| entry.target.components().count())
    }

    /// Every place where this filesystem is mounted.
    pub fn of_device(&self, device: DeviceNumber) -> impl Iterator<Item = &MountEntry> {
        self.entries.iter().filter(move |entry| entry.device == device)
    }

    /// What is mounted below a directory.
    pub fn inside<'a>(&'a self, target: &'a Path) -> impl Iterator<Item = &'a MountEntry> {
        self.entries.iter().filter(move |entry| entry.target != target && entry.target.starts_with(target))
    }

    /// The mounts of permfs, one for each filesystem: bind mounts of it are left out.
    #[must_use]
    pub fn permfs(&self) -> Vec<&MountEntry> {
        let mut found: Vec<&MountEntry> = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.is_permfs()) {
            if !found.iter().any(|known| known.device == entry.device) {
                found.push(entry);
            }
        }
        found
    }

    /// The mount at `path`, however it is written (relative, through symlinks), without asking the mount itself.
    #[must_use]
    pub fn find(&self, path: &Path) -> Option<&MountEntry> {
        let mut path = lexical(path);
        for _ in 0..MAX_SYMLINKS {
            if let Some(entry) = self.on_top_of(&path) {
                return Some(entry);
            }
            let (parent, name) = (path.parent()?, path.file_name()?);
            let real = fs::canonicalize(parent).ok()?.join(name);
            if let Some(entry) = self.on_top_of(&real) {
                return Some(entry);
            }
            // No mount point, so it may be looked at.
            let link = fs::read_link(&real).ok()?;
            path = lexical(&real.parent()?.join(link));
        }
        None
    }

    /// The mount of permfs at `path`, found as by [`Self::find`].
    ///
    /// # Errors
    /// Where nothing or something else is mounted there.
    pub(super) fn find_permfs(&self, path: &Path) -> Result<&MountEntry, MountFailure> {
        let entry = self.find(path).ok_or_else(|| MountFailure::NotMounted(path.to_owned()))?;
        if entry.is_permfs() {
            return Ok(entry);
        }
        let (kind, from) = (entry.kind.clone(), entry.source.clone());
        Err(MountFailure::NotPermfs { path: entry.target.clone(), kind, from })
    }
}

/// An absolute path without `.` and `..`, as far as that can be said without looking.
#[must_use]
pub fn lexical(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut clean = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}

/// Undoes the octal escapes of blanks and backslashes.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
        36 22 0:47 / /data\\040one rw,nosuid,nodev - fuse.permfs nfs:/export rw,user_id=0\n\
        37 22 0:48 / /data/two rw master:3 shared:9 - nfs4 s:/x rw\n\
        38 22 0:47 /sub /elsewhere rw - fuse.permfs nfs:/export rw\n\
        39 37 0:50 / /data/two rw - tmpfs  rw\n\
        half a line";

    #[test]
    fn mounts_are_read_with_blanks_in_their_names_and_optional_fields() {
        let table = MountTable::parse(TABLE);
        let ours = table.on_top_of(Path::new("/data one")).unwrap();
        assert_eq!(ours.device, DeviceNumber { major: 0, minor: 47 });
        assert_eq!((ours.kind.as_str(), ours.source.as_str()), ("fuse.permfs", "nfs:/export"));
        assert_eq!(table.entries.len(), 5);
    }

    #[test]
    fn the_topmost_mount_counts() {
        let table = MountTable::parse(TABLE);
        assert_eq!(table.on_top_of(Path::new("/data/two")).unwrap().kind, "tmpfs");
    }

    #[test]
    fn a_path_lies_in_the_mount_that_is_nearest_above_it() {
        let table = MountTable::parse(TABLE);
        assert_eq!(table.covering(Path::new("/data/two/x")).unwrap().kind, "tmpfs");
        assert_eq!(table.covering(Path::new("/data/twofold")).unwrap().kind, "ext4");
    }

    #[test]
    fn a_bind_mount_is_not_a_mount_of_its_own() {
        let table = MountTable::parse(TABLE);
        assert_eq!(table.permfs().len(), 1);
        assert_eq!(table.of_device(DeviceNumber { major: 0, minor: 47 }).count(), 2);
    }

    #[test]
    fn what_lies_inside_a_directory_is_found_by_whole_names() {
        let table = MountTable::parse(TABLE);
        assert_eq!(table.inside(Path::new("/data")).count(), 2);
        assert_eq!(table.inside(Path::new("/data/two")).count(), 0);
    }

    #[test]
    fn a_target_may_be_written_with_dots() {
        assert_eq!(lexical(Path::new("/a/./b/../c/")), Path::new("/a/c"));
    }
}
