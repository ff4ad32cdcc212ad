//! getdents64(2), and a parser of what it writes that trusts nothing.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Errno, check};

/// One `struct linux_dirent64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dirent<'a> {
    /// d_ino.
    pub ino: u64,
    /// d_off: where reading goes on after it. Opaque; may exceed `i64::MAX`.
    pub next: u64,
    /// d_type.
    pub kind: u8,
    /// d_name.
    pub name: &'a CStr,
}

/// Reads the next entries of the open directory `dir` into `buffer`; how many bytes of it are filled, 0 at the end.
///
/// # Errors
/// Those of getdents64(2): ENOENT for a removed directory, EINVAL where the next entry does not fit.
pub fn getdents(dir: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most buffer.len() bytes to the buffer, which is ours alone during the call.
    let filled = check(unsafe {
        libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), buffer.as_mut_ptr(), buffer.len())
    })?;
    usize::try_from(filled).map_err(|_negative| Errno::EIO)
}

/// The entries in the filled part of a getdents64(2) buffer. A record that is not one gives EIO and ends it.
pub struct Dirents<'a> {
    rest: &'a [u8],
}

impl<'a> Dirents<'a> {
    /// Parses `filled`.
    #[must_use]
    pub fn new(filled: &'a [u8]) -> Self {
        Self { rest: filled }
    }

    /// How many bytes are not parsed yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }
}

/// Offset of d_name: u64 d_ino, i64 d_off, u16 d_reclen, u8 d_type.
const NAME_AT: usize = 19;

impl<'a> Iterator for Dirents<'a> {
    type Item = Result<Dirent<'a>, Errno>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        Some(match parse(self.rest) {
            Some((entry, rest)) => {
                self.rest = rest;
                Ok(entry)
            }
            None => {
                self.rest = &[];
                Err(Errno::EIO)
            }
        })
    }
}

/// The first record of `bytes`, and what follows it.
fn parse(bytes: &[u8]) -> Option<(Dirent<'_>, &[u8])> {
    let (ino, after) = bytes.split_first_chunk()?;
    let (next, after) = after.split_first_chunk()?;
    let (length, after) = after.split_first_chunk()?;
    let kind = *after.first()?;
    let (record, rest) = bytes.split_at_checked(u16::from_ne_bytes(*length).into())?;
    let name = CStr::from_bytes_until_nul(record.get(NAME_AT..)?).ok()?;
    let entry = Dirent { ino: u64::from_ne_bytes(*ino), next: u64::from_ne_bytes(*next), kind, name };
    Some((entry, rest))
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use proptest::prelude::*;

    use super::*;

    fn record(ino: u64, next: u64, kind: u8, name: &CStr, padding: usize) -> Vec<u8> {
        let name = name.to_bytes_with_nul();
        let length = u16::try_from(NAME_AT + name.len() + padding).unwrap();
        let head =
            [&ino.to_ne_bytes()[..], &next.to_ne_bytes(), &length.to_ne_bytes(), &[kind], name].concat();
        [head, vec![0xAA; padding]].concat()
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic_and_always_end(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
            let most = bytes.len() / NAME_AT + 1;
            prop_assert!(Dirents::new(&bytes).count() <= most);
        }

        #[test]
        fn a_damaged_length_never_panics(
            name in "[a-z]{1,40}", length: u16, cut in 0usize..80,
        ) {
            let mut bytes = record(1, 2, 8, &CString::new(name).unwrap(), 3);
            bytes[16..18].copy_from_slice(&length.to_ne_bytes());
            bytes.truncate(cut);
            let _ = Dirents::new(&bytes).count();
        }

        #[test]
        fn whole_records_are_read_back(
            entries in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u8>(), "[^/\0]{1,60}", 0usize..8), 0..50),
        ) {
            let entries: Vec<_> =
                entries.into_iter().map(|(i, n, k, s, p)| (i, n, k, CString::new(s).unwrap(), p)).collect();
            let bytes: Vec<u8> = entries.iter().flat_map(|(i, n, k, s, p)| record(*i, *n, *k, s, *p)).collect();
            let read: Vec<_> = Dirents::new(&bytes).map(Result::unwrap).collect();
            let meant: Vec<_> = entries
                .iter()
                .map(|(ino, next, kind, name, _)| Dirent { ino: *ino, next: *next, kind: *kind, name })
                .collect();
            prop_assert_eq!(read, meant);
        }
    }

    #[test]
    fn a_record_that_is_none_is_an_error_and_not_the_end() {
        let good = record(1, 1, 4, c"a", 0);
        let bad = [&good[..], &[0; 24]].concat();
        let read: Vec<_> = Dirents::new(&bad).collect();
        assert_eq!(read.len(), 2);
        assert_eq!(read[1], Err(Errno::EIO));
    }
}
