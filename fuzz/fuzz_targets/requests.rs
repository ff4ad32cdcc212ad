//! A malicious kernel: any bytes as a stream of FUSE requests, after a handshake, to a session over an export in memory.
//!
//! The input is a list of requests: two bytes of length, then a request without the length at its head, which is written
//! truthfully, or as it stands where the opcode's highest bit is set. What must hold: nothing panics, the session goes on, each request has one
//! answer or, where the protocol says so, none, and each answer's head is true.

#![no_main]

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use permfs::backing::model::ModelBacking;
use permfs::config::{Overrides, RulesFile};
use permfs::fs::Filesystem;
use permfs::fuse::{Device, Session, SessionOptions};
use permfs::policy::Policy;

const RULES: &str = "
version = 1
[profile.airflow]
uid = [ { pod = 50000, nfs = 2001 } ]
gid = [ { pod = 0, nfs = 2001 } ]
";

/// Requests of one input.
const MOST: usize = 64;
/// Bytes of a request's head.
const HEAD: usize = 40;
const FORGET: u32 = 2;
const INIT: u32 = 26;
const SETLKW: u32 = 33;
const INTERRUPT: u32 = 36;
const DESTROY: u32 = 38;
const NOTIFY_REPLY: u32 = 41;
const BATCH_FORGET: u32 = 42;

static POLICY: LazyLock<Arc<Policy>> = LazyLock::new(|| {
    let rules = RulesFile::parse(RULES, "fuzz.toml").expect("the rules parse");
    Arc::new(rules.policy(None, &Overrides::default()).expect("the rules hold"))
});

fuzz_target!(|input: &[u8]| {
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::empty()).expect("a socket pair");
    let mut kernel = UnixStream::from(theirs);
    kernel.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let fs = Filesystem::new(ModelBacking::default(), Arc::clone(&POLICY)).expect("the root is there");
    let offer: Vec<u8> =
        [7, 40, 131_072, !(1_u32 << 31)].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut hello = vec![0; HEAD];
    hello.extend(offer);
    kernel.write_all(&sealed(hello, INIT, 1)).expect("a greeting");
    let session =
        Session::start(Device::from(ours), Arc::new(fs), SessionOptions::default()).expect("a session");
    let mut answers = Answers { kernel, due: HashMap::from([(1, true)]) };
    answers.await_all();

    for (unique, mut request) in (2_u64..).step_by(2).zip(requests(input)) {
        let raw = u32::from_ne_bytes(request[4..8].try_into().expect("four bytes"));
        // INIT again ends nothing, DESTROY ends the session, and a lock's waiter may wait for ever.
        let opcode = match raw & 0x7fff_ffff {
            INIT | DESTROY | SETLKW => continue,
            opcode => opcode,
        };
        let lies = raw != opcode;
        let length = request[..4].to_vec();
        request = sealed(request, opcode, unique);
        if lies {
            request[..4].copy_from_slice(&length);
        }
        // Extensions follow the body. A request whose head does not fit its length is dropped: it may be anybody's.
        let extensions = 8 * usize::from(u16::from_ne_bytes(request[36..38].try_into().expect("two bytes")));
        let told = u32::from_ne_bytes(request[..4].try_into().expect("four bytes"));
        let whole = usize::try_from(told) == Ok(request.len()) && HEAD + extensions <= request.len();
        let unanswered = !whole || [FORGET, BATCH_FORGET, INTERRUPT, NOTIFY_REPLY].contains(&opcode);
        answers.due.insert(unique, !unanswered);
        answers.kernel.write_all(&request).expect("the session reads");
        // One at a time: the answer to this one is to be told from what follows.
        answers.await_all();
    }
    // It still serves: statfs of the root.
    let last = 1_u64 << 40;
    answers.due.insert(last, true);
    let mut statfs = vec![0; HEAD];
    statfs[16..24].copy_from_slice(&1_u64.to_ne_bytes());
    answers.kernel.write_all(&sealed(statfs, 17, last)).expect("the session reads");
    answers.await_all();
    drop(answers);
    session.join().expect("the end of the connection ends the session");
});

/// The requests of an input, each with at least a head.
fn requests(mut input: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    std::iter::from_fn(move || {
        let (length, rest) = input.split_first_chunk::<2>()?;
        let (request, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
        input = rest;
        let mut request = request.to_vec();
        request.resize(request.len().max(HEAD), 0);
        Some(request)
    })
    .take(MOST)
}

/// With a true length, this opcode and this number at its head.
fn sealed(mut request: Vec<u8>, opcode: u32, unique: u64) -> Vec<u8> {
    let length = u32::try_from(request.len()).expect("a short request");
    request[..4].copy_from_slice(&length.to_ne_bytes());
    request[4..8].copy_from_slice(&opcode.to_ne_bytes());
    request[8..16].copy_from_slice(&unique.to_ne_bytes());
    request
}

/// What the kernel reads.
struct Answers {
    kernel: UnixStream,
    /// Requests that have no answer yet, and whether they must have one.
    due: HashMap<u64, bool>,
}

impl Answers {
    /// Reads until each request that must be answered is.
    fn await_all(&mut self) {
        let mut buffer = vec![0; (1 << 20) + 4096];
        while self.due.values().any(|must| *must) {
            let length = match self.kernel.read(&mut buffer) {
                // libFuzzer's own clock.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read.expect("an answer within ten seconds"),
            };
            let head = buffer[..length].first_chunk::<16>().expect("a whole head");
            let word = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().expect("four bytes"));
            let error = i32::from_ne_bytes(word(4).to_ne_bytes());
            let unique = u64::from_ne_bytes(head[8..].try_into().expect("eight bytes"));
            assert_eq!(usize::try_from(word(0)), Ok(length), "the length at the head");
            if unique == 0 {
                assert!(error > 0, "a notification has a number above 0: {error}");
                continue;
            }
            assert!((-4095..=0).contains(&error), "an error that is none: {error}");
            assert!(error == 0 || length == 16, "an error with a payload");
            assert_eq!(self.due.remove(&unique), Some(true), "an answer nobody waits for, or a second one");
        }
        self.due.clear();
    }
}
