//! Work on files that are open: NFS does it as the opener, whoever asks.

use std::ops::Deref;
use std::sync::Arc;

use nix::fcntl::FallocateFlags;
use nix::unistd::Whence;

use super::handles::OpenFile;
use super::{CallerId, Errno, FileHandleId, Filesystem, NodeId, SuidBits, WriteHow};
use crate::backing::BackingFs;
use crate::policy::Credentials;

impl<B: BackingFs> Filesystem<B> {
    /// pread(2); short only at the end of the file.
    ///
    /// # Errors
    /// The backing's.
    pub fn read(
        &self,
        caller: CallerId,
        node: NodeId,
        handle: FileHandleId,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, Errno> {
        let open = self.file(caller, node, handle)?;
        self.backing.read(self.at_hand(&open)?, buffer, offset)
    }

    /// pwrite(2). Under a translation no writer has the power to keep suid on what it changes: root of a container may
    /// have CAP_FSETID, but it writes as somebody else here.
    ///
    /// # Errors
    /// The backing's.
    pub fn write(
        &self,
        caller: CallerId,
        handle: FileHandleId,
        offset: u64,
        data: &[u8],
        mut how: WriteHow,
    ) -> Result<usize, Errno> {
        let open = self.handles.file(handle)?;
        if how.suid == SuidBits::Keep && !self.reign.load().transparent {
            how.suid = SuidBits::AsOpener;
        }
        if how.append && self.appended_before(&open, data)? {
            return Ok(data.len());
        }
        if !how.written_back {
            open.inode.told.forgets();
        }
        self.backing.write(&self.writer(caller, &open), self.at_hand(&open)?, data, offset, how)
    }

    /// fsync(2), or fdatasync(2).
    ///
    /// # Errors
    /// The backing's: what the server said of earlier writes.
    pub fn fsync(
        &self,
        caller: CallerId,
        node: NodeId,
        handle: FileHandleId,
        data_only: bool,
    ) -> Result<(), Errno> {
        let open = self.file(caller, node, handle)?;
        self.backing.fsync(self.at_hand(&open)?, data_only)
    }

    /// fallocate(2).
    ///
    /// # Errors
    /// EOPNOTSUPP where the backing has none of it (NFSv3), else the backing's.
    pub fn fallocate(
        &self,
        caller: CallerId,
        handle: FileHandleId,
        flags: FallocateFlags,
        offset: u64,
        length: u64,
    ) -> Result<(), Errno> {
        let open = self.handles.file(handle)?;
        self.backing.fallocate(&self.writer(caller, &open), self.at_hand(&open)?, flags, offset, length)
    }

    /// lseek(2) with SEEK_DATA or SEEK_HOLE.
    ///
    /// # Errors
    /// ENXIO past the end, else the backing's.
    pub fn lseek(
        &self,
        caller: CallerId,
        node: NodeId,
        handle: FileHandleId,
        offset: u64,
        whence: Whence,
    ) -> Result<u64, Errno> {
        let open = self.file(caller, node, handle)?;
        self.backing.seek(self.at_hand(&open)?, offset, whence)
    }

    /// copy_file_range(2): NFSv4.2 copies on the server.
    ///
    /// # Errors
    /// EXDEV, EOPNOTSUPP: the caller then copies by itself; else the backing's.
    pub fn copy_file_range(
        &self,
        caller: CallerId,
        from: FileHandleId,
        from_offset: u64,
        to: FileHandleId,
        to_offset: u64,
        length: usize,
    ) -> Result<usize, Errno> {
        let (from, to) = (self.handles.file(from)?, self.handles.file(to)?);
        self.backing.copy_range(
            &self.writer(caller, &to),
            self.at_hand(&from)?,
            from_offset,
            self.at_hand(&to)?,
            to_offset,
            length,
        )
    }

    /// Who changes content through an open file. Its opener, as on NFS; but where nothing is translated, whoever asks:
    /// the local kernel looks at them to decide about suid and sgid.
    pub(super) fn writer<'a>(&self, caller: CallerId, open: &'a OpenFile<B>) -> Writer<'a> {
        let reign = self.reign.load();
        if !reign.transparent {
            return Writer::Opener(&open.opener);
        }
        reign.callers.admit(&reign.policy, caller).map_or(Writer::Opener(&open.opener), Writer::Asker)
    }
}

/// See [`Filesystem::writer`].
#[derive(Debug)]
pub(super) enum Writer<'a> {
    /// Who opened the file.
    Opener(&'a Credentials),
    /// Who asks.
    Asker(Arc<Credentials>),
}

impl Deref for Writer<'_> {
    type Target = Credentials;

    fn deref(&self) -> &Credentials {
        match self {
            Self::Opener(opener) => opener,
            Self::Asker(asker) => asker,
        }
    }
}
