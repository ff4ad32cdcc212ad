//! A mount being served: the handshake, then the workers, until the kernel ends it.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use zerocopy::{FromBytes, IntoBytes};

use super::counters::Counters;
use super::decode::{Dialect, Header};
use super::device::{Device, Received};
use super::dispatch::Server;
use super::late;
use super::negotiate::{Agreement, Features, InitFlags, OLDEST_MINOR, Wishes, negotiate};
use super::notify::OurKernel;
use super::opcode::Opcode;
use super::pool::Pool;
use super::reply::later;
use super::settled::{Settled, Unsettled};
use super::wire::{IN_HEADER, InitIn};
use crate::fs::{BackingFs, Errno, Filesystem, RequestId};
use crate::policy::Policy;
use crate::state::session::SessionData;
use crate::state::slot::{Left, Slot};
use crate::sys::fault;

/// How to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOptions {
    /// Workers to start with; the pool grows to [`super::MAX_WORKERS`] by itself.
    pub threads: usize,
}

impl Default for SessionOptions {
    /// One; the pool sees to it that there are as many as help.
    fn default() -> Self {
        Self { threads: 1 }
    }
}

/// Why a mount cannot be served, or is no longer.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The connection was ended before it began.
    #[error("the mount was taken away before the kernel said hello")]
    Gone,
    /// The first request was none that a FUSE mount begins with.
    #[error("the kernel's first request is not INIT: the device already serves a mount, or is none")]
    NotInit,
    /// The kernel's protocol is too old.
    #[error("the kernel speaks FUSE {major}.{minor}, permfs needs 7.{OLDEST_MINOR} (Linux 5.5) or newer")]
    TooOld {
        /// Its major version.
        major: u32,
        /// Its minor version.
        minor: u32,
    },
    /// Reading or writing the device failed.
    #[error("/dev/fuse: {0}")]
    Device(Errno),
    /// No worker could be started.
    #[error("no worker thread can be started: {0}")]
    Worker(Errno),
}

/// A mount that is being served.
#[derive(Debug)]
pub struct Session {
    pool: Arc<Pool>,
    features: Features,
    settled: Settled,
}

impl Session {
    /// Shakes hands with the kernel and starts the workers. Returns once requests are answered.
    ///
    /// # Errors
    /// Where the handshake fails or no worker starts; the mount is then without a daemon, and is the caller's to unmount.
    pub fn start<B: BackingFs>(
        device: Device,
        fs: Arc<Filesystem<B>>,
        options: SessionOptions,
    ) -> Result<Self, SessionError> {
        let settled = Settled::of(&fs);
        let features = shake_hands(&device, settled.wishes)?;
        let (flags, minor) = features.numbers();
        fs.state().session.set(SessionData { device: device.as_fd().as_raw_fd(), flags, minor });
        let pool = prepare(device, &fs, &features);
        pool.start(options.threads).map_err(SessionError::Worker)?;
        Ok(Self { pool, features, settled })
    }

    /// Goes on with a session whose process has died, on the same device, with the requests that it had in hand. The kernel
    /// notices nothing.
    ///
    /// # Errors
    /// Where nothing was left to go on with, or no worker starts.
    pub fn go_on<B: BackingFs>(
        device: Device,
        fs: &Arc<Filesystem<B>>,
        options: SessionOptions,
        mut slots: Vec<Slot>,
    ) -> Result<Self, SessionError> {
        let left = fs.state().session.get().ok_or(SessionError::NotInit)?;
        let features = Features::of_numbers(left.flags, left.minor);
        let pool = prepare(device, fs, &features);
        fault::point!("session: before registered files are given back");
        fs.give_back_registered();
        let held: Vec<Slot> = slots.extract_if(.., |slot| slot.control.is_held()).collect();
        for slot in &mut slots {
            settle(pool.device(), fs, slot);
        }
        fs.expect_releases(slots.iter().chain(&held).filter(|slot| is_release(slot)).count());
        let device = Arc::clone(pool.device());
        fault::point!("session: before waiting requests");
        fs.go_on_waiting(|request| later(&device, request));
        fault::point!("session: before workers start");
        pool.go_on(options.threads, slots).map_err(SessionError::Worker)?;
        late::wait_for(held, &pool, fs).map_err(SessionError::Worker)?;
        fault::point!("session: goes on");
        Ok(Self { pool, features, settled: Settled::of(fs) })
    }

