//! Locks that a worker had in hand when it died, over NFS.
//!
//! A thread that is killed while it waits for the server's answer leaves its request there, and where that was for a lock the
//! client takes the lock back by another one; nothing waits for either, and from NFS 4.1 on nothing keeps them in order with
//! what comes later (`nfs4_lock_release`, `nfs_alloc_no_seqid`; Linux 6.1). So an unlock of the dead may undo a lock of its successor's.
//! The successor therefore asks the server, as a stranger would, whether things are as they are said to be, before it says so.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::handles::OpenFile;
use super::lock_table::Lockable;
use super::{ByteRange, Errno, Filesystem, LockKind, LockRequest};
use crate::backing::BackingFs;
use crate::state::journal;

/// From one question to the next.
const PAUSE: Duration = Duration::from_millis(20);
/// So many answers in a row are believed.
const ENOUGH: u32 = 2;
/// Questions in all: somebody else may have taken what was let go.
const MOST: u32 = 50;

impl<B: BackingFs> Filesystem<B> {
    /// A lock was set, or let go, by this request. Where a worker before this one may have tried that, too, the lock is seen to stay so.
    ///
    /// # Errors
    /// EAGAIN where it did not stay, and somebody else has it now.
    pub(super) fn sees_through(
        &self,
        open: &Arc<OpenFile<B>>,
        target: &Lockable<B>,
        wanted: &LockRequest,
    ) -> Result<(), Errno> {
        if !journal::is_replay() || !self.backing.features().nfs {
            return Ok(());
        }
        let Ok(stranger) = self.open_for_locks(open) else { return Ok(()) };
        let range = if wanted.flock { WHOLE } else { wanted.range };
        let mut as_said = 0;
        for _ in 0..MOST {
            // The lock is as it was set, whatever comes of the question.
            let Ok(held) = self.backing.test_lock(&stranger, LockKind::Exclusive, range) else { break };
            if held.is_some() == (wanted.kind != LockKind::Unlock) {
                as_said += 1;
            } else {
                as_said = 0;
                target.set(&self.backing, wanted.kind)?;
            }
            if as_said == ENOUGH {
                break;
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// NFS knows a flock(2) lock as one on all bytes.
const WHOLE: ByteRange = ByteRange { start: 0, end: u64::MAX };
