//! Where other mounts begin below SOURCE, as far as anybody has been there.
//!
//! Looking up such a name asks the other mount, which may belong to a server that does not answer. So these lookups count as
//! that mount's, not the directory's, and a listing of the directory leaves them to whoever asks for them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use super::{Filesystem, Name, NodeId};
use crate::backing::{BackingFs, MountIndex};

/// The doors of one mount; as many as it has other mounts below it (the backing bounds these).
#[derive(Debug, Default)]
pub(super) struct Doors {
    /// There is one.
    any: AtomicBool,
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_name: HashMap<Door, MountIndex>,
    by_mount: HashMap<MountIndex, Door>,
}

type Door = (NodeId, Box<[u8]>);

impl Doors {
    /// `name` in `parent` led to `mount`, which is not the parent's. A mount is remembered by its last door.
    pub(super) fn remember(&self, parent: NodeId, name: Name<'_>, mount: MountIndex) {
        if self.leads_to(parent, name) == Some(mount) {
            return;
        }
        let door: Door = (parent, name.as_bytes().into());
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = known.by_mount.insert(mount, door.clone()) {
            known.by_name.remove(&before);
        }
        known.by_name.insert(door, mount);
        self.any.store(true, Ordering::Relaxed);
    }

    /// The mount behind `name` in `parent`, if there is one.
    pub(super) fn leads_to(&self, parent: NodeId, name: Name<'_>) -> Option<MountIndex> {
        if !self.any() {
            return None;
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.by_name.get(&(parent, name.as_bytes().into())).copied()
    }

    fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }
}

impl<B: BackingFs> Filesystem<B> {
    /// Whether the export is of several mounts, as far as anybody has looked.
    pub fn has_doors(&self) -> bool {
        self.doors.any()
    }

    /// Which of the export's mounts is asked about `node`, or about `name` in it.
    pub fn mount_of(&self, node: NodeId, name: Option<Name<'_>>) -> Option<MountIndex> {
        name.and_then(|name| self.doors.leads_to(node, name))
            .or_else(|| Some(self.inodes.get(node)?.object.mount))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    #[test]
    fn a_mount_is_behind_the_door_that_was_last_taken() {
        let doors = Doors::default();
        let node = |number| NodeId(NonZeroU64::new(number).unwrap());
        let (a, b) = (Name::new(c"a").unwrap(), Name::new(c"b").unwrap());
        assert_eq!(doors.leads_to(node(1), a), None);
        doors.remember(node(1), a, MountIndex(1));
        doors.remember(node(1), b, MountIndex(2));
        doors.remember(node(1), b, MountIndex(2));
        assert_eq!(doors.leads_to(node(1), a), Some(MountIndex(1)));
        assert_eq!(doors.leads_to(node(2), a), None);
        // Its directory was forgotten and found again, under another number.
        doors.remember(node(2), a, MountIndex(1));
        assert_eq!((doors.leads_to(node(1), a), doors.leads_to(node(2), a)), (None, Some(MountIndex(1))));
        assert_eq!(doors.leads_to(node(1), b), Some(MountIndex(2)));
    }
}
