//! By which name a file was last found: the short way to open it.
//!
//! Opening by handle takes a raised capability and two opens; opening by name takes one, and on NFS it is the very
//! request that the bare mount would make. What is remembered is only a hint: whoever follows it checks what it led to
//! (see [`BackingFs::open_name`](crate::backing::BackingFs::open_name)), so a name that has gone to another file, or to none, costs time and nothing else.

use std::ffi::CStr;

use super::inodes::lock;
use super::{Errno, Name, NodeId};
use crate::sys::sync::Mutex;

/// Files whose name is remembered: a power of two, since a file's place is given by its number.
const REMEMBERED: usize = 1 << 13;
/// NAME_MAX, and the NUL.
const LONGEST: usize = 256;

/// The names of one mount, each file's in the one place that it shares with every 8,192nd other.
#[derive(Debug)]
pub(super) struct Names {
    places: Box<[Mutex<Place>]>,
}

#[derive(Debug, Default)]
struct Place {
    node: Option<NodeId>,
    parent: Option<NodeId>,
    /// With its NUL.
    name: Vec<u8>,
}

/// A name in a directory, copied out.
#[derive(Debug)]
pub(super) struct Hint {
    pub(super) parent: NodeId,
    name: [u8; LONGEST],
}

impl Hint {
    /// The name.
    pub(super) fn name(&self) -> Result<Name<'_>, Errno> {
        CStr::from_bytes_until_nul(&self.name).map_err(|_| Errno::EINVAL).and_then(Name::new)
    }
}

impl Default for Names {
    fn default() -> Self {
        Self { places: (0..REMEMBERED).map(|_| Mutex::default()).collect() }
    }
}

impl Names {
    /// `node` was found as `name` in `parent`.
    pub(super) fn remember(&self, node: NodeId, parent: NodeId, name: Name<'_>) {
        let bytes = name.as_c_str().to_bytes_with_nul();
        let mut place = lock(self.place(node));
        if bytes.len() > LONGEST
            || (place.node, place.parent) == (Some(node), Some(parent)) && place.name == bytes
        {
            return;
        }
        (place.node, place.parent) = (Some(node), Some(parent));
        place.name.clear();
        place.name.extend_from_slice(bytes);
    }

    /// Where `node` was last found, unless another file has taken its place here.
    pub(super) fn recall(&self, node: NodeId) -> Option<Hint> {
        let place = lock(self.place(node));
        let parent = place.parent.filter(|_| place.node == Some(node))?;
        let mut name = [0; LONGEST];
        name.get_mut(..place.name.len())?.copy_from_slice(&place.name);
        Some(Hint { parent, name })
    }

    fn place(&self, node: NodeId) -> &Mutex<Place> {
        // The remainder is below the length, which fits.
        let index = node.0.get() % REMEMBERED as u64;
        &self.places[usize::try_from(index).expect("below 8,192")]
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    fn node(number: u64) -> NodeId {
        NodeId(NonZeroU64::new(number).unwrap())
    }

    #[test]
    fn the_last_name_is_remembered_until_another_file_takes_its_place() {
        let names = Names::default();
        let (dir, file, other) = (node(1), node(7), node(7 + REMEMBERED as u64));
        assert!(names.recall(file).is_none());
        names.remember(file, dir, Name::new(c"a long name").unwrap());
        names.remember(file, dir, Name::new(c"b").unwrap());
        let hint = names.recall(file).unwrap();
        assert_eq!((hint.parent, hint.name().unwrap().as_bytes()), (dir, &b"b"[..]));
        assert!(names.recall(other).is_none());
        names.remember(other, dir, Name::new(c"c").unwrap());
        assert!(names.recall(file).is_none());
        assert!(names.recall(other).is_some());
    }
}
