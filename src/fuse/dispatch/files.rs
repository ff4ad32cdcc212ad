//! Opening files, and working on open ones.

use nix::fcntl::OFlag;
use nix::unistd::Whence;
use zerocopy::IntoBytes;

use super::Server;
use crate::fs::{BackingFs, CallerId, Entry, Errno, FileHandleId, NodeId, Opened, WriteHow};
use crate::fuse::decode::CopyRange;
use crate::fuse::encode;
use crate::fuse::reply::{Delivery, Reply};
use crate::fuse::wire::{CopyFileRangeOut, CreateOut, LseekOut, WriteOut};

/// The longest copy whose length the short answer can tell, in whole pages, as the kernel limits it too.
const LONGEST_NARROW_COPY: usize = 0xffff_f000;

impl<B: BackingFs> Server<B> {
    pub(super) fn open(
        &self,
        reply: Reply<'_>,
        caller: CallerId,
        node: NodeId,
        flags: OFlag,
        clears_set_ids: bool,
    ) {
        let opened = self.fs.open(caller, node, flags).and_then(|opened| {
            if clears_set_ids {
                self.fs
                    .clear_set_ids(caller, node, Some(opened.handle))
                    .inspect_err(|_| self.fs.release(opened.handle))?;
            }
            Ok(opened)
        });
        match opened {
            Ok(opened) => {
                if reply.bytes(encode::opened_file(&opened).as_bytes()) == Delivery::Lost {
                    self.fs.release(opened.handle);
                }
            }
            Err(error) => reply.error(error),
        }
    }

    /// Answers with a file just made: it counts one lookup, and is open.
    pub(super) fn created(&self, reply: Reply<'_>, made: Result<(Entry, Opened), Errno>) {
        match made {
            Ok((entry, opened)) => {
                let out = CreateOut { entry: encode::entry(&entry), open: encode::opened_file(&opened) };
                if reply.bytes(out.as_bytes()) == Delivery::Lost {
                    self.fs.release(opened.handle);
                    self.fs.forget_unanswered(entry.node);
                }
            }
            Err(error) => reply.error(error),
        }
    }

    /// Reads into the answer's own buffer, from where the kernel takes it.
    pub(super) fn read(
        &self,
        reply: Reply<'_>,
        caller: CallerId,
        node: NodeId,
        handle: FileHandleId,
        offset: u64,
        buffer: &mut [u8],
    ) {
        match self.fs.read(caller, node, handle, offset, buffer) {
            Ok(length) => match buffer.get(..length) {
                Some(data) => _ = reply.bytes(data),
                None => reply.error(Errno::EIO),
            },
            Err(error) => reply.error(error),
        }
    }

    pub(super) fn write(
        &self,
        reply: Reply<'_>,
        caller: CallerId,
        handle: FileHandleId,
        offset: u64,
        data: &[u8],
        how: WriteHow,
    ) {
        let written = self.fs.write(caller, handle, offset, data, how);
        reply.value(written.map(|length| WriteOut { size: encode::saturate(length), padding: 0 }));
    }

    pub(super) fn lseek(
        &self,
        reply: Reply<'_>,
        caller: CallerId,
        node: NodeId,
        handle: FileHandleId,
        offset: u64,
        whence: Whence,
    ) {
        reply.value(self.fs.lseek(caller, node, handle, offset, whence).map(|offset| LseekOut { offset }));
    }

    pub(super) fn copy_file_range(&self, reply: Reply<'_>, caller: CallerId, copy: &CopyRange) {
        let length = if copy.wide { copy.length } else { copy.length.min(LONGEST_NARROW_COPY) };
        let copied =
            self.fs.copy_file_range(caller, copy.from, copy.from_offset, copy.to, copy.to_offset, length);
        if copy.wide {
            let bytes = |copied| u64::try_from(copied).unwrap_or(u64::MAX);
            reply.value(copied.map(|copied| CopyFileRangeOut { bytes_copied: bytes(copied) }));
        } else {
            reply.value(copied.map(|copied| WriteOut { size: encode::saturate(copied), padding: 0 }));
        }
    }
}
