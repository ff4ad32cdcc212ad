//! Acting as somebody: a thread with that uid, gid, groups and umask.
//!
//! The kernel keeps credentials per thread; rustix's `set_thread_*` change one, where glibc's wrappers would change the
//! whole test process. Real, effective and saved ids are all set, so every capability is gone, as in a pod.

use std::panic::resume_unwind;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// A user as the mount meets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Who {
    pub uid: u32,
    pub gid: u32,
    pub groups: &'static [u32],
    pub umask: u32,
}

impl Who {
    /// `uid:gid`, no supplementary groups, umask 022.
    pub const fn new(uid: u32, gid: u32) -> Self {
        Self { uid, gid, groups: &[], umask: 0o022 }
    }

    /// The same with these supplementary groups.
    pub const fn with_groups(self, groups: &'static [u32]) -> Self {
        Self { groups, ..self }
    }

    /// The same with this umask.
    pub const fn with_umask(self, umask: u32) -> Self {
        Self { umask, ..self }
    }

    /// Does `work` as them; a panic there is a panic here.
    pub fn run<T: Send>(self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let acting = scope.spawn(move || {
                self.become_them();
                work()
            });
            acting.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Turns the calling thread into them for good. Its umask and working directory are its own from now on, and so,
    /// since the kernel counts POSIX locks per table of files, are its locks.
    pub fn become_them(self) {
        unshare(CloneFlags::CLONE_FS).unwrap();
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(self.umask));
        if self.uid != 0 && rustix::process::geteuid().as_raw() == self.uid {
            // Started by a thread that is them: inherited, and without the privilege to do it again.
            return;
        }
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        let groups: Vec<_> = self.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
        set_thread_groups(&groups).unwrap();
        set_thread_res_gid(gid, gid, gid).unwrap();
        set_thread_res_uid(uid, uid, uid).unwrap();
    }
}
