//! Answers looks of this node's root with what is known, where a server lets them wait. Each in a thread of its own: also what is
//! known may have to be asked for.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;

use zerocopy::{Immutable, IntoBytes};

use super::device::Device;
use super::encode;
use super::in_hand::{Look, Looker, Told};
use crate::fs::{BackingFs, Errno, Filesystem, is_this_nodes_root};
use crate::sys::turns::Turn;

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
        let Some(turn) = Turn::take(&self.busy, MAX_AT_ONCE) else { return Told::NotYet };
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
