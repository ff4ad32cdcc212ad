//! Requests to the file system's operations, and what those say back to the kernel: one small function for each.
//!
//! An answer that does not arrive (the connection was aborted meanwhile) is undone where it counted a lookup or opened
//! something: the kernel will not forget or release what it was never told of.

mod attrs;
mod dirs;
mod files;
mod locks;
mod names;
mod xattrs;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::bystander::Bystander;
use super::counters::WorkerCounters;
use super::crowds::Crowds;
use super::decode::{Dialect, Header, Request, decode};
use super::device::Device;
use super::in_hand::{Looked, Overseer};
use super::opcode::Opcode;
use super::pool::Service;
use super::reply::Reply;
use crate::fs::{BackingFs, CallerId, Errno, FileHandleId, Filesystem};
use crate::state::journal;
use crate::state::slot::Ledger;

/// A file system behind a device.
#[derive(Debug)]
pub(crate) struct Server<B: BackingFs> {
    fs: Arc<Filesystem<B>>,
    device: Arc<Device>,
    dialect: Dialect,
    overseer: Overseer,
    bystander: Bystander<B>,
    crowds: Crowds,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    /// It was answered, or will be.
    Done,
    /// It was not, since something it went by was out of date.
    OutOfDate,
}

impl<B: BackingFs> Service for Server<B> {
    fn enter_thread(&self) -> Result<(), Errno> {
        self.fs.enter_thread()
    }

    fn serve(&self, message: &[u8], space: &mut [u8], ledger: &Ledger<'_>, counters: &WorkerCounters) {
        let Ok((header, body)) = Header::split(message) else {
            tracing::error!(length = message.len(), "a request without a head cannot be answered");
            return;
        };
        counters.request(header.opcode);
        if is_answered(header.opcode) {
            counters.in_hand.take(&header);
        }
        // What an operation shares with others it leaves whole at every step, so that a panic in it harms nobody else.
        let served = catch_unwind(AssertUnwindSafe(|| self.decoded(&header, body, space, ledger, counters)));
        if served.is_err() {
            counters.panic();
            tracing::error!(opcode = ?header.opcode, "an operation panicked; its caller gets EIO");
            self.refuse(&header, ledger, counters);
        }
        counters.in_hand.put_down();
    }

    fn give_up(&self, message: &[u8], ledger: &Ledger<'_>, counters: &WorkerCounters) {
        if let Ok((header, _)) = Header::split(message) {
            tracing::error!(opcode = ?header.opcode, "a request has ended several workers; its caller gets EIO");
            self.refuse(&header, ledger, counters);
        }
    }

    fn look_around(&self, workers: &[Arc<WorkerCounters>]) -> Looked {
        let answer = |looker| self.bystander.answer(looker);
        self.overseer.look(&self.device, &answer, workers.iter().map(|worker| &worker.in_hand))
    }
}

impl<B: BackingFs> Server<B> {
    pub(crate) fn new(fs: Arc<Filesystem<B>>, device: Arc<Device>, dialect: Dialect) -> Self {
        let bystander = Bystander::new(Arc::clone(&fs), Arc::clone(&device));
        Self { fs, device, dialect, overseer: Overseer::default(), bystander, crowds: Crowds::default() }
    }

    fn refuse(&self, header: &Header, ledger: &Ledger<'_>, counters: &WorkerCounters) {
        if is_answered(header.opcode) {
            Reply::new(&self.device, header.request, counters, ledger, &|_| false).error(Errno::EIO);
        }
    }

    /// Does what is asked; once more where a server has called an object stale, whose descriptor is then forgotten, so that it
    /// is found by its handle anew; and where it has refused a caller whose groups are not what they were. An open that is stale the
    /// kernel repeats itself (`do_filp_open`), and looks all its names up again for it, which is what some are sent back for.
    fn decoded(
        &self,
        header: &Header,
        body: &[u8],
        space: &mut [u8],
        ledger: &Ledger<'_>,
        counters: &WorkerCounters,
    ) {
        if self.attempt(header, body, space, ledger, counters, true) == Attempt::OutOfDate {
            self.attempt(header, body, space, ledger, counters, false);
        }
    }

