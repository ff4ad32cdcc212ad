//! How many requests the kernel made of a mount's daemon, by kind: from `permfs status --json`.

use std::collections::BTreeMap;

use super::connection::waiting;
use super::mount::Mount;
use super::waits::until;

/// Counts from the moment it is made.
pub struct Requests<'a> {
    mount: &'a Mount,
    before: BTreeMap<String, u64>,
}

/// Requests by kind.
#[derive(Debug, Default)]
pub struct Made(pub BTreeMap<String, u64>);

impl<'a> Requests<'a> {
    /// From now on.
    pub fn of(mount: &'a Mount) -> Self {
        Self { mount, before: counted(mount) }
    }

    /// What was asked since; those of `status` itself and of nobody in particular (forget) are left out.
    pub fn since(&self) -> Made {
        let mut made = counted(self.mount);
        for (kind, before) in &self.before {
            if let Some(now) = made.get_mut(kind) {
                *now -= before;
            }
        }
        made.retain(|kind, count| *count > 0 && !matches!(kind.as_str(), "forget" | "batch_forget"));
        Made(made)
    }
}

impl Made {
    /// Of one kind.
    pub fn of(&self, kind: &str) -> u64 {
        self.0.get(kind).copied().unwrap_or(0)
    }
}

/// Once all are counted that were made: nobody waits for the RELEASE of a close, and the daemon may not have read it yet.
fn counted(mount: &Mount) -> BTreeMap<String, u64> {
    until("no request is under way", || waiting(&mount.target()) == 0);
    let status = mount.status();
    let kinds = &status["counters"]["by_opcode"];
    kinds.as_object().unwrap().iter().map(|(kind, count)| (kind.clone(), count.as_u64().unwrap())).collect()
}
