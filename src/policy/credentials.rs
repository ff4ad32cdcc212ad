//! As whom an operation is done at the server.
//!
//! [`Credentials`] is the only thing the backing accepts in the place of a user. They are chosen by one pure function,
//! [`super::Policy::credentials`], from the operation, the admitted caller, the object's owner and its parent's.

use std::sync::Arc;

use super::{NfsGid, NfsUid, PodGid, PodUid};

/// Who asks, in the pod's ids. `groups` are the supplementary groups that count under the profile's `groups` key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller<'a> {
    /// The filesystem uid of the calling thread.
    pub uid: PodUid,
    /// The filesystem gid of the calling thread.
    pub gid: PodGid,
    /// Supplementary groups.
    pub groups: &'a [PodGid],
}

/// The identity under which a backing call runs: fsuid, fsgid and supplementary groups of the calling thread.
///
/// `gid` is the group that matters for the operation at hand: many servers ignore the client's group list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// The user the server sees.
    pub uid: NfsUid,
    /// The group the server sees first, and the one a new object takes where the directory does not decide.
    pub gid: NfsGid,
    /// Supplementary groups, without `gid`, sorted and without repeats. At most 16 travel over AUTH_SYS.
    pub groups: Arc<[NfsGid]>,
}

impl Credentials {
    /// Credentials with these groups, in whatever order they come.
    #[must_use]
    pub fn new(uid: NfsUid, gid: NfsGid, groups: impl IntoIterator<Item = NfsGid>) -> Self {
        let mut groups: Vec<_> = groups.into_iter().filter(|&group| group != gid).collect();
        groups.sort_unstable();
        groups.dedup();
        Self { uid, gid, groups: groups.into() }
    }

    /// Whether these credentials belong to `gid`, first or supplementary.
    #[must_use]
    pub fn is_member(&self, gid: NfsGid) -> bool {
        self.gid == gid || self.groups.binary_search(&gid).is_ok()
    }

    /// The same user with `gid` in the place that every server honours; the former one moves to the list.
    /// The caller has made sure that these credentials may use `gid`.
    #[must_use]
    pub fn with_gid_first(&self, gid: NfsGid) -> Self {
        if self.gid == gid {
            return self.clone();
        }
        Self::new(self.uid, gid, self.groups.iter().copied().chain([self.gid]))
    }
}

/// What is being done, as far as it decides whom to act as. The names are those of `permfs explain --op`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Look at an object: lookup, stat, readlink, statfs.
    Look,
    /// Open a file or directory, access(2), locks, xattrs read: whatever reads or writes content.
    Open,
    /// Change an object's mode, times, size, owner, ACL or xattrs.
    Change,
    /// Make a new object in a directory: create, mkdir, mknod, symlink, and the new name of a link.
    Create,
    /// Take a name out of a directory, or move it: unlink, rmdir, rename.
    Remove,
}
