//! What is settled with the kernel when a mount begins, and so cannot follow when the rules change.

use super::negotiate::{Features, Wishes};
use crate::fs::{BackingFs, Filesystem};
use crate::policy::{DataPath, LockScope, OpenPolicy, Policy};

/// What a mount has settled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settled {
    trusts_opens: bool,
    pub(super) wishes: Wishes,
}

/// Rules that would need another mount. Displays as a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsettled {
    /// `cache.open` would change.
    #[error(
        "cache.open cannot change while the mount is there: whether opens need a request is settled with the kernel when it \
         begins; leave it as it is, or unmount and mount again"
    )]
    Opens,
    /// `locks.scope` would change.
    #[error(
        "locks.scope cannot change while the mount is there: who keeps locks is settled with the kernel when it begins, and \
         locks may be held; leave it as it is, or unmount and mount again"
    )]
    Locks,
    /// `cache.data` would need passthrough.
    #[error(
        "cache.data = \"{0}\" cannot begin while the mount is there: it was made without passthrough, which is settled with the \
         kernel when it begins; leave it as it is, or unmount and mount again"
    )]
    Passthrough(&'static str),
    /// `cache.data` insists on passthrough.
    #[error(
        "cache.data = \"passthrough\": this mount's kernel has no FUSE passthrough; write cache.data = \"auto\""
    )]
    NoPassthrough,
}

impl Settled {
    /// What a mount under this policy asks for.
    pub(super) fn new(policy: &Policy, posix_acl: bool) -> Self {
        // A file that is opened without a request has no handle for a lock to hang on, or for the kernel to pass through.
        let asks_for_opens = policy.cache().open != OpenPolicy::Trust;
        let wishes = Wishes {
            server_locks: asks_for_opens && policy.lock_scope() == LockScope::Server,
            posix_acl,
            passthrough: asks_for_opens
                && matches!(policy.cache().data, DataPath::Auto | DataPath::Passthrough),
        };
        Self { trusts_opens: !asks_for_opens, wishes }
    }

    /// What a mount of this file system asks for.
    pub(super) fn of<B: BackingFs>(fs: &Filesystem<B>) -> Self {
        Self::new(&fs.policy(), fs.features().posix_acl)
    }

    /// Whether the mount can go on under another policy. Passthrough that is there need not be used.
    ///
    /// # Errors
    /// What stands in the way.
    pub(super) fn allows(&self, policy: &Policy, features: &Features) -> Result<(), Unsettled> {
        let wanted = Self::new(policy, self.wishes.posix_acl);
        let data = policy.cache().data;
        if wanted.trusts_opens != self.trusts_opens {
            return Err(Unsettled::Opens);
        }
        if wanted.wishes.server_locks != self.wishes.server_locks {
            return Err(Unsettled::Locks);
        }
        if wanted.wishes.passthrough && !self.wishes.passthrough {
            let word = if data == DataPath::Passthrough { "passthrough" } else { "auto" };
            return Err(Unsettled::Passthrough(word));
        }
        if data == DataPath::Passthrough && !features.has_passthrough() {
            return Err(Unsettled::NoPassthrough);
        }
        Ok(())
    }
}
