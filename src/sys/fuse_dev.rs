//! What `/dev/fuse` and a FUSE mount need beside read(2), write(2) and mount(2).

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Errno;

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
