//! A file's bytes in memory, for reading: what `permfs bench` measures, and nobody else needs.

use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::Errno;

/// Bytes from one touch to the next: a line of the cache.
const LINE: usize = 64;

/// The beginning of a file, mapped shared and read-only until it is dropped.
#[derive(Debug)]
pub struct ReadMapping {
    start: NonNull<libc::c_void>,
    length: NonZeroUsize,
}

impl ReadMapping {
    /// Maps the first `length` bytes.
    ///
    /// # Errors
    /// EINVAL for no bytes; ENODEV where the filesystem cannot map; those of mmap(2).
    pub fn of(file: impl AsFd, length: usize) -> Result<Self, Errno> {
        let length = NonZeroUsize::new(length).ok_or(Errno::EINVAL)?;
        // SAFETY: the kernel chooses a range that is free, and no reference into it is ever made: see `touch`.
        let start = unsafe { mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Self { start, length })
    }

    /// Reads a byte of every line of the cache, and tells their sum.
    ///
    /// Dies by SIGBUS, as every reader of a mapping, where somebody has shortened the file (mmap(2)).
    #[must_use]
    pub fn touch(&self) -> u64 {
        let start = self.start.cast::<u8>();
        (0..self.length.get())
            .step_by(LINE)
            // SAFETY: the offset is below the mapping's length, and the mapping lives as long as self. Others may write
            // to the file meanwhile: hence a volatile read of a byte, and no reference.
            .map(|offset| u64::from(unsafe { start.add(offset).read_volatile() }))
            .sum()
    }
}

impl Drop for ReadMapping {
    fn drop(&mut self) {
        // SAFETY: exactly the range that mmap gave; nothing refers to it any more. It cannot fail for such a range.
        let _ = unsafe { munmap(self.start, self.length.get()) };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn every_line_of_the_file_is_touched_once() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1; 10 * LINE + 1]).unwrap();
        assert_eq!(ReadMapping::of(&file, 10 * LINE + 1).unwrap().touch(), 11);
        assert_eq!(ReadMapping::of(&file, 0).unwrap_err(), Errno::EINVAL);
    }
}
