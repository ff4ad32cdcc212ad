//! One policy follows another while requests are served.
//!
//! Requests under way end under the policy that they began with; those that begin from then on have the new one, with
//! callers judged anew. Then the kernel is made to forget what it holds of the old one: the attributes of every inode, and
//! every name where it can (FUSE_NOTIFY_INC_EPOCH, Linux 6.16), so that the next access comes here and is judged. An older
//! kernel goes on believing names for their `entry_timeout`, and so may reach an inode without the path rule that its name
//! has now; what it shows is new in any case.
//!
//! An answer that was given under the old policy, and reaches the kernel after it was made to forget, is not believed: the
//! kernel orders the two (`attr_version`, and a name's epoch). Only an inode that it learns of by that very answer has no
//! such order. So the requests of the old reign are waited for, and the inodes that they made known are forgotten once more.
//!
//! What stays: files that are open keep the rights of their open, as they do after a chmod; listings and readers under way are
//! found by credentials (`dir`, `readers`), and whoever has those now may use them.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::Filesystem;
use super::reign::Reign;
use crate::backing::BackingFs;
use crate::policy::Policy;

/// How long requests of the old reign are waited for. One that hangs at a server may show a new inode as it was before,
/// for `attr_timeout`.
const LAST_REQUESTS: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(1);
/// From the end of an operation to its answer's arrival in the kernel.
const DELIVERY: Duration = Duration::from_millis(5);

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Succession {
    /// Inodes whose attributes the kernel was made to forget.
    pub inodes: usize,
    /// The kernel looks every name up anew.
    pub names: bool,
}

impl<B: BackingFs> Filesystem<B> {
    /// Puts another policy in force. Returns when the next stat shows what it shows. Calls must not overlap, and the calling
    /// thread must not be one that serves requests.
    pub fn succeed(&self, policy: Arc<Policy>) -> Succession {
        let first_new = self.inodes.next_id();
        let keeps_places = !policy.scopes().is_trivial();
        let new = self.reign.load().after(policy);
        let old = self.reign.swap(Arc::new(new));
        let inodes = self.forget_what_was_shown(1, keeps_places);
        let names = self.forget_names();
        self.await_last_requests(&old);
        let late = self.forget_what_was_shown(first_new, true);
        Succession { inodes: inodes + late, names: names && self.forget_names() }
    }

    /// From the inode with this number on.
    fn forget_what_was_shown(&self, first: u64, keeps_places: bool) -> usize {
        let Some(kernel) = self.kernel.get() else { return 0 };
        let mut forgotten = 0;
        // Breaking off is no failure: the mount is gone.
        let _ = self.inodes.for_each(|inode| {
            if inode.id.0.get() < first {
                return ControlFlow::Continue(());
            }
            if !keeps_places {
                inode.forget_place();
            }
            if inode.listed.is_out_of_date() {
                kernel.forget_content(inode.id);
            } else {
                kernel.forget_attributes(inode.id);
            }
            forgotten += 1;
            if kernel.has_ended() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        forgotten
    }

    fn forget_names(&self) -> bool {
        self.kernel.get().is_some_and(|kernel| kernel.forget_names())
    }

    fn await_last_requests(&self, old: &Arc<Reign>) {
        let begin = Instant::now();
        let ended = || self.kernel.get().is_none_or(|kernel| kernel.has_ended());
        while Arc::strong_count(old) > 1 && begin.elapsed() < LAST_REQUESTS && !ended() {
            thread::sleep(POLL);
        }
        thread::sleep(DELIVERY);
    }
}
