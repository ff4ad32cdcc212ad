//! Answers looks of this node's root with what is known, where a server lets them wait. Each in a thread of its own: also what is
//! known may have to be asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use zerocopy::{Immutable, IntoBytes};

use super::device::Device;
use super::encode;
use super::in_hand::{Look, Looker, Told};
use crate::fs::{BackingFs, Errno, Filesystem, is_this_nodes_root};

/// Looks that are answered so at once; who comes beyond that waits for the server.
const MAX_AT_ONCE: usize = 16;

/// Who answers.
#[derive(Debug)]
pub(super) struct Bystander<B: BackingFs> {
    fs: Arc<Filesystem<B>>,
    device: Arc<Device>,
    busy: Arc<AtomicUsize>,
}

impl<B: BackingFs> Bystander<B> {
    pub(super) fn new(fs: Arc<Filesystem<B>>, device: Arc<Device>) -> Self {
        Self { fs, device, busy: Arc::default() }
    }

    /// Answers this look in a moment. Not one of a pod's root, who waits for the server as on NFS itself; nor one too many, before
    /// another has been answered.
    pub(super) fn answer(&self, looker: Looker) -> Told {
        if !is_this_nodes_root(looker.caller) {
            return Told::Waits;
        }
        let Some(turn) = Turn::take(&self.busy) else { return Told::NotYet };
        let absence = self.fs.keeps_waiting(looker.node, looker.look == Look::Space);
        let (fs, device) = (Arc::clone(&self.fs), Arc::clone(&self.device));
        let answering = move || {
            let _turn = turn;
            let told = fs.enter_thread().and_then(|()| tell(&fs, &device, looker));
            // ENOENT: the server has answered meanwhile.
            if let Err(error) = told
                && error != Errno::ENOENT
            {
                tracing::debug!(%error, ?looker, "nothing is known of what this node's root looks at");
            }
        };
        match thread::Builder::new().name("fuse-bystander".to_owned()).spawn(answering) {
            Ok(_) => Told::Answered { _absence: absence },
            Err(_) => Told::NotYet,
        }
    }
}

/// One of [`MAX_AT_ONCE`], until it is dropped.
struct Turn(Arc<AtomicUsize>);

impl Turn {
    fn take(busy: &Arc<AtomicUsize>) -> Option<Self> {
        let turn = Self(Arc::clone(busy));
        (busy.fetch_add(1, Ordering::Relaxed) < MAX_AT_ONCE).then_some(turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn tell<B: BackingFs>(fs: &Filesystem<B>, device: &Device, looker: Looker) -> Result<(), Errno> {
    let Looker { request, node, look, .. } = looker;
    fn of<T: IntoBytes + Immutable>(answer: T) -> Vec<u8> {
        answer.as_bytes().to_vec()
    }
    let answer = match look {
        Look::Attributes => of(encode::attributes(&fs.known_attributes(node)?)),
        Look::Birth => of(encode::statx(&fs.known_attributes(node)?)),
        Look::Space => of(encode::statfs(&fs.known_space(node))),
    };
    tracing::debug!(?look, "the server lets this node's root wait, who is told what is known");
    device.answer(request, &answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_answer_at_once_and_one_more_when_one_has_ended() {
        let busy = Arc::default();
        let mut turns: Vec<_> = (0..MAX_AT_ONCE).filter_map(|_| Turn::take(&busy)).collect();
        assert_eq!(turns.len(), MAX_AT_ONCE);
        assert!(Turn::take(&busy).is_none() && Turn::take(&busy).is_none());
        turns.pop();
        assert!(Turn::take(&busy).is_some());
    }
}
