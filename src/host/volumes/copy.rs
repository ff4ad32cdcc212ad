//! Copying a volume's content: names, content, permissions, times and symlinks, as those whom the rules let. What they may
//! not make is an error, but for device nodes, which no volume needs. Hard links become files of their own, holes stay holes;
//! extended attributes and ACLs are not copied. The original is left as it is: what its owner has closed ends the copy.

use std::ops::Range;

use nix::fcntl::OFlag;
use nix::unistd::Whence;

use super::super::hands::Hands;
use super::super::walk::look_up;
use super::tree::part;
use crate::backing::{BackingFs, Errno, Found, Freshness, Name, NewTime, WriteHow};
use crate::policy::{Credentials, FileKind, NewMode, Operation, Owner, Permissions};

/// How deep a content may be nested.
const MAX_DEPTH: usize = 256;
/// How much is copied at once, in bytes.
const CHUNK: usize = 1 << 20;
/// How long a run of zeros in a file with holes is taken for one of them, in bytes.
const HOLE: usize = 64 << 10;
/// What is copied of a file's mode: suid and sgid were its owner's to give.
const FILE_BITS: Permissions = Permissions::from_mode(0o1777);

/// The object, below what is copied, that could not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stuck {
    pub(super) at: String,
    pub(super) errno: Errno,
}

impl From<Errno> for Stuck {
    fn from(errno: Errno) -> Self {
        Self { at: String::new(), errno }
    }
}

impl Stuck {
    fn below(self, name: Name<'_>) -> Self {
        let slash = if self.at.is_empty() { "" } else { "/" };
        let at = format!("{}{slash}{}", String::from_utf8_lossy(name.as_bytes()), self.at);
        Self { at, ..self }
    }
}

/// Copies all that is in `from` into `to`, which is empty.
pub(super) fn tree<B: BackingFs>(
    backing: &B,
    hands: &Hands<'_>,
    from: &Found<B::Node>,
    to: &Found<B::Node>,
) -> Result<(), Stuck> {
    Copy { backing, hands, top: from, new: to }.directory(from, to, 0)
}

struct Copy<'a, B: BackingFs> {
    backing: &'a B,
    hands: &'a Hands<'a>,
    top: &'a Found<B::Node>,
    new: &'a Found<B::Node>,
}

/// What becomes of zeros that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zeros {
    Write,
    /// For a file of which nobody tells where its holes are.
    LeaveOut,
}

