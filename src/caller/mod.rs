//! Who asks: from what a FUSE request says to the credentials that the policy gives them.
//!
//! FUSE tells uid, gid and pid, but no supplementary groups. Where those can matter they are read from the process
//! itself, never from the host's group database, which knows nothing of a container's users.

mod process;
mod purpose;
mod threads;
mod walk;

use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use hashbrown::DefaultHashBuilder;

pub use purpose::{Purpose, Site};
pub use threads::Threads;
pub use walk::Walk;

use crate::policy::{Caller, Credentials, Denied, PodGid, PodUid, Policy};

/// Callers remembered per mount, of each kind; past it they are all forgotten and asked for again.
const MAX_CALLERS: usize = 1 << 14;

/// For how long a process's supplementary groups are believed. A process that changes its groups mostly changes its
/// uid or gid as well, which is another caller at once; and the kernel deals pids out in a circle, so within this time
/// no other process gets the same one. Groups that it has gained count at once: a refusal makes them be read again.
const GROUPS_VALID: Duration = Duration::from_millis(250);

/// A process or thread id in the daemon's pid namespace; 0 where the caller is not visible from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pid(pub u32);

/// What a FUSE request says of its caller. The ids are absent where the kernel did not tell (4294967295).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallerId {
    /// fsuid of the calling thread.
    pub uid: Option<PodUid>,
    /// fsgid of the calling thread.
    pub gid: Option<PodGid>,
    /// The calling thread.
    pub pid: Pid,
}

/// Why a caller is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// By the policy.
    Denied(Denied),
    /// The kernel named no uid or gid that this mount could know.
    Anonymous,
}

/// What the policy made of a caller.
type Verdict = Result<Arc<Credentials>, Denied>;

/// Each request looks into one of these, so its hash is the short one; it is seeded at random, too.
type Known<K, V> = DashMap<K, V, DefaultHashBuilder>;

/// Remembers what the policy made of each caller. Belongs to one policy: a new policy gets a new one.
#[derive(Debug, Default)]
pub struct Callers {
    /// Callers whose supplementary groups cannot matter.
    by_ids: Known<(PodUid, PodGid), Verdict>,
    /// The others.
    by_process: Known<(Pid, PodUid, PodGid), (Instant, Verdict)>,
}

impl Callers {
    /// The credentials of a caller, as [`Policy::admit`] has them.
    ///
    /// # Errors
    /// Where the policy refuses the caller, or the kernel did not name them.
    pub fn admit(&self, policy: &Policy, caller: CallerId) -> Result<Arc<Credentials>, Refused> {
        let (Some(uid), Some(gid)) = (caller.uid, caller.gid) else { return Err(Refused::Anonymous) };
        let verdict = if policy.groups_matter(gid) {
            self.by_process(policy, caller.pid, uid, gid)
        } else {
            self.by_ids(policy, uid, gid)
        };
        verdict.map_err(Refused::Denied)
    }

    /// Whether the policy makes something else of a caller by the supplementary groups that it has now than by those that were
    /// read last. These are remembered.
    pub fn has_other_groups(&self, policy: &Policy, caller: CallerId) -> bool {
        let (Some(uid), Some(gid)) = (caller.uid, caller.gid) else { return false };
        let known = self.by_process.get(&(caller.pid, uid, gid)).map(|known| known.1.clone());
        // Who is not remembered has no groups that matter.
        known.is_some_and(|known| self.read(policy, caller.pid, uid, gid) != known)
    }

    fn by_ids(&self, policy: &Policy, uid: PodUid, gid: PodGid) -> Verdict {
        if let Some(known) = self.by_ids.get(&(uid, gid)) {
            return known.clone();
        }
        let verdict = ask(policy, uid, gid, &[]);
        remember(&self.by_ids, (uid, gid), verdict.clone());
        verdict
    }

    fn by_process(&self, policy: &Policy, pid: Pid, uid: PodUid, gid: PodGid) -> Verdict {
        if let Some(known) = self.by_process.get(&(pid, uid, gid))
            && known.0.elapsed() < GROUPS_VALID
        {
            return known.1.clone();
        }
        self.read(policy, pid, uid, gid)
    }

    fn read(&self, policy: &Policy, pid: Pid, uid: PodUid, gid: PodGid) -> Verdict {
        let now = Instant::now();
        // A process that is gone, or hidden, has no groups: fewer rights, never more.
        let groups = process::groups(pid).unwrap_or_default();
        let verdict = ask(policy, uid, gid, &groups);
        remember(&self.by_process, (pid, uid, gid), (now, verdict.clone()));
        verdict
    }
}

fn ask(policy: &Policy, uid: PodUid, gid: PodGid, groups: &[PodGid]) -> Verdict {
    let groups = policy.counted_groups(groups);
    policy.admit(&Caller { uid, gid, groups }).map(Arc::new)
}

fn remember<K: Hash + Eq, V>(known: &Known<K, V>, key: K, value: V) {
    if known.len() >= MAX_CALLERS {
        known.clear();
    }
    known.insert(key, value);
}
