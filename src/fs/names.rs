//! By which name a file was last found: the short way to open it.
//!
//! Opening by handle takes a raised capability and two opens; opening by name takes one, and on NFS it is the very
//! request that the bare mount would make. What is remembered is only a hint: whoever follows it checks what it led to
//! (see [`BackingFs::open_name`](crate::backing::BackingFs::open_name)).
//!
//! Where it has gone to another file, or to none, whoever opens it may mean that: the kernel believes its names for a while, and what
//! they led to may have been renamed meanwhile by somebody whom it does not see. So it is told to look again, once ([`Names::misled`]).
//! Who came by no name at all (/proc/self/fd) is told so, too, comes again and has the file by its handle.

use std::ffi::CStr;
use std::hash::BuildHasher;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::DefaultHashBuilder;

use super::inodes::lock;
use super::{Errno, Name, NodeId};
use crate::caller::Pid;
use crate::sys::sync::Mutex;

/// Files whose name is remembered: a power of two, since a file's place is given by its number.
const REMEMBERED: usize = 1 << 13;
/// Threads that a name is known to have misled; more have the file by its handle.
const MISLED: usize = 64;
/// NAME_MAX, and the NUL.
const LONGEST: usize = 256;

/// The names of one mount, each file's in the one place that it shares with every 8,192nd other.
#[derive(Debug)]
pub(super) struct Names {
    places: Box<[Mutex<Place>]>,
    /// Which file was last found by a name; 0 where none was. A name shares its place with others, too.
    found: Box<[AtomicU64]>,
    hasher: DefaultHashBuilder,
}

#[derive(Debug, Default)]
struct Place {
    node: Option<NodeId>,
    parent: Option<NodeId>,
    /// With its NUL.
    name: Vec<u8>,
    /// Whom it has led elsewhere, since it last led to the file: almost always nobody.
    misled: Option<Box<Misled>>,
}

#[derive(Debug, Default)]
struct Misled(Vec<Pid>);

/// A name in a directory, copied out.
#[derive(Debug)]
pub(super) struct Hint {
    pub(super) parent: NodeId,
    /// It has led elsewhere, or one before it for the same file.
    pub(super) is_doubted: bool,
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
        Self {
            places: (0..REMEMBERED).map(|_| Mutex::default()).collect(),
            found: (0..REMEMBERED).map(|_| AtomicU64::default()).collect(),
            hasher: DefaultHashBuilder::default(),
        }
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
        if place.node != Some(node) {
            place.misled = None;
        }
        (place.node, place.parent) = (Some(node), Some(parent));
        place.name.clear();
        place.name.extend_from_slice(bytes);
        drop(place);
        self.found(parent, name).store(node.0.get(), Ordering::Relaxed);
    }

    /// What had one name has the other from now on; in exchange for it, or for none.
    pub(super) fn renamed(&self, from: (NodeId, Name<'_>), to: (NodeId, Name<'_>), exchanged: bool) {
        let moved = self.file_of(from);
        let other = if exchanged { self.file_of(to) } else { None };
        if let Some(node) = moved {
            self.remember(node, to.0, to.1);
        }
        if let Some(node) = other {
            self.remember(node, from.0, from.1);
        }
    }

    /// The file that was last found by this name, and by none since.
    fn file_of(&self, (parent, name): (NodeId, Name<'_>)) -> Option<NodeId> {
        let node = NodeId(NonZeroU64::new(self.found(parent, name).load(Ordering::Relaxed))?);
        let place = lock(self.place(node));
        let is_its = (place.node, place.parent) == (Some(node), Some(parent))
            && place.name == name.as_c_str().to_bytes_with_nul();
        is_its.then_some(node)
    }

    /// Where `node` was last found, unless another file has taken its place here.
    pub(super) fn recall(&self, node: NodeId) -> Option<Hint> {
        let place = lock(self.place(node));
        let parent = place.parent.filter(|_| place.node == Some(node))?;
        let mut name = [0; LONGEST];
        name.get_mut(..place.name.len())?.copy_from_slice(&place.name);
        Some(Hint { parent, is_doubted: place.misled.is_some(), name })
    }

    /// The hint for `node` has led a thread elsewhere. Whether the kernel is to look the name up again for it: not twice, unless one has
    /// led to the file in between ([`Self::led`]), so that nobody is sent away for ever.
    pub(super) fn misled(&self, node: NodeId, thread: Pid) -> bool {
        let mut place = lock(self.place(node));
        if place.node != Some(node) {
            return false;
        }
        let Misled(threads) = &mut **place.misled.get_or_insert_default();
        let is_news = threads.len() < MISLED && !threads.contains(&thread);
        if is_news {
            threads.push(thread);
        }
        is_news
    }

    /// A doubted hint has led to the file.
    pub(super) fn led(&self, node: NodeId) {
        let mut place = lock(self.place(node));
        if place.node == Some(node) {
            place.misled = None;
        }
    }

    fn place(&self, node: NodeId) -> &Mutex<Place> {
        // The remainder is below the length, which fits.
        let index = node.0.get() % REMEMBERED as u64;
        &self.places[usize::try_from(index).expect("below 8,192")]
    }

    fn found(&self, parent: NodeId, name: Name<'_>) -> &AtomicU64 {
        let index = self.hasher.hash_one((parent, name.as_bytes())) % REMEMBERED as u64;
        &self.found[usize::try_from(index).expect("below 8,192")]
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_thread_is_sent_to_look_again_once_until_a_name_has_led_to_the_file() {
        let names = Names::default();
        let (dir, file, other) = (node(1), node(7), node(7 + REMEMBERED as u64));
        let (name, [one, two]) = (Name::new(c"a").unwrap(), [Pid(1), Pid(2)]);
        names.remember(file, dir, name);
        assert!(names.misled(file, one) && !names.misled(file, one) && names.misled(file, two));
        names.remember(file, dir, Name::new(c"b").unwrap());
        assert!(names.recall(file).unwrap().is_doubted);
        assert!(!names.misled(file, one));
        names.led(file);
        assert!(!names.recall(file).unwrap().is_doubted && names.misled(file, one));
        names.remember(other, dir, name);
        assert!(!names.misled(file, two), "whose place another file has taken");
        assert!(!names.recall(other).unwrap().is_doubted && names.misled(other, one));
    }

    #[test]
    fn a_name_goes_with_the_file_that_is_renamed_and_both_where_they_are_exchanged() {
        let names = Names::default();
        let (dir, other_dir, one, two) = (node(1), node(2), node(7), node(8));
        let [a, b, c] = [c"a", c"b", c"c"].map(|name| Name::new(name).unwrap());
        let name_of = |node| {
            let hint = names.recall(node).unwrap();
            (hint.parent, hint.name().unwrap().as_bytes().to_owned())
        };
        names.remember(one, dir, a);
        names.remember(two, dir, b);
        names.renamed((dir, a), (other_dir, c), false);
        assert_eq!(name_of(one), (other_dir, b"c".to_vec()));
        names.renamed((dir, a), (dir, b), false);
        assert_eq!(name_of(two), (dir, b"b".to_vec()), "nothing is known of what had the name");
        names.renamed((other_dir, c), (dir, b), true);
        assert_eq!((name_of(one), name_of(two)), ((dir, b"b".to_vec()), (other_dir, b"c".to_vec())));
    }

    #[test]
    fn a_crowd_is_not_remembered() {
        let names = Names::default();
        names.remember(node(7), node(1), Name::new(c"a").unwrap());
        let sent = (0..1000).filter(|&thread| names.misled(node(7), Pid(thread))).count();
        assert_eq!(sent, MISLED);
    }
}
