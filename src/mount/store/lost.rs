//! Tells the kernel which inodes are lost, so that it stops serving what is open of them by itself.
//!
//! It learns that from the answer to a stat(2) (`fs/reopen.rs`), and somebody has to make it ask: by the inode's handle, which finds
//! what somebody has open and asks nobody on the way (fs/fuse/inode.c, `fuse_get_dentry`). Whoever does cannot be killed while it
//! waits for the answer, so it is a process of its own, which nobody waits for.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process;

use nix::sys::wait::waitpid;

use crate::sys::process::{Fork, fork};
use crate::sys::stat::is_known_to_server;
use crate::sys::{Errno, FileHandle, descriptors, handle};

/// FILEID_INO64_GEN (linux/exportfs.h): a node's number as two words, the upper half first, and its generation, which is always 0.
const KIND: i32 = 0x81;

/// Has the kernel look at these inodes of the mount on `target`.
///
/// # Errors
/// Where there is no process for it.
pub(super) fn tell_the_kernel(target: &Path, lost: &[u64]) -> Result<(), Errno> {
    if lost.is_empty() {
        return Ok(());
    }
    match fork()? {
        Fork::Parent { child } => _ = waitpid(child, None)?,
        Fork::Child => {
            // init buries whoever has no parent any more.
            if let Ok(Fork::Child) = fork() {
                // The session must not live because this process waits for it.
                descriptors::close(descriptors::all().unwrap_or_default());
                let _ = look(target, lost);
            }
            process::exit(0)
        }
    }
    Ok(())
}

fn look(target: &Path, lost: &[u64]) -> Result<(), Errno> {
    let root = File::open(target)?;
    for node in lost {
        // ESTALE: nobody has it open. EIO: it is given up.
        if let Ok(found) = handle::open_by_handle(root.as_fd(), &handle_of(*node)?) {
            let _ = is_known_to_server(found.as_fd());
        }
    }
    Ok(())
}

fn handle_of(node: u64) -> Result<FileHandle, Errno> {
    let half = |word: u64| u32::try_from(word & 0xffff_ffff).unwrap_or_default().to_ne_bytes();
    FileHandle::new(KIND, &[half(node >> 32), half(node), half(0)].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_has_the_upper_half_of_the_number_first() {
        let handle = handle_of(0x0000_0001_0000_0002).unwrap();
        let words: Vec<_> =
            handle.bytes().as_chunks().0.iter().map(|word| u32::from_ne_bytes(*word)).collect();
        assert_eq!((handle.kind(), words), (0x81, vec![1, 2, 0]));
    }
}
