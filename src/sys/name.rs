//! One component of a path: what an `*at` call may be given without leaving its directory.

use std::ffi::{CStr, OsStr};
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use super::Errno;

/// A single file name: not empty, not `.` or `..`, without `/`, at most 255 bytes.
///
/// Together with `O_NOFOLLOW` this is why no request can leave the export: there is nothing to follow.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name<'a>(&'a CStr);

/// The longest name Linux lets a path carry (NAME_MAX, limits.h).
pub const NAME_MAX: usize = 255;

impl<'a> Name<'a> {
    /// Checks a name.
    ///
    /// # Errors
    /// ENAMETOOLONG over 255 bytes; EINVAL for an empty name, `.`, `..` or one with a slash.
    pub fn new(name: &'a CStr) -> Result<Self, Errno> {
        let bytes = name.to_bytes();
        if bytes.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
            return Err(Errno::EINVAL);
        }
        Ok(Self(name))
    }

    /// For a system call.
    #[must_use]
    pub const fn as_c_str(self) -> &'a CStr {
        self.0
    }

    /// Without the terminating NUL.
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        self.0.to_bytes()
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(OsStr::from_bytes(self.as_bytes()), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_leave_its_directory_is_refused() {
        for bad in [c"", c".", c"..", c"a/b", c"/", c"../x"] {
            assert_eq!(Name::new(bad), Err(Errno::EINVAL), "{bad:?}");
        }
        for good in [c"...", c".a", c"a", c" ", c"\xff\n"] {
            assert_eq!(Name::new(good).map(Name::as_c_str), Ok(good));
        }
    }

    #[test]
    fn a_name_has_at_most_255_bytes() {
        let longest = std::ffi::CString::new(vec![b'a'; 255]).unwrap();
        let longer = std::ffi::CString::new(vec![b'a'; 256]).unwrap();
        assert!(Name::new(&longest).is_ok());
        assert_eq!(Name::new(&longer), Err(Errno::ENAMETOOLONG));
    }
}
