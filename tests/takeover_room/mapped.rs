//! A file mapped into memory, MAP_SHARED: it stays valid while the file is closed, unlinked and its server replaced.

use std::fs::File;
use std::io;
use std::ptr::{self, NonNull};

use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};

/// Unmapped when dropped.
pub struct Mapped {
    start: NonNull<u8>,
    length: usize,
}

#[allow(unsafe_code)]
impl Mapped {
    /// The first `length` bytes of `file`, which has as many.
    pub fn new(file: &File, length: usize) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the place, so nothing that exists is covered.
        let start = unsafe { mmap(ptr::null_mut(), length, protection, MapFlags::SHARED, file, 0) }?;
        let start = NonNull::new(start.cast()).expect("the kernel maps nothing at 0 by itself");
        Ok(Self { start, length })
    }

    /// Copies from the mapping.
    pub fn read(&self, offset: usize, length: usize) -> Vec<u8> {
        assert!(offset + length <= self.length);
        let mut bytes = vec![0; length];
        // SAFETY: within the mapping, by the assertion, and `bytes` is as long. Other processes may write there at the
        // same time; bytes have no invalid values, and no reference to them is made.
        unsafe { ptr::copy_nonoverlapping(self.start.as_ptr().add(offset), bytes.as_mut_ptr(), length) };
        bytes
    }

    /// Copies into the mapping.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.length);
        // SAFETY: within the mapping, by the assertion; no reference to it exists.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr().add(offset), bytes.len()) };
    }

    /// msync(2), MS_SYNC, of all of it.
    pub fn sync(&self) -> io::Result<()> {
        // SAFETY: exactly the mapping.
        unsafe { msync(self.start.as_ptr().cast(), self.length, MsyncFlags::SYNC) }?;
        Ok(())
    }
}

#[allow(unsafe_code)]
impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping, and nothing refers to it any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}

// SAFETY: the mapping belongs to the process, not to a thread.
#[allow(unsafe_code)]
unsafe impl Send for Mapped {}
