//! Why a run ends early, or a row is left out.

use std::io;
use std::path::{Path, PathBuf};

/// What stands in the way. Whatever was made is removed all the same.
#[derive(Debug, thiserror::Error)]
pub enum Halt {
    /// A signal asked for the end.
    #[error("interrupted; everything that was made has been removed")]
    Interrupted {
        /// Its number.
        signal: i32,
    },
    /// A call failed.
    #[error("cannot {what} {}: {error}", path.display())]
    Refused {
        /// What was tried, as a verb.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// This row cannot be measured here; the others can.
    #[error("{0}")]
    NotHere(String),
    /// Too little space to learn anything, or none without endangering others.
    #[error("{} has {free} bytes and {names} names free: permfs bench takes at most a sixteenth of what is free, and \
             needs {needed}", path.display())]
    Cramped {
        /// The directory.
        path: PathBuf,
        /// Bytes free for whoever runs this.
        free: u64,
        /// Inodes free.
        names: u64,
        /// What would do, in words.
        needed: String,
    },
    /// The one thing that must not happen.
    #[error("cannot remove {}: {error}; please remove it by hand", path.display())]
    LeftBehind {
        /// What is still there.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A thread of ours panicked; its message is on standard error.
    #[error("a measuring thread ended unexpectedly: this is a bug, please report it")]
    Died,
}

impl Halt {
    /// Whether the cause is that this process may not, or cannot, work in the directory at all.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
        matches!(self, Self::Refused { error, .. }
            if matches!(error.kind(), NotFound | PermissionDenied | ReadOnlyFilesystem | NotADirectory))
    }

    /// Whether the cause is that whoever works may not.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Refused { error, .. } if error.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// Tells what was tried on what when a call fails.
pub(super) trait Attempt<T> {
    /// `what` is a verb: "cannot {what} {path}: ...".
    fn attempt(self, what: &'static str, path: &Path) -> Result<T, Halt>;
}

impl<T, E: Into<io::Error>> Attempt<T> for Result<T, E> {
    fn attempt(self, what: &'static str, path: &Path) -> Result<T, Halt> {
        self.map_err(|error| {
            let error = error.into();
            match error.raw_os_error() {
                Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::ENODEV) => {
                    Halt::NotHere(format!("this filesystem cannot {what}: {error}"))
                }
                _ => Halt::Refused { what, path: path.to_owned(), error },
            }
        })
    }
}
