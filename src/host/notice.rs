//! Whether a host is settled, for who asks in the same container (`permfs host --check`, a pod's readiness).
//!
//! Not by a call to the host: behind the socket there may be another container's, and an old host's readiness must not end when a
//! new one has the seat, since a rollout deletes an old pod that is not ready.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::mem;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::mount;

/// Begins the extension of a notice.
const NOTICE: &str = "settled-";

/// Whether a container's host is settled, for who asks in the same container: a file beside the socket, named by the mount
/// namespace, and locked: shared by a host that has yet to settle, exclusively from when it is. It stays so when another container's
/// host has the seat, as long as this one lives.
#[derive(Debug)]
pub(super) struct Notice(Flock<File>);

impl Notice {
    /// Puts one up, and takes down those of hosts that are gone.
    pub(super) fn put_up(socket: &Path) -> io::Result<Self> {
        for other in notices(socket) {
            let file = File::open(&other);
            if file.is_ok_and(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok()) {
                let _ = fs::remove_file(other);
            }
        }
        let path =
            notice(socket).ok_or_else(|| io::Error::other("this process's mount namespace is not known"))?;
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let this = Self(Flock::lock(file, FlockArg::LockSharedNonblock).map_err(|(_, error)| error)?);
        this.say("mounts are being taken over from another container");
        Ok(this)
    }

    pub(super) fn say(&self, why: &str) {
        let _ = self.0.set_len(0).and_then(|()| self.0.write_all_at(why.as_bytes(), 0));
    }

    /// For as long as this process lives.
    pub(super) fn settled(self) {
        // Whoever looks at it right now has it for a moment.
        match self.0.relock(FlockArg::LockExclusive) {
            Ok(()) => mem::forget(self),
            Err(error) => tracing::error!(%error, "this host cannot say that it is settled"),
        }
    }
}

/// Whether this container's host is there, and serves all of the node's mounts in this container.
///
/// # Errors
/// Why not.
pub fn is_settled(socket: &Path) -> Result<(), String> {
    let absent = || "this container has no mount host".to_owned();
    let mut file = notice(socket).and_then(|path| File::open(path).ok()).ok_or_else(absent)?;
    let mut why = String::new();
    let _ = file.read_to_string(&mut why);
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_) => Err(why),
        Err(_) => Ok(()),
    }
}

fn notice(socket: &Path) -> Option<PathBuf> {
    Some(socket.with_extension(format!("{NOTICE}{}", mount::own_namespace()?)))
}

fn notices(socket: &Path) -> Vec<PathBuf> {
    let begins = socket.with_extension(NOTICE);
    let (Some(room), Some(begins)) = (socket.parent(), begins.file_name().and_then(|name| name.to_str()))
    else {
        return Vec::new();
    };
    let entries = fs::read_dir(room).into_iter().flatten().flatten();
    let ours = |name: &OsString| name.to_str().is_some_and(|name| name.starts_with(begins));
    entries.filter(|entry| ours(&entry.file_name())).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_settled_from_when_it_says_so_and_those_that_are_gone_leave_nothing() {
        let room = tempfile::tempdir().unwrap();
        let socket = room.path().join("host.sock");
        assert!(is_settled(&socket).unwrap_err().contains("no mount host"));
        fs::write(room.path().join("host.settled-1"), "").unwrap();
        let notice = Notice::put_up(&socket).unwrap();
        assert_eq!(fs::read_dir(room.path()).unwrap().count(), 1);
        assert!(is_settled(&socket).unwrap_err().contains("being taken over"));
        notice.say("2 mounts are left");
        assert_eq!(is_settled(&socket).unwrap_err(), "2 mounts are left");
        notice.settled();
        assert_eq!(is_settled(&socket), Ok(()));
        assert!(Notice::put_up(&socket).is_err(), "there is one already");
        assert_eq!(is_settled(&socket), Ok(()));
    }
}
