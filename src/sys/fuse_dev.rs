//! What `/dev/fuse` and a FUSE mount need beside read(2), write(2) and mount(2).

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::capabilities::{self, Capabilities};
use super::{Errno, check};

/// Major and minor number of the file system mounted on `target`: its name under `/sys/class/bdi`.
///
/// Asks for no attribute and accepts stale ones, so that a FUSE mount need not answer for this.
///
/// # Errors
/// statx(2)'s; EINVAL for a path with a NUL in it.
pub fn device_number(target: &Path) -> Result<(u32, u32), Errno> {
    let path = CString::new(target.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    let flags = libc::AT_STATX_DONT_SYNC | libc::AT_NO_AUTOMOUNT;
    // SAFETY: `path` ends in a NUL and `found` is as large as the kernel writes; both outlive the call.
    let done = unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), flags, 0, found.as_mut_ptr()) };
    if done != 0 {
        return Err(Errno::last());
    }
    // SAFETY: zeroed, which is a valid `statx`, and the kernel has filled it in.
    let found = unsafe { found.assume_init() };
    Ok((found.stx_dev_major, found.stx_dev_minor))
}

/// `struct fuse_backing_map` of linux/fuse.h.
#[repr(C)]
struct BackingMap {
    fd: i32,
    flags: u32,
    padding: u64,
}

/// FUSE_DEV_IOC_MAGIC, and the numbers of FUSE_DEV_IOC_BACKING_OPEN and _CLOSE (7.40, Linux 6.9).
const MAGIC: u8 = 229;
const BACKING_OPEN: libc::Ioctl = nix::request_code_write!(MAGIC, 1, size_of::<BackingMap>());
const BACKING_CLOSE: libc::Ioctl = nix::request_code_write!(MAGIC, 2, size_of::<u32>());

/// Registers `file` with the connection `device`: the kernel can read and write it by itself, with the credentials that the
/// calling thread has now. The thread has CAP_SYS_ADMIN afterwards, until it is somebody else.
///
/// # Errors
/// EPERM where the thread may not have CAP_SYS_ADMIN, or passthrough is not agreed on; EOPNOTSUPP and ELOOP where this
/// file system's files cannot be used so; ENOTTY where the kernel has no passthrough; EBADF.
pub fn backing_open(device: BorrowedFd<'_>, file: BorrowedFd<'_>) -> Result<i32, Errno> {
    capabilities::raise_for_now(Capabilities::SYS_ADMIN)?;
    let map = BackingMap { fd: file.as_raw_fd(), flags: 0, padding: 0 };
    // SAFETY: the kernel reads one BackingMap, which outlives the call.
    let id = check(unsafe { libc::ioctl(device.as_raw_fd(), BACKING_OPEN, &raw const map) }.into())?;
    i32::try_from(id).map_err(|_| Errno::EOVERFLOW)
}

/// Takes back what [`backing_open`] has registered; whoever has it open goes on. CAP_SYS_ADMIN as there.
///
/// # Errors
/// ENOENT for an id that is not registered, EPERM.
pub fn backing_close(device: BorrowedFd<'_>, id: i32) -> Result<(), Errno> {
    capabilities::raise_for_now(Capabilities::SYS_ADMIN)?;
    // SAFETY: the kernel reads one 32-bit number, which outlives the call.
    check(unsafe { libc::ioctl(device.as_raw_fd(), BACKING_CLOSE, &raw const id) }.into())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn the_device_number_is_the_one_stat_reports() {
        let device = std::fs::metadata("/proc").unwrap().dev();
        let (major, minor) = device_number(Path::new("/proc")).unwrap();
        assert_eq!(nix::sys::stat::makedev(major.into(), minor.into()), device);
        assert_eq!(device_number(Path::new("/no/such/path")), Err(Errno::ENOENT));
    }
}