impl<B: BackingFs> Copy<'_, B> {
    fn directory(&self, from: &Found<B::Node>, to: &Found<B::Node>, depth: usize) -> Result<(), Stuck> {
        if depth > MAX_DEPTH {
            return Err(Errno::ENAMETOOLONG.into());
        }
        let mut next = Some(0);
        while let Some(at) = next {
            let part = part(self.backing, self.hands, from, at)?;
            for name in &part.names {
                let name = Name::new(name)?;
                match self.object(from, to, name, depth) {
                    // Removed meanwhile.
                    Ok(()) | Err(Stuck { errno: Errno::ENOENT, .. }) => {}
                    Err(stuck) => return Err(stuck.below(name)),
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
    ) -> Result<(), Stuck> {
        let found = look_up(self.backing, self.hands, from, name)?;
        if found.id.mount != self.top.id.mount {
            return Err(Errno::EXDEV.into());
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
                self.finish(&found, &made, permissions)?;
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
                self.finish(&found, &made, permissions.without(Permissions::ALL.without(FILE_BITS)))?;
            }
            FileKind::Symlink => {
                let target = self.hands.attempt(Operation::Look, Some(owner), None, |who| {
                    self.backing.readlink(who, &found.node)
                })?;
                let target = std::ffi::CString::new(target).map_err(|_| Errno::EINVAL)?;
                self.make(owner, into, |who| self.backing.symlink(who, &target, &to.node, name))?;
            }
            FileKind::Fifo | FileKind::Socket => {
                let (kind, bits) = (found.attr.kind, mode(permissions));
                self.make(owner, into, |who| self.backing.mknod(who, &to.node, name, kind, bits, 0))?;
            }
            FileKind::CharDevice | FileKind::BlockDevice => {
                tracing::warn!(?name, "a device node is not copied");
            }
        }
        Ok(())
    }

    /// Makes something as the original's owner where the rules allow, else as whoever may.
    fn make(
        &self,
        owner: Owner,
        into: Owner,
        work: impl FnMut(&Credentials) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        self.hands.attempt(Operation::Create, Some(owner), Some(into), work)
    }

    /// As much as there was when it began: a file that grows has no other end.
    fn content(&self, who: &Credentials, from: &B::File, to: &B::File) -> Result<(), Errno> {
        let attr = self.backing.stat_file(from, Freshness::AsStat)?;
        let end = attr.size;
        let has_holes = attr.blocks.saturating_mul(512) < end;
        let mut at = 0;
        while at < end {
            // NFSv3 does not tell holes from data: then all is data.
            let data = match self.backing.seek(from, at, Whence::SeekData) {
                Ok(data) => data.clamp(at, end),
                Err(Errno::ENXIO) => end,
                Err(_) => at,
            };
            let hole = self.backing.seek(from, data, Whence::SeekHole).unwrap_or(end);
            let hole = if hole > data { hole.min(end) } else { end };
            let untold = has_holes && data == 0 && hole == end;
            let copied = match untold {
                true => self.read_and_write(who, from, to, data..hole, Zeros::LeaveOut)?,
                false => self.extent(who, from, to, data..hole)?,
            };
            if copied < hole {
                // It was cut meanwhile.
                return Ok(());
            }
            at = hole;
        }
        // A hole at the end was not written.
        if has_holes { self.backing.truncate_file(who, to, end) } else { Ok(()) }
    }

    /// Copies a range of data; says how far it came.
    fn extent(
        &self,
        who: &Credentials,
        from: &B::File,
        to: &B::File,
        range: Range<u64>,
    ) -> Result<u64, Errno> {
        let mut at = range.start;
        while at < range.end {
            match self.backing.copy_range(who, from, at, to, at, chunk(range.end - at)) {
                Ok(0) => break,
                Ok(copied) => at = advance(at, copied),
                Err(Errno::EXDEV | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS) => break,
                Err(errno) => return Err(errno),
            }
        }
        // What the kernel does not copy by itself.
        self.read_and_write(who, from, to, at..range.end, Zeros::Write)
    }

    /// Copies a range without the kernel's help; says how far it came.
    fn read_and_write(
        &self,
        who: &Credentials,
        from: &B::File,
        to: &B::File,
        range: Range<u64>,
        zeros: Zeros,
    ) -> Result<u64, Errno> {
        let mut at = range.start;
        let mut buffer = Vec::new();
        while at < range.end {
            buffer.resize(chunk(range.end - at), 0);
            let read = self.backing.read(from, &mut buffer, at)?;
            if read == 0 {
                break;
            }
            let block = if zeros == Zeros::LeaveOut { HOLE } else { CHUNK };
            for part in buffer[..read].chunks(block) {
                if zeros == Zeros::Write || part.iter().any(|&byte| byte != 0) {
                    self.write(who, to, part, at)?;
                }
                at = advance(at, part.len());
            }
        }
        Ok(at)
    }

    fn write(&self, who: &Credentials, to: &B::File, mut rest: &[u8], mut at: u64) -> Result<(), Errno> {
        while !rest.is_empty() {
            let written = self.backing.write(who, to, rest, at, WriteHow::default())?;
            if written == 0 {
                return Err(Errno::EIO);
            }
            at = advance(at, written);
            rest = &rest[written..];
        }
        Ok(())
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

fn advance(at: u64, by: usize) -> u64 {
    u64::try_from(by).map_or(at, |by| at + by)
}

fn chunk(length: u64) -> usize {
    usize::try_from(length).unwrap_or(CHUNK).min(CHUNK)
}

fn mode(permissions: Permissions) -> NewMode {
    NewMode { permissions, umask: Permissions::NONE, setgid: false }
}
