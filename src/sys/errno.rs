//! The kernel's error numbers, as the data path carries them: no allocation, no context.

use std::fmt;
use std::io;
use std::num::NonZeroI32;

/// An error number of the kernel: never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(NonZeroI32);

macro_rules! known {
    ($($name:ident),* $(,)?) => {
        impl Errno {
            $(
                #[doc = concat!("See errno(3): ", stringify!($name), ".")]
                pub const $name: Self = Self::known(libc::$name);
            )*

            fn name(self) -> Option<&'static str> {
                $(if self == Self::$name { return Some(stringify!($name)); })*
                None
            }
        }
    };
}

known!(
    E2BIG,
    EACCES,
    EAGAIN,
    EBADF,
    EBUSY,
    EDEADLK,
    EDQUOT,
    EEXIST,
    EFBIG,
    EINTR,
    EINVAL,
    EIO,
    EISDIR,
    ELOOP,
    EMFILE,
    EMLINK,
    EMSGSIZE,
    ENAMETOOLONG,
    ENFILE,
    ENODATA,
    ENODEV,
    ENOENT,
    ENOLCK,
    ENOMEM,
    ENOSPC,
    ENOSYS,
    ENOTDIR,
    ENOTEMPTY,
    ENOTTY,
    ENXIO,
    EOPNOTSUPP,
    EOVERFLOW,
    EPERM,
    EPROTO,
    ERANGE,
    EROFS,
    ESTALE,
    ESRCH,
    ETIMEDOUT,
    ETXTBSY,
    EXDEV,
    ENOTCONN,
    ECONNABORTED,
    ECONNRESET
);

impl Errno {
    const fn known(raw: i32) -> Self {
        match NonZeroI32::new(raw) {
            Some(raw) => Self(raw),
            None => panic!("errno 0"),
        }
    }

    /// The error `raw` stands for; EIO where it is no error number at all.
    #[must_use]
    pub fn from_raw(raw: i32) -> Self {
        NonZeroI32::new(raw).map_or(Self::EIO, Self)
    }

    /// The calling thread's last error.
    #[must_use]
    pub fn last() -> Self {
        Self::from(io::Error::last_os_error())
    }

    /// The positive number.
    #[must_use]
    pub const fn raw(self) -> i32 {
        self.0.get()
    }
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Self {
        error.raw_os_error().map_or(Self::EIO, Self::from_raw)
    }
}

impl From<nix::errno::Errno> for Errno {
    fn from(error: nix::errno::Errno) -> Self {
        Self::from_raw(error as i32)
    }
}

impl From<Errno> for io::Error {
    fn from(error: Errno) -> Self {
        Self::from_raw_os_error(error.raw())
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&io::Error::from_raw_os_error(self.raw()), f)
    }
}

impl std::error::Error for Errno {}
