//! Locks that a worker had in hand when it died, over NFS.
//!
//! A thread that is killed while it waits for the server's answer leaves its request there, and where that was for a lock the
//! client takes the lock back by another one; nothing waits for either, and from NFS 4.1 on nothing keeps them in order with
//! what comes later (`nfs4_lock_release`, `nfs_alloc_no_seqid`; Linux 6.1). So an unlock of the dead may undo a lock of its successor's.
//!
//! The client does not always know it: it may go on taking the lock for held, and answers F_GETLK by what it takes for true, or by a
//! delegation (`do_getlk`, fs/nfs/file.c). So a lock is not asked about, but set once more when the dead one's unlock has come.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::handles::OpenFile;
use super::lock_table::Lockable;
use super::{ByteRange, Errno, Filesystem, LockKind, LockRequest};
use crate::backing::BackingFs;

/// Between two tries. The dead one's unlock follows the server's answer to its lock, which was asked for before ours.
const PAUSE: Duration = Duration::from_millis(50);
/// How often a lock is set once more.
const ONCE_MORE: u32 = 3;
/// How often it is asked whether a lock is gone: somebody else may have taken it at once.
const ASKED: u32 = 20;

impl<B: BackingFs> Filesystem<B> {
    /// A lock was set, or let go, by this request, which a worker before this one may have tried, too. It is seen to stay so.
    ///
    /// # Errors
    /// EAGAIN where it did not stay, and somebody else has it now.
    pub(super) fn sees_through(
        &self,
        open: &Arc<OpenFile<B>>,
        target: &Lockable<B>,
        wanted: &LockRequest,
    ) -> Result<(), Errno> {
        if !self.backing.features().nfs {
            return Ok(());
        }
        if wanted.kind == LockKind::Unlock {
            self.waits_until_gone(open, wanted);
            return Ok(());
        }
        (0..ONCE_MORE).try_for_each(|_| {
            thread::sleep(PAUSE);
            target.set(&self.backing, wanted.kind).inspect_err(|_| {
                // The client may still take it for held.
                let _ = target.set(&self.backing, LockKind::Unlock);
            })
        })
    }

    /// Until a stranger might have what was let go: from then on there is no unlock on its way.
    fn waits_until_gone(&self, open: &Arc<OpenFile<B>>, wanted: &LockRequest) {
        let Ok(stranger) = self.open_for_locks(open) else { return };
        let range = if wanted.flock { WHOLE } else { wanted.range };
        for _ in 0..ASKED {
            thread::sleep(PAUSE);
            // The lock is gone for this client, whatever comes of the question.
            if !matches!(self.backing.test_lock(&stranger, LockKind::Exclusive, range), Ok(Some(_))) {
                break;
            }
        }
    }
}

/// NFS knows a flock(2) lock as one on all bytes.
const WHOLE: ByteRange = ByteRange { start: 0, end: u64::MAX };
