//! What a successor does first.

use std::collections::HashSet;
use std::os::fd::RawFd;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::state::slot::Slot;
use crate::state::{State, journal};
use crate::sys::{Errno, descriptors, fault};

/// How long the last close of what a dead worker had open may take: on NFS it may ask the server. What is not closed then is
/// closed when the server answers, and has its number until then.
const CLOSING_PATIENCE: Duration = Duration::from_secs(3);
/// The same where threads of that worker wait for a server already.
const SHORT_PATIENCE: Duration = Duration::from_millis(250);

/// Puts in order what a dead worker has left: what it was in the middle of is brought to an end or taken back, and what it had
/// open and did not write down is closed. Answers with the requests that it had in hand,
/// those included at which a thread of it still is (`Control::is_held`).
///
/// # Errors
/// Those of reading /proc.
pub fn put_in_order(state: &State) -> Result<Vec<Slot>, Errno> {
    fault::point!("takeover: begins");
    let slots = state.slots.left();
    journal::take_back(state, &slots);
    fault::point!("takeover: taken back");
    let used: HashSet<RawFd> = state.descriptors().into_iter().collect();
    let strays: Vec<RawFd> = descriptors::all()?.into_iter().filter(|fd| !used.contains(fd)).collect();
    tracing::debug!(strays = strays.len(), requests = slots.len(), "putting in order what was left");
    let waits = slots.iter().any(|slot| slot.control.is_held());
    close(strays, if waits { SHORT_PATIENCE } else { CLOSING_PATIENCE })?;
    fault::point!("takeover: strays are closed");
    Ok(slots)
}

/// Each number is another's only once it is closed, so nothing that is opened meanwhile is closed with these.
fn close(strays: Vec<RawFd>, patience: Duration) -> Result<(), Errno> {
    if strays.is_empty() {
        return Ok(());
    }
    let (done, wait) = mpsc::channel::<()>();
    let close = move || {
        descriptors::close(strays);
        drop(done);
    };
    thread::Builder::new().name("strays".to_owned()).spawn(close)?;
    // It ends with the channel's: nothing is ever sent.
    let _ = wait.recv_timeout(patience);
    Ok(())
}
