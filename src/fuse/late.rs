//! Requests at which a thread of a dead worker still is: in a system call that nothing but its own end ends, at a server that
//! does not answer. What that call will have done is only known when it is over, so they are begun again then and not before; as
//! little can their slots' memory be used until then. Their callers wait, as they would with the dead worker, and go away when
//! they are killed.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::bystander::Bystander;
use super::decode::Header;
use super::in_hand::{InHand, Overseer};
use super::pool::Pool;
use super::session::settle;
use crate::fs::{BackingFs, Errno, Filesystem};
use crate::state::slot::{Left, Slot};

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(100);

/// A slot that is held, and its request as those see it who look for callers that are dying.
struct Held {
    slot: Slot,
    in_hand: InHand,
}

impl Held {
    fn new(slot: Slot) -> Self {
        let in_hand = InHand::default();
        in_hand.belongs_to(&slot.control);
        // Where it has been answered nobody waits.
        if let Left::Request(length) = slot.left()
            && let Some(Ok((header, _))) = slot.buffer.get(..length).map(Header::split)
        {
            in_hand.take(&header);
        }
        Self { slot, in_hand }
    }
}

/// Has each of these requests begun again when the thread that is at it has ended.
///
/// # Errors
/// EAGAIN where the system gives no thread.
pub(super) fn wait_for<B: BackingFs>(
    held: Vec<Slot>,
    pool: &Arc<Pool>,
    fs: &Arc<Filesystem<B>>,
) -> Result<(), Errno> {
    if held.is_empty() {
        return Ok(());
    }
    tracing::warn!(
        requests = held.len(),
        "threads of a dead worker wait in the kernel; their requests wait for them"
    );
    let (pool, fs) = (Arc::clone(pool), Arc::clone(fs));
    let mut held: Vec<Held> = held.into_iter().map(Held::new).collect();
    let wait = move || {
        let overseer = Overseer::default();
        let bystander = Bystander::new(Arc::clone(&fs), Arc::clone(pool.device()));
        while !held.is_empty() && !pool.has_ended() {
            for Held { mut slot, .. } in held.extract_if(.., |held| !held.slot.control.is_held()) {
                slot.arrive();
                settle(pool.device(), &fs, &mut slot);
                pool.adopt(slot);
            }
            let answer = |looker| bystander.answer(looker);
            let _ = overseer.look(pool.device(), &answer, held.iter().map(|held| &held.in_hand));
            thread::sleep(LOOK);
        }
    };
    thread::Builder::new().name("fuse-late".to_owned()).spawn(wait)?;
    Ok(())
}