    fn attempt(
        &self,
        header: &Header,
        body: &[u8],
        space: &mut [u8],
        ledger: &Ledger<'_>,
        counters: &WorkerCounters,
        first: bool,
    ) -> Attempt {
        let request = decode(header, body, self.dialect);
        let other = request.as_ref().ok().and_then(Request::other_node);
        let out_of_date = Cell::new(false);
        let again = |error| {
            let another = match error {
                Errno::ESTALE => {
                    header.node.into_iter().chain(other).for_each(|node| self.fs.stale(node));
                    first && !matches!(header.opcode, Some(Opcode::Open | Opcode::Create))
                }
                Errno::EACCES | Errno::EPERM => first && self.fs.has_other_groups(header.caller),
                _ => false,
            };
            out_of_date.set(another);
            another
        };
        let reply = Reply::new(&self.device, header.request, counters, ledger, &again);
        match request {
            // Every request to an export of several mounts counts at the mount that it asks.
            Ok(request) if self.fs.has_doors() && may_be_refused(header.opcode) => {
                let name = if let Request::Lookup { name, .. } = request { Some(name) } else { None };
                match header.node.and_then(|node| self.fs.mount_of(node, name)) {
                    None => self.act(header.caller, request, reply, space),
                    Some(mount) => match self.crowds.join(mount) {
                        Some(_present) => self.act(header.caller, request, reply, space),
                        None => reply.error(Errno::ETIMEDOUT),
                    },
                }
            }
            Ok(request) => self.act(header.caller, request, reply, space),
            Err(error) if is_answered(header.opcode) => reply.error(error),
            Err(error) => tracing::error!(opcode = ?header.opcode, %error, "a message makes no sense"),
        }
        if out_of_date.get() { Attempt::OutOfDate } else { Attempt::Done }
    }

