//! Filesystem handles: a name for an object that survives renames and is plain data.

use std::ffi::CStr;
use std::fmt;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::fcntl::OFlag;

use super::{Errno, capabilities, check};

/// The longest handle in bytes (MAX_HANDLE_SZ, fcntl.h).
pub const HANDLE_MAX: usize = 128;

/// How many bytes of a handle are kept without an allocation. NFS handles of a kernel server exporting ext4 or xfs have
/// 32 to 48, local filesystems 8 to 40; with 48 the whole handle takes 56 bytes, in millions of inodes.
const INLINE: usize = 48;

/// A filesystem handle of the kernel (name_to_handle_at(2)): names an object for as long as it exists, whatever it is
/// called. At most [`HANDLE_MAX`] bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct FileHandle(Repr);

/// Inline exactly when the bytes fit, and padded with zeros, so that equal handles are equal in all fields.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Repr {
    Inline { length: u8, kind: i32, bytes: [u8; INLINE] },
    // Doubly boxed so that the rare long handle does not make every handle longer.
    Long(Box<(i32, Box<[u8]>)>),
}

impl FileHandle {
    /// A handle of the filesystem's own tag `kind` and its opaque bytes.
    ///
    /// # Errors
    /// EINVAL for more than [`HANDLE_MAX`] bytes.
    pub fn new(kind: i32, bytes: &[u8]) -> Result<Self, Errno> {
        if bytes.len() > HANDLE_MAX {
            return Err(Errno::EINVAL);
        }
        let mut inline = [0; INLINE];
        Ok(Self(match inline.get_mut(..bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                let length = u8::try_from(bytes.len()).map_err(|_too_long| Errno::EINVAL)?;
                Repr::Inline { length, kind, bytes: inline }
            }
            None => Repr::Long(Box::new((kind, bytes.into()))),
        }))
    }

    /// The filesystem's own tag.
    #[must_use]
    pub fn kind(&self) -> i32 {
        match &self.0 {
            Repr::Inline { kind, .. } => *kind,
            Repr::Long(long) => long.0,
        }
    }

    /// Whether the number `ino` is among what it holds. The kernel's own filesystems, NFS included, all put the inode's
    /// number there (fs/exportfs, `fh_to_dentry`), as one word of 32 bits or two.
    #[must_use]
    pub fn names_ino(&self, ino: u64) -> bool {
        // The mask leaves 32 bits, so nothing is lost.
        let low = ((ino & 0xffff_ffff) as u32).to_ne_bytes();
        self.bytes().chunks_exact(4).any(|word| word == low)
    }

    /// Its opaque bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { length, bytes, .. } => &bytes[..usize::from(*length)],
            Repr::Long(long) => &long.1,
        }
    }
}

impl fmt::Debug for FileHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileHandle({}:", self.kind())?;
        self.bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// `struct file_handle` of fcntl.h with room for the longest handle.
#[repr(C)]
struct Raw {
    bytes: libc::c_uint,
    kind: libc::c_int,
    handle: [u8; HANDLE_MAX],
}

const _: () = assert!(offset_of!(Raw, handle) == size_of::<libc::file_handle>());

/// The handle of the object that `fd`, which may be an O_PATH descriptor, refers to.
///
/// # Errors
/// EOPNOTSUPP where the filesystem has no handles, EOVERFLOW where this one is longer than [`HANDLE_MAX`], ESTALE.
pub fn name_to_handle(fd: BorrowedFd<'_>) -> Result<FileHandle, Errno> {
    handle(fd, c"", libc::AT_EMPTY_PATH)
}

/// The handle of `name` in the directory `dir`, of a symlink itself.
///
/// # Errors
/// As [`name_to_handle`], and those of finding a name.
pub fn name_to_handle_at(dir: BorrowedFd<'_>, name: &CStr) -> Result<FileHandle, Errno> {
    handle(dir, name, 0)
}

fn handle(dir: BorrowedFd<'_>, path: &CStr, flags: libc::c_int) -> Result<FileHandle, Errno> {
    // 128 fits any integer.
    #[expect(clippy::cast_possible_truncation)]
    let mut raw = Raw { bytes: HANDLE_MAX as libc::c_uint, kind: 0, handle: [0; HANDLE_MAX] };
    let mut mount_id: libc::c_int = 0;
    // SAFETY: Raw begins as file_handle does (asserted above) and has the room that `bytes` announces; the path ends in
    // NUL; all outlive the call.
    let result = unsafe {
        libc::name_to_handle_at(
            dir.as_raw_fd(),
            path.as_ptr(),
            (&raw mut raw).cast(),
            &raw mut mount_id,
            flags,
        )
    };
    check(result.into())?;
    let length = usize::try_from(raw.bytes).map_err(|_too_long| Errno::EOVERFLOW)?;
    FileHandle::new(raw.kind, raw.handle.get(..length).ok_or(Errno::EOVERFLOW)?)
}

/// An O_PATH descriptor of the object that `handle` names on the filesystem of `anchor`, which must be open for real
/// (not O_PATH). A symlink is not followed.
///
/// Leaves CAP_DAC_READ_SEARCH raised, which also overrides read permission on local filesystems: whatever is done next as
/// somebody assumes their identity first, and that lowers it.
///
/// # Errors
/// ESTALE where the object is gone (or, on NFS, a directory above it may not be searched by this thread's identity),
/// EPERM where the process lacks the capability.
pub fn open_by_handle(anchor: BorrowedFd<'_>, handle: &FileHandle) -> Result<OwnedFd, Errno> {
    let bytes = handle.bytes();
    let mut raw = Raw {
        bytes: libc::c_uint::try_from(bytes.len()).map_err(|_too_long| Errno::EINVAL)?,
        kind: handle.kind(),
        handle: [0; HANDLE_MAX],
    };
    raw.handle[..bytes.len()].copy_from_slice(bytes);
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    capabilities::raise_for_now(capabilities::Capabilities::DAC_READ_SEARCH)?;
    // SAFETY: Raw begins as file_handle does (asserted above) and holds the `bytes` it announces; it outlives the
    // call. A descriptor that the call returns is new and nobody else's.
    unsafe {
        let fd = libc::open_by_handle_at(anchor.as_raw_fd(), (&raw mut raw).cast(), flags.bits());
        check(fd.into())?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_handle_gives_back_what_it_was_made_of(kind: i32, bytes in prop::collection::vec(any::<u8>(), 0..=128)) {
            let handle = FileHandle::new(kind, &bytes).unwrap();
            prop_assert_eq!(handle.kind(), kind);
            prop_assert_eq!(handle.bytes(), &bytes[..]);
            prop_assert_eq!(FileHandle::new(kind, &bytes).unwrap(), handle);
        }
    }

    #[test]
    fn handles_differ_by_trailing_zeros_and_by_kind() {
        let handle = |kind, bytes: &[u8]| FileHandle::new(kind, bytes).unwrap();
        assert_ne!(handle(1, &[7]), handle(1, &[7, 0]));
        assert_ne!(handle(1, &[7]), handle(2, &[7]));
        assert_ne!(handle(1, &[0; INLINE]), handle(1, &[0; INLINE + 1]));
    }

    #[test]
    fn a_handle_of_more_than_128_bytes_is_refused() {
        assert_eq!(FileHandle::new(1, &[0; HANDLE_MAX + 1]), Err(Errno::EINVAL));
    }

    #[test]
    fn a_handle_takes_56_bytes_of_an_inode_table() {
        assert_eq!(size_of::<Option<FileHandle>>(), 56);
    }
}
