//! What a mount's processes give up, so that whoever finds a mistake in one of them gets little by it.
//!
//! Before the first worker exists the process lets go of the capabilities that no mount needs, of what executing a program could
//! give it, of being looked into by others, and of the system calls in [`calls::NEVER`]. Everything that it starts inherits that. A
//! worker, which is who reads what others write, is held to the list in [`calls::SERVES`] from the moment at which it serves.
//!
//! The keeper is not held to a list: a filter outlives execve(2), and would bind a later version of this program to what this one
//! knew. Whatever cannot be given up, because the kernel or a container does not let it, is told in the log and done without.

mod calls;

use std::fs;
use std::io;

use nix::sys::prctl;
use seccompiler::{BpfProgram, SeccompAction};
use serde::{Deserialize, Serialize};

use crate::sys::Errno;
use crate::sys::capabilities::{self, Capabilities};
use crate::sys::seccomp::{self, Refusals};

/// OOM_SCORE_ADJ_MIN, linux/oom.h: not to be chosen, also where a control group goes as a whole (`memory.oom.group`).
const SPARED: i32 = -1000;
const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// What a mount does with capabilities(7):
/// its requests are answered as somebody (SETUID, SETGID), and as root where the rules say so, who then is what root is to a file
/// system (CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, MKNOD, SETFCAP, SYS_RESOURCE; SYS_ADMIN for `trusted.*`);
/// objects are opened by their handles (DAC_READ_SEARCH), files passed through and the mount taken down (SYS_ADMIN); callers are
/// looked at in /proc (SYS_PTRACE); the keeper is spared when memory is short (SYS_RESOURCE).
const NEEDED: [Capabilities; 12] = [
    Capabilities::CHOWN,
    Capabilities::DAC_OVERRIDE,
    Capabilities::DAC_READ_SEARCH,
    Capabilities::FOWNER,
    Capabilities::FSETID,
    Capabilities::MKNOD,
    Capabilities::SETFCAP,
    Capabilities::SETGID,
    Capabilities::SETUID,
    Capabilities::SYS_ADMIN,
    Capabilities::SYS_PTRACE,
    Capabilities::SYS_RESOURCE,
];

/// A keeper that has given up what it can.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Confinement {
    /// What the kernel thought of this process before, in the words of proc_pid_oom_score_adj(5).
    oom_score: Option<i32>,
}

impl Confinement {
    /// Gives up what neither keeper nor worker needs. Comes after mount.nfs(8), which needs more, and before any thread.
    pub(super) fn begin() -> Self {
        told(
            "the capabilities that it does not need",
            capabilities::keep_only(Capabilities::all_of(&NEEDED)),
        );
        told("what executing a program could give", prctl::set_no_new_privs().map_err(Errno::from));
        // Nobody but root may look into it, and it leaves no core; as it is anyway once a thread has become somebody.
        told("being looked into", prctl::set_dumpable(false).map_err(Errno::from));
        told("system calls that nobody needs", hold_to(calls::kill_at(calls::NEVER), Refusals::Logged));
        // One who may lower it may also be one who must not: a container without SYS_RESOURCE.
        let oom_score = fs::read_to_string(OOM_SCORE).ok().and_then(|score| score.trim().parse().ok());
        if let Err(error) = set_oom_score(SPARED) {
            tracing::debug!(%error, "the keeper is as good a victim as the worker when memory is short");
        }
        Self { oom_score }
    }

    /// In the program that takes this one's place. Filters and `no_new_privs` outlive execve(2), the rest does not.
    pub(super) fn go_on(&self) {
        give_up_privileges();
    }

    /// In a new worker. It is the one to be killed when memory is short: it holds more, and its successor goes on.
    pub(super) fn of_a_worker(&self) {
        if let Some(score) = self.oom_score {
            told("being spared by the OOM killer", set_oom_score(score).map_err(Errno::from));
        }
    }

    /// In a worker that is about to serve, for all its threads.
    pub(super) fn of_one_that_serves(&self) {
        let absent = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
        let filters = [
            (calls::kill_at(calls::NEVER_WHILE_SERVING), Refusals::Logged),
            // Each new thread is one: who asks for the mount's status has one.
            (calls::answer(calls::ABSENT, absent), Refusals::Silent),
            // The last: it lets nobody add another.
            (calls::only(calls::SERVES), Refusals::Logged),
        ];
        for (filter, refusals) in filters {
            told("system calls that serving does not need", hold_to(filter, refusals));
        }
    }
}

fn give_up_privileges() {
    told("the capabilities that it does not need", capabilities::keep_only(Capabilities::all_of(&NEEDED)));
    // Nobody but root may look into it, and it leaves no core; as it is anyway once a thread has become somebody.
    told("being looked into", prctl::set_dumpable(false).map_err(Errno::from));
}

fn hold_to(filter: Result<BpfProgram, seccompiler::BackendError>, refusals: Refusals) -> Result<(), Errno> {
    // No filters are made for this kind of machine.
    seccomp::hold_to(&filter.map_err(|_| Errno::ENOSYS)?, refusals)
}

fn set_oom_score(score: i32) -> io::Result<()> {
    fs::write(OOM_SCORE, score.to_string())
}

fn told(what: &str, given_up: Result<(), Errno>) {
    if let Err(error) = given_up {
        tracing::warn!(%error, "this process could not give up {what}");
    }
}

#[cfg(test)]
mod tests;