    /// Waits until the mount is unmounted, or its connection aborted, and the last request is answered.
    ///
    /// # Errors
    /// Where reading requests failed for another reason.
    pub fn join(&self) -> Result<(), SessionError> {
        self.pool.join().map_err(SessionError::Device)
    }

    /// Whether the mount can go on under another policy.
    ///
    /// # Errors
    /// What stands in the way: it is settled with the kernel when a mount begins.
    pub fn allows(&self, policy: &Policy) -> Result<(), Unsettled> {
        self.settled.allows(policy, &self.features)
    }

    /// From now on no request is begun; those in hand are ended.
    pub fn stop(&self) {
        self.pool.stop();
    }

    /// Whether nothing is in hand any more, and will not be.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.pool.has_stopped()
    }

    /// What was agreed on with the kernel.
    #[must_use]
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.pool.counters()
    }
}

/// Empties a slot of what need not be begun again: it was answered, or somebody else answers it.
pub(super) fn settle<B: BackingFs>(device: &Device, fs: &Arc<Filesystem<B>>, slot: &mut Slot) {
    match slot.left() {
        // ENOENT: it was sent already.
        Left::Answer(answer) => _ = device.answer_again(&answer),
        Left::Abandoned => {
            if let Some(request) = slot.request() {
                let _ = device.refuse(RequestId(request), Errno::EINTR);
            }
        }
        Left::Request(_) if fs.is_waiting(slot) => {}
        Left::Request(_) => return,
        // Whoever had it may have died before it had cleared all of it.
        Left::Empty => {}
    }
    fault::point!("session: an answer was sent again");
    slot.clear();
}

/// Whether a close is left in a slot: a lock that it lets go must not be in the way of whoever asks for it next.
fn is_release(slot: &Slot) -> bool {
    let Left::Request(length) = slot.left() else { return false };
    let header = slot.buffer.get(..length).and_then(|message| Header::split(message).ok());
    header.is_some_and(|(header, _)| header.opcode == Some(Opcode::Release))
}

/// The workers, before they start.
fn prepare<B: BackingFs>(device: Device, fs: &Arc<Filesystem<B>>, features: &Features) -> Arc<Pool> {
    let dialect = Dialect { setxattr_ext: features.has(InitFlags::SETXATTR_EXT) };
    let device = Arc::new(device);
    let server = Server::new(Arc::clone(fs), Arc::clone(&device), dialect);
    let pool = Pool::new(device, Box::new(server), Arc::clone(fs.state()));
    fs.attach_kernel(Box::new(OurKernel::new(&pool, features.has_passthrough())));
    pool
}

/// Reads INIT and answers it; once more where the kernel speaks a newer major version.
pub(super) fn shake_hands(device: &Device, wishes: Wishes) -> Result<Features, SessionError> {
    // The kernel refuses to read into less (FUSE_MIN_READ_BUFFER).
    let mut buffer = [0; 8192];
    loop {
        let length = match device.receive(&mut buffer).map_err(SessionError::Device)? {
            Received::Request(length) => length,
            Received::Nothing => continue,
            Received::End => return Err(SessionError::Gone),
        };
        let (header, body) = Header::split(&buffer[..length]).map_err(|_| SessionError::NotInit)?;
        if header.opcode != Some(Opcode::Init) {
            return Err(SessionError::NotInit);
        }
        let offer = read_offer(body).ok_or(SessionError::NotInit)?;
        match negotiate(&offer, wishes) {
            Agreement::Reached(answer, features) => {
                device.answer(header.request, answer.as_bytes()).map_err(SessionError::Device)?;
                return Ok(features);
            }
            Agreement::AskAgain(answer) => {
                device.answer(header.request, answer.as_bytes()).map_err(SessionError::Device)?;
            }
            Agreement::TooOld => {
                // Whether the refusal arrives does not change that it is one.
                let _ = device.refuse(header.request, Errno::EPROTO);
                return Err(SessionError::TooOld { major: offer.major, minor: offer.minor });
            }
        }
    }
}

