//! The state of processes that have all died: nothing that they had open is open any more, but what somebody else has kept.
//!
//! The numbers of descriptors in the records mean nothing in another process, so they are taken out before anybody reads them, or
//! exchanged for those under which it was handed the same. Files are opened again when they are next used; what cannot be had again
//! that way was held by an open file alone: locks, and objects without a handle. Who had such a thing is told so, by losing the inode:
//! it is marked, and stays so whoever takes over.

use std::collections::{HashMap, HashSet};
use std::os::fd::RawFd;

use super::State;
use super::layout::HeaderWord;
use super::session::{ExportData, SessionData};

/// What was kept: the numbers of descriptors in this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handed {
    /// `/dev/fuse`.
    pub device: RawFd,
    /// SOURCE.
    pub root: RawFd,
    /// The anchors of the export's mounts, by their numbers there.
    pub anchors: HashMap<u64, RawFd>,
}

impl State {
    /// Makes it one of this process, which has nothing of what its records name but these. Answers with the inodes that are lost. May
    /// be done again by another process where this one dies over it.
    ///
    /// None, and nothing changed, where it is of no session.
    #[must_use]
    pub fn disown(&self, handed: &Handed) -> Option<Vec<u64>> {
        let (session, export) = (self.session.get()?, self.session.export()?);
        let lost = self.mark_lost();
        // Only now: of these it was seen.
        let owners: Vec<_> = self.locks.all().collect();
        owners.into_iter().for_each(|owner| self.locks.forget(owner));
        self.files.all().for_each(|file| self.files.disown(file));
        self.mounts.disown(&handed.anchors);
        self.slots.disown();
        self.keep_descriptors(&[]);
        for word in [HeaderWord::Worker, HeaderWord::Begun, HeaderWord::Reserve, HeaderWord::Upgrading] {
            self.set(word, 0);
        }
        self.set(HeaderWord::WorkerPidfd, u64::MAX);
        self.session.set_export(ExportData { root: handed.root, ..export });
        self.session.set(SessionData { device: handed.device, ..session });
        Some(lost)
    }

    /// The inodes on which somebody had a lock, or may have had one, and those that were held by a descriptor.
    fn mark_lost(&self) -> Vec<u64> {
        let owners = self.locks.all().filter(|owner| self.locks.may_hold(*owner));
        let mut locked: HashSet<u64> = owners.map(|owner| self.locks.node(owner)).collect();
        let files = self.files.all().map(|file| self.files.read(file));
        locked.extend(files.filter(|file| file.flocked.is_some()).map(|file| file.node));
        let mut lost = Vec::new();
        for inode in self.inodes.all() {
            let node = self.inodes.node(inode);
            if locked.contains(&node) {
                self.inodes.set_lost(inode);
            }
            self.inodes.disown(inode);
            if self.inodes.is_lost(inode) {
                lost.push(node);
            }
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::export::MountData;
    use crate::state::file::FileData;
    use crate::state::inode::InodeData;
    use crate::state::lock::LockData;
    use crate::sys::stat::MountKey;

    /// With four inodes, each open: one with a lock, one on which flock(2) was called, one that is pinned, and one like most.
    fn left() -> std::sync::Arc<State> {
        let state = State::new().unwrap();
        for node in 1..=4 {
            let pin = (node == 3).then_some(30);
            let inode = InodeData { node, mount: 0, ino: node, handle: None, kind: 8, pin };
            state.inodes.enter(&inode, 0).unwrap();
            let flocked = (node == 2).then_some(20);
            let (fd, groups) = (Some(10), Vec::new());
            let file = FileData {
                handle: node,
                node,
                fd,
                flocked: None,
                flags: 0,
                content: 0,
                backing: 0,
                uid: 1,
                gid: 1,
                groups,
            };
            let file = state.files.enter(&file).unwrap();
            flocked.into_iter().for_each(|fd| state.files.set_flocked(file, fd));
        }
        for (node, ranges) in [(1, vec![(true, 0, 9)]), (4, Vec::new())] {
            let lock = LockData { owner: node, node, handle: node, pid: 1, fd: 40, ranges, all_named: true };
            state.locks.enter(&lock).unwrap();
        }
        for anchor in [50, 51] {
            let key = MountKey::from_words([anchor, anchor]);
            state.mounts.enter(MountData { key, anchor: RawFd::try_from(anchor).ok() }).unwrap();
        }
        state.session.set_export(ExportData { root: 60, features: 5 });
        state.session.set(SessionData { device: 61, flags: 6, minor: 7 });
        state.keep_descriptors(&[70]);
        state
    }

    #[test]
    fn no_number_of_the_dead_is_left_and_what_hung_on_one_alone_is_lost() {
        let state = left();
        // Higher than any that this process has.
        let handed = Handed { device: 1 << 20, root: 2 << 20, anchors: HashMap::from([(0, 3 << 20)]) };
        for _ in 0..2 {
            assert_eq!(state.disown(&handed).unwrap(), [1, 2, 3], "also the second time");
            let mut open = state.descriptors();
            open.retain(|fd| *fd != state.memory_fd());
            open.sort_unstable();
            assert_eq!(open, [1 << 20, 2 << 20, 3 << 20]);
        }
        let session = state.session.get().unwrap();
        assert_eq!((session.flags, session.minor, state.session.export().unwrap().features), (6, 7, 5));
        let mounts: Vec<_> = state.mounts.all().collect();
        assert_eq!((mounts[0].key, mounts[0].anchor), (MountKey::from_words([50, 50]), Some(3 << 20)));
        assert_eq!((mounts[1].key, mounts[1].anchor), (MountKey::from_words([0, 0]), None));
        assert_eq!((state.files.all().count(), state.locks.all().count()), (4, 0));
    }

    #[test]
    fn what_is_of_no_session_is_left_as_it_is() {
        let state = State::new().unwrap();
        assert_eq!(state.disown(&Handed { device: 3, root: 5, anchors: HashMap::new() }), None);
    }
}
