//! Takes a message apart from its front; every step checks that there is enough left.

use std::ffi::CStr;

use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::MALFORMED;
use crate::fs::{Errno, Name};

/// What is left of a message.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    left: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(message: &'a [u8]) -> Self {
        Self { left: message }
    }

    /// A struct, copied: what follows a name lies at any address.
    pub(super) fn take<T: FromBytes + KnownLayout + Immutable>(&mut self) -> Result<T, Errno> {
        let (value, left) = T::read_from_prefix(self.left).map_err(|_| MALFORMED)?;
        self.left = left;
        Ok(value)
    }

    /// So many bytes.
    pub(super) fn bytes(&mut self, length: u32) -> Result<&'a [u8], Errno> {
        let length = usize::try_from(length).map_err(|_| MALFORMED)?;
        let (bytes, left) = self.left.split_at_checked(length).ok_or(MALFORMED)?;
        self.left = left;
        Ok(bytes)
    }

    /// A text up to and with its NUL.
    pub(super) fn c_str(&mut self) -> Result<&'a CStr, Errno> {
        let text = CStr::from_bytes_until_nul(self.left).map_err(|_| MALFORMED)?;
        self.left = &self.left[text.to_bytes_with_nul().len()..];
        Ok(text)
    }

    /// One component of a path. ENAMETOOLONG or EINVAL where it cannot be one.
    pub(super) fn name(&mut self) -> Result<Name<'a>, Errno> {
        Name::new(self.c_str()?)
    }
}
