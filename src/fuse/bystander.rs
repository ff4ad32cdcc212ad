//! Answers looks of this node's root with what is known, where a server lets them wait. Each in a thread of its own: also what is
//! known may have to be asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use zerocopy::{Immutable, IntoBytes};

use super::device::Device;
use super::encode;
use super::in_hand::{Look, Looker};
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

    /// Whether this look will be answered from here: not one of a pod's root, who waits for the server as on NFS itself.
    pub(super) fn answer(&self, looker: Looker) -> bool {
        if !is_this_nodes_root(looker.caller) {
            return false;
        }
        if self.busy.fetch_add(1, Ordering::Relaxed) >= MAX_AT_ONCE {
            self.busy.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.fs.keeps_waiting(looker.node);
        let (fs, device, busy) = (Arc::clone(&self.fs), Arc::clone(&self.device), Arc::clone(&self.busy));
        let answering = move || {
            // ENOENT: the server has answered meanwhile. What nobody knows has no answer.
            let _ = fs.enter_thread().and_then(|()| tell(&fs, &device, looker));
            busy.fetch_sub(1, Ordering::Relaxed);
        };
        let begun = thread::Builder::new().name("fuse-bystander".to_owned()).spawn(answering).is_ok();
        if !begun {
            self.busy.fetch_sub(1, Ordering::Relaxed);
        }
        begun
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
