//! A session whose kernel is played by this test, over a socket: the handshake, requests good and bad, answers that do
//! not arrive. The file system behind it is the real one, over an export in memory. What a real kernel adds is in
//! the tests that mount.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use permfs::backing::model::ModelBacking;
use permfs::config::{Overrides, RulesFile};
use permfs::fs::{Filesystem, Population};
use permfs::fuse::{Device, Session, SessionOptions};

const RULES: &str = "
version = 1
[profile.airflow]
uid = [ { pod = 50000, nfs = 2001 } ]
gid = [ { pod = 0, nfs = 2001 } ]
[profile.airflow.cache]
negative_timeout = \"3s\"
";

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const MKDIR: u32 = 9;
const READ: u32 = 15;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const READDIRPLUS: u32 = 44;
const CREATE: u32 = 35;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

/// How long what must come may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The kernel's end of a session.
struct Kernel {
    socket: UnixStream,
    unique: u64,
    session: Session,
    fs: Arc<Filesystem<ModelBacking>>,
}

impl Kernel {
    fn mounted() -> Self {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::empty()).unwrap();
        let mut socket = UnixStream::from(theirs);
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let policy =
            RulesFile::parse(RULES, "test.toml").unwrap().policy(None, &Overrides::default()).unwrap();
        let fs = Arc::new(Filesystem::new(ModelBacking::default(), Arc::new(policy)).unwrap());
        // Every flag but the reserved one.
        let offer = words(&[7, 34, 131_072, !(1 << 31)]);
        socket.write_all(&message(2, INIT, 0, &offer)).unwrap();
        let session = Session::start(Device::from(ours), Arc::clone(&fs), SessionOptions::default()).unwrap();
        let mut kernel = Self { socket, unique: 2, session, fs };
        let (error, answer) = kernel.answer();
        assert_eq!((error, answer.len()), (0, 64));
        kernel
    }

    fn send(&mut self, opcode: u32, node: u64, body: &[u8]) {
        self.unique += 2;
        self.socket.write_all(&message(self.unique, opcode, node, body)).unwrap();
    }

    fn answer(&mut self) -> (i32, Vec<u8>) {
        let mut buffer = vec![0; 1 << 16];
        let length = self.socket.read(&mut buffer).unwrap();
        let (head, body) = buffer[..length].split_at(16);
        assert_eq!(u32::from_ne_bytes(head[..4].try_into().unwrap()), u32::try_from(length).unwrap());
        assert_eq!(head[8..], self.unique.to_ne_bytes());
        (-i32::from_ne_bytes(head[4..8].try_into().unwrap()), body.to_vec())
    }

    fn ask(&mut self, opcode: u32, node: u64, body: &[u8]) -> Result<Vec<u8>, i32> {
        self.send(opcode, node, body);
        match self.answer() {
            (0, body) => Ok(body),
            (error, _) => Err(error),
        }
    }

    /// The node id at the head of an entry.
    fn entry(&mut self, opcode: u32, node: u64, body: &[u8]) -> u64 {
        word(&self.ask(opcode, node, body).unwrap(), 0)
    }

    fn mkdir(&mut self, name: &str) -> u64 {
        self.entry(MKDIR, 1, &[&words(&[0o755, 0o22]), name.as_bytes(), b"\0"].concat())
    }

    fn population(&self) -> Population {
        self.fs.population()
    }

    /// Waits for forgets: nobody answers them, and what is asked after one may be answered before it by another worker.
    #[track_caller]
    fn comes_to_know_the_root_alone(&self) {
        let begun = Instant::now();
        while self.population().inodes > 1 {
            assert!(begun.elapsed() < PATIENCE, "{:?}", self.population());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn message(unique: u64, opcode: u32, node: u64, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(40 + body.len()).unwrap();
    let ids = words(&[50000, 0, 0, 0]);
    [&words(&[length, opcode]), &unique.to_ne_bytes()[..], &node.to_ne_bytes(), &ids, body].concat()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// A read_in: handle, offset, size.
fn read_in(handle: u64, offset: u64, size: u32) -> Vec<u8> {
    [&handle.to_ne_bytes()[..], &offset.to_ne_bytes(), &words(&[size]), &[0; 20]].concat()
}

#[test]
fn a_lookup_finds_what_mkdir_made_and_forgets_give_it_back() {
    let mut kernel = Kernel::mounted();
    let made = kernel.mkdir("dir");
    assert_eq!(kernel.entry(LOOKUP, 1, b"dir\0"), made);
    assert_eq!(kernel.population().inodes, 2);
    let both = [&words(&[1, 0]), &made.to_ne_bytes()[..], &1u64.to_ne_bytes()].concat();
    kernel.send(BATCH_FORGET, 0, &both);
    kernel.send(FORGET, made, &1u64.to_ne_bytes());
    // No answer to either: the next one is the lookup's.
    assert_eq!(kernel.ask(LOOKUP, 1, b"none\0").map(|entry| word(&entry, 0)), Ok(0));
    kernel.comes_to_know_the_root_alone();
}

#[test]
fn a_name_that_does_not_exist_is_remembered_for_the_negative_timeout() {
    let mut kernel = Kernel::mounted();
    let entry = kernel.ask(LOOKUP, 1, b"none\0").unwrap();
    assert_eq!((entry.len(), word(&entry, 0), word(&entry, 16)), (128, 0, 3));
}

#[test]
fn bad_requests_are_refused_and_the_session_goes_on() {
    let mut kernel = Kernel::mounted();
    for (opcode, node, body, error) in [
        (4095, 1, &b""[..], libc::ENOSYS),
        (LOOKUP, 1, b"no end", libc::EIO),
        (LOOKUP, 1, b"..\0", libc::EINVAL),
        (LOOKUP, 0, b"x\0", libc::EIO),
        (GETATTR, 1, b"short", libc::EIO),
        (READ, 1, &read_in(99, 0, u32::MAX), libc::EBADF),
        (INIT, 0, &[0; 64], libc::EIO),
        (39, 1, &[0; 32], libc::ENOTTY),
    ] {
        assert_eq!(kernel.ask(opcode, node, body), Err(error), "opcode {opcode}");
    }
    // Neither answered nor fatal: no head, a lying head, and what has no answer.
    kernel.socket.write_all(b"x").unwrap();
    kernel.socket.write_all(&[0xff; 40]).unwrap();
    kernel.send(BATCH_FORGET, 0, &words(&[u32::MAX, 0]));
    kernel.send(INTERRUPT, 0, &7u64.to_ne_bytes());
    assert!(kernel.ask(GETATTR, 1, &[0; 16]).is_ok());
}

#[test]
fn listings_count_a_lookup_for_each_entry_but_the_dots() {
    let mut kernel = Kernel::mounted();
    let made = kernel.mkdir("one");
    kernel.send(FORGET, made, &1u64.to_ne_bytes());
    kernel.comes_to_know_the_root_alone();
    let handle = 0;
    assert_eq!(kernel.ask(OPENDIR, 1, &[0; 8]), Err(libc::ENOSYS), "it need not be asked");
    let plain = kernel.ask(READDIR, 1, &read_in(handle, 0, 4096)).unwrap();
    assert!(plain.windows(3).any(|bytes| bytes == b"one"));
    assert_eq!(kernel.population().inodes, 1);
    let plus = kernel.ask(READDIRPLUS, 1, &read_in(handle, 0, 4096)).unwrap();
    assert!(plus.windows(3).any(|bytes| bytes == b"one"));
    assert_eq!(kernel.population().inodes, 2);
    // Less than an entry's head: nothing fits, nothing is counted.
    assert_eq!(kernel.ask(READDIRPLUS, 1, &read_in(handle, 0, 100)), Ok(Vec::new()));
}

#[test]
fn what_an_answer_that_never_arrived_opened_and_counted_is_taken_back() {
    let mut kernel = Kernel::mounted();
    kernel.mkdir("dir");
    let before = kernel.population();
    let create = [&words(&[0o102, 0o100_644, 0o22, 0]), &b"file\0"[..]].concat();
    // The kernel reads no more answers, but the requests are on their way already.
    kernel.socket.shutdown(std::net::Shutdown::Read).unwrap();
    kernel.send(CREATE, 1, &create);
    kernel.send(LOOKUP, 1, b"file\0");
    kernel.send(READDIRPLUS, 1, &read_in(0, 0, 4096));
    kernel.socket.shutdown(std::net::Shutdown::Write).unwrap();
    kernel.session.join().unwrap();
    assert_eq!(kernel.session.counters().requests, 4);
    assert_eq!(kernel.population(), before);
}

#[test]
fn the_end_of_the_connection_ends_the_session_and_the_counters_tell_what_it_did() {
    let mut kernel = Kernel::mounted();
    kernel.mkdir("dir");
    assert_eq!(kernel.ask(LOOKUP, 1, b"a/b\0"), Err(libc::EINVAL));
    let names: Vec<_> = kernel.session.features().names().collect();
    for name in ["killpriv_v2", "posix_locks", "flock_locks", "readdirplus", "max_pages"] {
        assert!(names.contains(&name), "{names:?}");
    }
    kernel.socket.shutdown(std::net::Shutdown::Both).unwrap();
    kernel.session.join().unwrap();
    let counters = kernel.session.counters();
    assert_eq!((counters.requests, counters.errors, counters.panics), (2, 1, 0));
    assert_eq!(counters.by_opcode.get("mkdir"), Some(&1));
}

#[test]
fn that_a_file_is_no_terminal_is_an_answer_and_counts_as_no_error() {
    const IOCTL: u32 = 39;
    const TCGETS: u32 = 0x5401;
    let mut kernel = Kernel::mounted();
    assert_eq!(kernel.ask(IOCTL, 1, &words(&[1, 0, 0, TCGETS, 0, 0, 0, 0])), Err(libc::ENOTTY));
    kernel.socket.shutdown(std::net::Shutdown::Both).unwrap();
    kernel.session.join().unwrap();
    let counters = kernel.session.counters();
    assert_eq!((counters.requests, counters.errors), (1, 0));
}
