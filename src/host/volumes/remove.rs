//! Removing a volume with all that is in it: never through a symlink, never across a mount, and however deep pods have
//! nested it.

use std::ffi::CString;

use nix::fcntl::RenameFlags;

use super::super::hands::Hands;
use super::super::walk::look_up;
use super::tree::part;
use crate::backing::{BackingFs, Errno, Found, Name};
use crate::policy::{FileKind, Operation, Permissions};

/// How deep it goes; what lies deeper is first moved up.
const MAX_DEPTH: usize = 64;
/// What a directory's owner needs to empty it.
const OWNER_RWX: Permissions = Permissions::from_mode(0o700);

/// Removes the directory `dir`, which is called `name` in `parent`.
pub(super) fn tree<B: BackingFs>(
    backing: &B,
    hands: &Hands<'_>,
    parent: &Found<B::Node>,
    name: Name<'_>,
    dir: &Found<B::Node>,
) -> Result<(), Errno> {
    if dir.id.mount != parent.id.mount {
        return Err(Errno::EXDEV);
    }
    empty(backing, hands, dir)?;
    rmdir(backing, hands, parent, name)
}

/// Removes all that is in `top`.
pub(super) fn empty<B: BackingFs>(backing: &B, hands: &Hands<'_>, top: &Found<B::Node>) -> Result<(), Errno> {
    Removal { backing, hands, top, moved: 0 }.empty(top, 0)
}

struct Removal<'a, B: BackingFs> {
    backing: &'a B,
    hands: &'a Hands<'a>,
    top: &'a Found<B::Node>,
    /// Directories that were moved up so far.
    moved: u64,
}

impl<B: BackingFs> Removal<'_, B> {
    fn empty(&mut self, dir: &Found<B::Node>, depth: usize) -> Result<(), Errno> {
        if !dir.attr.permissions.contains(OWNER_RWX) {
            self.open_up(dir);
        }
        loop {
            // From the beginning each time: what was read is gone.
            let names = part(self.backing, self.hands, dir, 0)?.names;
            if names.is_empty() {
                return Ok(());
            }
            let mut gone = 0_usize;
            for name in &names {
                match self.remove(dir, Name::new(name)?, depth) {
                    Ok(()) | Err(Errno::ENOENT) => gone += 1,
                    // Files that are still open somewhere (.nfsXXXX): the others first.
                    Err(Errno::EBUSY | Errno::ENOTEMPTY) => {}
                    Err(errno) => return Err(errno),
                }
            }
            if gone == 0 {
                return Err(Errno::ENOTEMPTY);
            }
        }
    }

    fn remove(&mut self, dir: &Found<B::Node>, name: Name<'_>, depth: usize) -> Result<(), Errno> {
        let found = look_up(self.backing, self.hands, dir, name)?;
        if found.attr.kind != FileKind::Directory {
            // Over NFS, a file that is referred to is renamed instead of removed.
            drop(found);
            return self.hands.attempt(Operation::Remove, None, Some(dir.attr.owner()), |who| {
                self.backing.unlink(who, &dir.node, name)
            });
        }
        if found.id.mount != self.top.id.mount {
            return Err(Errno::EXDEV);
        }
        if depth >= MAX_DEPTH {
            return self.move_up(dir, name);
        }
        self.empty(&found, depth + 1)?;
        drop(found);
        rmdir(self.backing, self.hands, dir, name)
    }

    /// Its turn comes when the top is read again.
    fn move_up(&mut self, dir: &Found<B::Node>, name: Name<'_>) -> Result<(), Errno> {
        loop {
            self.moved += 1;
            let new = CString::new(format!(".permfs-removed-{}", self.moved)).map_err(|_| Errno::EINVAL)?;
            let new = Name::new(&new)?;
            let moved = self.hands.attempt(Operation::Remove, None, Some(dir.attr.owner()), |who| {
                let flags = RenameFlags::empty();
                self.backing.rename(who, &dir.node, name, &self.top.node, new, flags)
            });
            match moved {
                // The name is taken.
                Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR) => {}
                outcome => return outcome,
            }
        }
    }

    /// An owner may have taken its own rights; whether that can be undone, the removal will tell.
    fn open_up(&self, dir: &Found<B::Node>) {
        let open = dir.attr.permissions.with(OWNER_RWX);
        let _ = self.hands.attempt(Operation::Change, Some(dir.attr.owner()), None, |who| {
            self.backing.chmod(who, &dir.node, open)
        });
    }
}

fn rmdir<B: BackingFs>(
    backing: &B,
    hands: &Hands<'_>,
    parent: &Found<B::Node>,
    name: Name<'_>,
) -> Result<(), Errno> {
    hands.attempt(Operation::Remove, None, Some(parent.attr.owner()), |who| {
        backing.rmdir(who, &parent.node, name)
    })
}
