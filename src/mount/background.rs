//! Going on in the background: the command returns when the mount is ready, with the one sentence when it is not.
//!
//! The fork comes before any thread exists. The parent waits on a pipe and learns what became of the child; where the
//! parent is interrupted meanwhile, the child finds the pipe broken and takes down what it has done.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::process;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, pipe2, setsid};

use super::MountFailure;
use crate::sys::{self, Errno};

/// Ready, on the pipe. Anything else is a failure: one letter for its kind, then the sentence.
const READY: u8 = b'+';
const USAGE: u8 = b'?';
const FAILED: u8 = b'-';

/// How a process says that its mount is ready: by a pipe, which has that inode number. Without a parent that waits there is nobody to tell.
#[derive(Debug)]
pub struct Readiness(Option<(File, u64)>);

impl Readiness {
    /// For a process that stays in the foreground.
    #[must_use]
    pub fn in_foreground() -> Self {
        Self(None)
    }

    /// Whether there is a parent that waits.
    #[must_use]
    pub fn in_background(&self) -> bool {
        self.0.is_some()
    }

    /// What it is told by. None, too, where the process that this one takes the place of has told it: by now that number is
    /// somebody else's, or nobody's.
    #[must_use]
    pub fn descriptor(&self) -> Option<RawFd> {
        let (pipe, ino) = self.0.as_ref()?;
        let is_the_pipe = pipe.metadata().is_ok_and(|of| of.ino() == *ino);
        is_the_pipe.then(|| pipe.as_raw_fd())
    }

    /// Moves that to a number that is at least `least`.
    ///
    /// # Errors
    /// EMFILE, EINVAL where this process may not have so high a number.
    pub(super) fn move_above(&mut self, least: RawFd) -> Result<(), Errno> {
        if let Some((pipe, _)) = &mut self.0 {
            *pipe = File::from(sys::passing::above(pipe.as_fd(), least)?);
        }
        Ok(())
    }

    /// Detaches from the terminal and tells the parent, once, unless it has been told.
    ///
    /// # Errors
    /// EPIPE where the parent has gone: it was interrupted, and nobody wants the mount.
    pub fn announce(&mut self) -> Result<(), Errno> {
        let has_to = self.descriptor().is_some();
        let Some((mut pipe, _)) = self.0.take() else { return Ok(()) };
        if !has_to {
            // Not this process's to close.
            let _ = pipe.into_raw_fd();
            return Ok(());
        }
        let null = File::options().read(true).write(true).open("/dev/null")?;
        dup2_stderr(null.as_fd())?;
        pipe.write_all(&[READY])?;
        Ok(())
    }

    fn fail(&mut self, failure: &MountFailure) {
        let Some((mut pipe, _)) = self.0.take() else { return };
        let kind = if failure.is_usage() { USAGE } else { FAILED };
        // Nobody is left to hear it if the parent is gone.
        let _ = pipe.write_all(&[kind]).and_then(|()| pipe.write_all(failure.to_string().as_bytes()));
    }
}

/// Runs `work` in a child process that outlives this one. Returns here, in the parent, once the work is ready.
///
/// # Errors
/// Whatever `work` failed with before it was ready.
pub fn in_background(
    work: impl FnOnce(&mut Readiness) -> Result<(), MountFailure>,
) -> Result<(), MountFailure> {
    let (read, write) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| MountFailure::NoProcess(e.into()))?;
    match sys::process::fork().map_err(MountFailure::NoProcess)? {
        sys::process::Fork::Parent { child } => {
            drop(write);
            wait_for(File::from(read), child)
        }
        sys::process::Fork::Child => {
            drop(read);
            let write = File::from(write);
            let ino = write.metadata().map(|of| of.ino()).unwrap_or_default();
            let mut readiness = Readiness(Some((write, ino)));
            let outcome = detach().map_err(MountFailure::NoProcess).and_then(|()| work(&mut readiness));
            if let Err(failure) = &outcome {
                readiness.fail(failure);
            }
            process::exit(i32::from(outcome.is_err()))
        }
    }
}

fn wait_for(mut pipe: File, child: Pid) -> Result<(), MountFailure> {
    let mut said = Vec::new();
    // A read error leaves what was said so far, which is then judged as such.
    let _ = pipe.read_to_end(&mut said);
    match said.split_first() {
        Some((&READY, _)) => Ok(()),
        Some((&kind, sentence)) => Err(MountFailure::Told {
            sentence: String::from_utf8_lossy(sentence).into_owned(),
            usage: kind == USAGE,
        }),
        None => Err(MountFailure::DiedEarly(match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, code)) => format!("exit code {code}"),
            Ok(WaitStatus::Signaled(_, signal, _)) => format!("killed by {signal}"),
            other => format!("{other:?}"),
        })),
    }
}

/// A session of its own, no standard input or output; standard error follows when the mount is ready.
fn detach() -> Result<(), Errno> {
    setsid()?;
    std::env::set_current_dir("/").map_err(|error: io::Error| Errno::from(error))?;
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdin(null.as_fd())?;
    dup2_stdout(null.as_fd())?;
    Ok(())
}
