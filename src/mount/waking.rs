//! Waking the threads of a worker that is to stop between two requests, by requests of its mount. Each waits for one when it has
//! none, and sees what it was asked only then.
//!
//! Whoever makes such a request waits until somebody answers it, perhaps the next worker, and cannot be killed meanwhile. So it
//! is a process of its own, which nobody waits for.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::statfs::statfs;
use nix::sys::wait::waitpid;
use nix::unistd::pipe2;

use crate::sys::descriptors;
use crate::sys::process::{Fork, fork};

/// Milliseconds between two requests.
const PAUSE: u16 = 1;

/// Makes requests of the mount on `target` until the descriptor that this answers with is closed.
///
/// # Errors
/// Where there is no process for it.
pub(super) fn wake(target: &Path) -> io::Result<OwnedFd> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    match fork()? {
        Fork::Parent { child } => {
            waitpid(child, None)?;
            Ok(write)
        }
        Fork::Child => {
            drop(write);
            // init buries whoever has no parent any more.
            if let Ok(Fork::Child) = fork() {
                // Nobody who reads what the command says shall wait for this.
                descriptors::close([0, 1, 2]);
                ask_until_closed(target, &File::from(read));
            }
            process::exit(0)
        }
    }
}

fn ask_until_closed(target: &Path, pipe: &File) {
    loop {
        // Never answered from a cache.
        let _ = statfs(target);
        let mut polled = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, PollTimeout::from(PAUSE)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            _ => return,
        }
    }
}