    fn act(&self, caller: CallerId, request: Request<'_>, reply: Reply<'_>, space: &mut [u8]) {
        match request {
            Request::Lookup { parent, name } => self.lookup(reply, caller, parent, name),
            Request::Forget { node, lookups } if journal::forgotten() == 0 => self.fs.forget(node, lookups),
            Request::Forget { .. } => {}
            Request::BatchForget(forgets) => self.batch_forget(&forgets),

            Request::Getattr { node, handle } => self.getattr(reply, caller, node, handle),
            // Older kernels, and this one from now on, show no time of birth.
            Request::Statx { .. } if !self.fs.shows_birth() => reply.needless(),
            Request::Statx { node, handle } => self.statx(reply, caller, node, handle),
            Request::Setattr { node, change, clears_set_ids } => {
                self.setattr(reply, caller, node, &change, clears_set_ids);
            }
            Request::Access { node, mask } => reply.done(self.fs.access(caller, node, mask)),
            Request::Readlink { node } => self.readlink(reply, caller, node),
            Request::Statfs { node } => self.statfs(reply, caller, node),

            Request::Symlink { parent, name, target } => {
                self.entered(reply, self.fs.symlink(caller, parent, name, target));
            }
            Request::Mknod { parent, name, new } => {
                self.entered(reply, self.fs.mknod(caller, parent, name, &new));
            }
            Request::Mkdir { parent, name, permissions, umask } => {
                let made = self.fs.mkdir(caller, parent, name, permissions, umask);
                self.fs.has_changed(caller, &[parent], &made);
                self.entered(reply, made);
            }
            Request::Link { node, new_parent, new_name } => {
                self.entered(reply, self.fs.link(caller, node, new_parent, new_name));
            }
            Request::Unlink { parent, name } => {
                let removed = self.fs.unlink(caller, parent, name);
                self.fs.has_changed(caller, &[parent], &removed);
                reply.done(removed);
            }
            Request::Rmdir { parent, name } => {
                let removed = self.fs.rmdir(caller, parent, name);
                self.fs.has_changed(caller, &[parent], &removed);
                reply.done(removed);
            }
            Request::Rename { parent, name, new_parent, new_name, flags } => {
                let moved = self.fs.rename(caller, parent, name, new_parent, new_name, flags);
                self.fs.has_changed(caller, &[parent, new_parent], &moved);
                reply.done(moved);
            }

            // The kernel then opens files by itself from now on, too (FUSE_NO_OPEN_SUPPORT, Linux 3.16).
            Request::Open { .. } if self.fs.trusts_opens() => reply.needless(),
            Request::Open { node, flags, clears_set_ids } => {
                self.open(reply, caller, node, flags, clears_set_ids);
            }
            Request::Create { parent, name, flags, permissions, umask } => {
                self.created(reply, self.fs.create(caller, parent, name, flags, permissions, umask));
            }
            Request::Tmpfile { parent, flags, permissions, umask } => {
                self.created(reply, self.fs.tmpfile(caller, parent, flags, permissions, umask));
            }
            Request::Read { node, handle, offset, size } => {
                self.read(reply, caller, node, handle, offset, limited(space, size));
            }
            Request::Write { handle, offset, data, how } => {
                self.write(reply, caller, handle, offset, data, how);
            }
            Request::Flush { handle: FileHandleId::NONE, .. } => reply.needless(),
            Request::Flush { node, handle, owner } => reply.done(self.fs.flush(node, handle, owner)),
            Request::Fsync { node, handle, data_only } => {
                reply.done(self.fs.fsync(caller, node, handle, data_only));
            }
            Request::Release { handle } => {
                self.fs.release(handle);
                reply.done(Ok(()));
            }
            Request::Fallocate { handle, flags, offset, length } => {
                reply.done(self.fs.fallocate(caller, handle, flags, offset, length));
            }
            Request::Lseek { node, handle, offset, whence } => {
                self.lseek(reply, caller, node, handle, offset, whence);
            }
            Request::CopyFileRange(copy) => self.copy_file_range(reply, caller, &copy),

            // The kernel then opens directories by itself from now on (FUSE_NO_OPENDIR_SUPPORT, Linux 5.1).
            Request::Opendir => reply.needless(),
            Request::Readdir { node, from, size } => {
                self.readdir(reply, caller, node, from, limited(space, size));
            }
            Request::Readdirplus { node, from, size } => {
                self.readdirplus(reply, caller, node, from, limited(space, size));
            }
            // Of a directory that was opened before the kernel knew.
            Request::Releasedir => reply.done(Ok(())),
            Request::Fsyncdir { node, data_only } => {
                reply.done(self.fs.fsyncdir(caller, node, data_only));
            }

            Request::Getxattr { node, name, size } => {
                self.getxattr(reply, caller, node, name, limited(space, size));
            }
            Request::Listxattr { node, size } => self.listxattr(reply, caller, node, limited(space, size)),
            Request::Setxattr { node, name, value, flags, clears_setgid } => {
                let set = self.fs.setxattr(caller, node, name, value, flags);
                let clear = || if clears_setgid { self.fs.clear_setgid(caller, node) } else { Ok(()) };
                reply.done(set.and_then(|()| clear()));
            }
            Request::Removexattr { node, name } => reply.done(self.fs.removexattr(caller, node, name)),

            Request::Getlk { handle, lock } => self.getlk(reply, handle, &lock),
            Request::Setlk { handle, lock, waits: false } => {
                reply.done(self.fs.setlk(handle, &lock));
            }
            Request::Setlk { handle, lock, waits: true } => {
                let request = reply.request();
                self.fs.setlkw(handle, &lock, request, reply.later());
            }
            // No answer: the kernel asks once, and who waits is answered by its own reply.
            Request::Interrupt { request } => self.fs.interrupt(request),

            Request::Destroy => reply.done(Ok(())),
        }
    }
}

/// An opcode that is not known is answered: the kernel waits for all but a few.
fn is_answered(opcode: Option<Opcode>) -> bool {
    opcode.is_none_or(Opcode::is_answered)
}

/// Not where it gives something back, or asks no server.
fn may_be_refused(opcode: Option<Opcode>) -> bool {
    use Opcode::{Destroy, Flush, Interrupt, Release, Releasedir};
    is_answered(opcode) && !matches!(opcode, Some(Destroy | Flush | Interrupt | Release | Releasedir))
}

/// As much of the space as was asked for, or as there is.
fn limited(space: &mut [u8], size: usize) -> &mut [u8] {
    let size = size.min(space.len());
    &mut space[..size]
}
