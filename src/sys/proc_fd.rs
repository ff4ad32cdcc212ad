//! A descriptor's path, for calls that have no form for an O_PATH descriptor.
//!
//! `/proc/self/fd/N` is a magic link: a call that follows it lands on the object itself, also when that is a symlink,
//! has been renamed or has no name, and goes no further. The directories above it are those of /proc, so nobody's
//! permissions but the object's count.

use std::cell::RefCell;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::sys::stat::Mode;

use super::Errno;

thread_local! {
    /// This process's `/proc/self/fd`. For each thread and not for the process, so that [`enter_thread`] in a forked
    /// process replaces it: the parent's would lead to the parent's descriptors.
    static DIRECTORY: RefCell<Option<OwnedFd>> = const { RefCell::new(None) };
}

/// Opens `/proc/self/fd` for the calling thread: [`ProcFdPath::with_at`] is about 1 us faster from then on.
///
/// # Errors
/// ENOENT without /proc, EMFILE.
pub fn enter_thread() -> Result<(), Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = open(c"/proc/self/fd", flags, Mode::empty())?;
    DIRECTORY.set(Some(directory));
    Ok(())
}

/// `/proc/self/fd/N`, without an allocation. Good for as long as the descriptor is open.
#[derive(Debug)]
pub struct ProcFdPath<'fd> {
    path: [u8; PREFIX.len() + DIGITS + 1],
    fd: std::marker::PhantomData<BorrowedFd<'fd>>,
}

const PREFIX: &[u8] = b"/proc/self/fd/";
/// Of the largest descriptor, 2147483647.
const DIGITS: usize = 10;

impl<'fd> ProcFdPath<'fd> {
    /// The path of `fd`.
    #[must_use]
    pub fn new(fd: BorrowedFd<'fd>) -> Self {
        let mut path = [0; PREFIX.len() + DIGITS + 1];
        path[..PREFIX.len()].copy_from_slice(PREFIX);
        let mut digits = [0; DIGITS];
        let mut rest = fd.as_raw_fd().unsigned_abs();
        let mut first = DIGITS;
        loop {
            first -= 1;
            // A remainder of ten fits a byte.
            let digit = (rest % 10) as u8;
            digits[first] = b'0' + digit;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        let digits = &digits[first..];
        path[PREFIX.len()..PREFIX.len() + digits.len()].copy_from_slice(digits);
        Self { path, fd: std::marker::PhantomData }
    }

    /// The whole path.
    #[must_use]
    pub fn as_c_str(&self) -> &CStr {
        from(&self.path)
    }

    /// What `call`, an `*at` call, makes of a directory and the path from there.
    pub fn with_at<T>(&self, call: impl FnOnce(BorrowedFd<'_>, &CStr) -> T) -> T {
        DIRECTORY.with_borrow(|directory| match directory {
            Some(directory) => call(directory.as_fd(), from(&self.path[PREFIX.len()..])),
            None => call(AT_FDCWD, self.as_c_str()),
        })
    }
}

fn from(path: &[u8]) -> &CStr {
    CStr::from_bytes_until_nul(path).expect("the last byte is never written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_lead_to_the_descriptors_file() {
        let file = std::fs::File::open("/etc/passwd").unwrap();
        let path = ProcFdPath::new(file.as_fd());
        let same = |dir: BorrowedFd<'_>, path: &CStr| {
            let reopened = nix::fcntl::openat(dir, path, OFlag::O_RDONLY, Mode::empty()).unwrap();
            let ino = |fd: BorrowedFd<'_>| crate::sys::stat::statx(fd, true).unwrap().ino();
            assert_eq!(ino(reopened.as_fd()), ino(file.as_fd()));
        };
        path.with_at(same);
        enter_thread().unwrap();
        path.with_at(same);
    }

    #[test]
    fn the_path_of_any_descriptor_is_its_number() {
        for raw in [0, 9, 10, 1023, i32::MAX] {
            // SAFETY: the descriptor is never used, only its number is.
            let fd = unsafe { BorrowedFd::borrow_raw(raw) };
            assert_eq!(ProcFdPath::new(fd).as_c_str().to_str().unwrap(), format!("/proc/self/fd/{raw}"));
        }
    }
}
