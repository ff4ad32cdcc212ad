//! Copying a volume's content: names, content, permissions, times and symlinks, as those whom the rules let. What they may
//! not make is an error, but for device nodes, which no volume needs. Hard links become files of their own; extended
//! attributes and ACLs are not copied.

use nix::fcntl::OFlag;

use super::super::hands::Hands;
use super::super::walk::look_up;
use super::tree::part;
use crate::backing::{BackingFs, Errno, Found, Name, NewTime, WriteHow};
use crate::policy::{FileKind, NewMode, Operation, Owner, Permissions};

/// How deep a content may be nested.
const MAX_DEPTH: usize = 256;
/// How much is copied at once, in bytes.
const CHUNK: usize = 1 << 20;
/// What is copied of a file's mode: suid and sgid were its owner's to give.
const FILE_BITS: Permissions = Permissions::from_mode(0o1777);

/// Copies all that is in `from` into `to`, which is empty.
pub(super) fn tree<B: BackingFs>(
    backing: &B,
    hands: &Hands<'_>,
    from: &Found<B::Node>,
    to: &Found<B::Node>,
) -> Result<(), Errno> {
    Copy { backing, hands, top: from, new: to }.directory(from, to, 0)
}

struct Copy<'a, B: BackingFs> {
    backing: &'a B,
    hands: &'a Hands<'a>,
    top: &'a Found<B::Node>,
    new: &'a Found<B::Node>,
}

impl<B: BackingFs> Copy<'_, B> {
    fn directory(&self, from: &Found<B::Node>, to: &Found<B::Node>, depth: usize) -> Result<(), Errno> {
        if depth > MAX_DEPTH {
            return Err(Errno::ENAMETOOLONG);
        }
        let mut next = Some(0);
        while let Some(at) = next {
            let part = part(self.backing, self.hands, from, at)?;
            for name in &part.names {
                match self.object(from, to, Name::new(name)?, depth) {
                    // Removed meanwhile.
                    Ok(()) | Err(Errno::ENOENT) => {}
                    Err(errno) => return Err(errno),
                }
            }
            next = part.next;
        }
        Ok(())
    }

    fn object(
        &self,
        from: &Found<B::Node>,
        to: &Found<B::Node>,
        name: Name<'_>,
        depth: usize,
    ) -> Result<(), Errno> {
        let found = look_up(self.backing, self.hands, from, name)?;
        if found.id.mount != self.top.id.mount {
            return Err(Errno::EXDEV);
        }
        // A volume that is copied into itself, by way of its own parent.
        if found.id == self.new.id {
            return Ok(());
        }
        let (owner, into) = (found.attr.owner(), to.attr.owner());
        let permissions = found.attr.permissions;
        match found.attr.kind {
            FileKind::Directory => {
                let open = mode(permissions.with(Permissions::from_mode(0o700)));
                self.make(owner, into, |who| self.backing.mkdir(who, &to.node, name, open))?;
                let made = look_up(self.backing, self.hands, to, name)?;
                self.directory(&found, &made, depth + 1)?;
                self.finish(&found, &made, permissions)
            }
            FileKind::Regular => {
                let flags = OFlag::O_WRONLY | OFlag::O_EXCL;
                let bits = mode(Permissions::from_mode(0o600));
                let source = self.hands.attempt(Operation::Open, Some(owner), None, |who| {
                    self.backing.open(who, &found.node, OFlag::O_RDONLY)
                })?;
                self.make(owner, into, |who| {
                    let new = self.backing.create(who, &to.node, name, flags, bits)?;
                    self.content(who, &source, &new)?;
                    self.backing.flush(&new)
                })?;
                let made = look_up(self.backing, self.hands, to, name)?;
                self.finish(&found, &made, permissions.without(Permissions::ALL.without(FILE_BITS)))
            }
            FileKind::Symlink => {
                let target = self.hands.attempt(Operation::Look, Some(owner), None, |who| {
                    self.backing.readlink(who, &found.node)
                })?;
                let target = std::ffi::CString::new(target).map_err(|_| Errno::EINVAL)?;
                self.make(owner, into, |who| self.backing.symlink(who, &target, &to.node, name))
            }
            FileKind::Fifo | FileKind::Socket => {
                let (kind, bits) = (found.attr.kind, mode(permissions));
                self.make(owner, into, |who| self.backing.mknod(who, &to.node, name, kind, bits, 0))
            }
            FileKind::CharDevice | FileKind::BlockDevice => {
                tracing::warn!(?name, "a device node is not copied");
                Ok(())
            }
        }
    }

    /// Makes something as the original's owner where the rules allow, else as whoever may.
    fn make(
        &self,
        owner: Owner,
        into: Owner,
        work: impl FnMut(&crate::policy::Credentials) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        self.hands.attempt(Operation::Create, Some(owner), Some(into), work)
    }

    fn content(&self, who: &crate::policy::Credentials, from: &B::File, to: &B::File) -> Result<(), Errno> {
        let mut at = 0_u64;
        let advance = |at: u64, copied: usize| u64::try_from(copied).map_or(at, |copied| at + copied);
        loop {
            match self.backing.copy_range(who, from, at, to, at, CHUNK) {
                Ok(0) => break,
                Ok(copied) => at = advance(at, copied),
                Err(Errno::EXDEV | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS) => break,
                Err(errno) => return Err(errno),
            }
        }
        // What the kernel does not copy by itself; at the end there is nothing left to read.
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = self.backing.read(from, &mut buffer, at)?;
            if read == 0 {
                return Ok(());
            }
            let mut rest = &buffer[..read];
            while !rest.is_empty() {
                let written = self.backing.write(who, to, rest, at, WriteHow::default())?;
                if written == 0 {
                    return Err(Errno::EIO);
                }
                at = advance(at, written);
                rest = &rest[written..];
            }
        }
    }

    /// Permissions, then times: whoever made it is its owner.
    fn finish(
        &self,
        from: &Found<B::Node>,
        made: &Found<B::Node>,
        permissions: Permissions,
    ) -> Result<(), Errno> {
        let (atime, mtime) = (NewTime::At(from.attr.atime), NewTime::At(from.attr.mtime));
        self.hands.attempt(Operation::Change, Some(made.attr.owner()), None, |who| {
            self.backing.chmod(who, &made.node, permissions)?;
            self.backing.set_times(who, &made.node, atime, mtime)
        })
    }
}

fn mode(permissions: Permissions) -> NewMode {
    NewMode { permissions, umask: Permissions::NONE, setgid: false }
}