/// An INIT's body. Up to 7.35 it ends after `flags`: what is missing is zero.
fn read_offer(body: &[u8]) -> Option<InitIn> {
    const SHORTEST: usize = 16;
    const LONGEST: usize = size_of::<InitIn>();
    let given = body.get(..body.len().min(LONGEST)).filter(|given| given.len() >= SHORTEST)?;
    let mut whole = [0; LONGEST];
    whole[..given.len()].copy_from_slice(given);
    InitIn::read_from_bytes(&whole).ok()
}

const _: () = assert!(IN_HEADER == 40, "the head has had this size since 7.1");

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;
    use crate::fuse::wire::{InHeader, InitOut, OutHeader};

    /// Our end of a connection, and the end that plays the kernel.
    fn connection() -> (Device, UnixStream) {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::empty()).unwrap();
        (Device::from(ours), UnixStream::from(theirs))
    }

    fn send(kernel: &mut UnixStream, opcode: u32, body: &[u8]) {
        let header = InHeader {
            len: u32::try_from(IN_HEADER + body.len()).unwrap(),
            opcode,
            unique: 42,
            nodeid: 0,
            uid: 0,
            gid: 0,
            pid: 0,
            total_extlen: 0,
            padding: 0,
        };
        kernel.write_all(&[header.as_bytes(), body].concat()).unwrap();
    }

    fn answered(kernel: &mut UnixStream) -> (OutHeader, Vec<u8>) {
        let mut buffer = [0; 8192];
        let length = kernel.read(&mut buffer).unwrap();
        let (header, rest) = OutHeader::read_from_prefix(&buffer[..length]).unwrap();
        assert_eq!((header.unique, usize::try_from(header.len).unwrap()), (42, length));
        (header, rest.to_vec())
    }

    fn init(major: u32, minor: u32) -> [u8; 16] {
        let words = [major, minor, 131_072, !(1 << 31)];
        words.map(u32::to_ne_bytes).concat().try_into().unwrap()
    }

    #[test]
    fn an_old_kernels_short_init_is_answered_in_its_version() {
        let (device, mut kernel) = connection();
        send(&mut kernel, 26, &init(7, 34));
        let features = shake_hands(&device, Wishes::default()).unwrap();
        assert_eq!(features.protocol_minor(), 34);
        let (header, body) = answered(&mut kernel);
        let out = InitOut::read_from_bytes(&body).unwrap();
        assert_eq!((header.error, out.major, out.minor, out.max_write), (0, 7, 34, 1 << 20));
    }

    #[test]
    fn a_newer_major_version_asks_again() {
        let (device, mut kernel) = connection();
        send(&mut kernel, 26, &init(8, 3));
        send(&mut kernel, 26, &init(7, 45));
        shake_hands(&device, Wishes::default()).unwrap();
        let (_, first) = answered(&mut kernel);
        assert_eq!(InitOut::read_from_bytes(&first).unwrap().major, 7);
        let (_, second) = answered(&mut kernel);
        assert_eq!(InitOut::read_from_bytes(&second).unwrap().max_pages, 256);
    }

    #[test]
    fn a_kernel_that_is_too_old_is_refused() {
        let (device, mut kernel) = connection();
        send(&mut kernel, 26, &init(7, 30));
        let refused = shake_hands(&device, Wishes::default()).unwrap_err();
        assert!(refused.to_string().contains("7.30"), "{refused}");
        assert_eq!(answered(&mut kernel).0.error, -libc::EPROTO);
    }

    #[test]
    fn what_does_not_begin_with_init_is_no_mount_of_ours() {
        for (opcode, body) in [(1, &b"name\0"[..]), (26, &[0; 15][..]), (9999, &[][..])] {
            let (device, mut kernel) = connection();
            send(&mut kernel, opcode, body);
            assert!(matches!(shake_hands(&device, Wishes::default()), Err(SessionError::NotInit)));
        }
        let (device, kernel) = connection();
        drop(kernel);
        assert!(matches!(shake_hands(&device, Wishes::default()), Err(SessionError::Gone)));
    }
}
