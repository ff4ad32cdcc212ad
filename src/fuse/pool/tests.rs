//! The pool: who waits, who is summoned, who parks, and how it ends.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::worker::MAX_TRIES;
use super::*;

/// How long what must come may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers a request with itself; one that begins with `w` first waits for a permit.
struct Echo {
    device: Arc<Device>,
    permits: Mutex<Receiver<()>>,
    refuses: bool,
    held_up: Arc<AtomicUsize>,
}

impl Service for Echo {
    fn enter_thread(&self) -> Result<(), Errno> {
        if self.refuses { Err(Errno::EPERM) } else { Ok(()) }
    }

    fn serve(&self, message: &[u8], space: &mut [u8], _ledger: &Ledger<'_>, counters: &WorkerCounters) {
        counters.request(None);
        if message.starts_with(b"w") {
            // One at a time may ask; whoever is behind waits as well, which is the point.
            let permits = self.permits.lock().unwrap();
            permits.recv_timeout(PATIENCE).unwrap();
        }
        space[..message.len()].copy_from_slice(message);
        self.device.answer(crate::fs::RequestId(1), &space[..message.len()]).unwrap();
    }

    fn give_up(&self, _message: &[u8], _ledger: &Ledger<'_>, _counters: &WorkerCounters) {
        self.device.answer(crate::fs::RequestId(1), b"given up").unwrap();
    }

    fn look_around(&self, _workers: &[Arc<WorkerCounters>]) -> Looked {
        let held_up = self.held_up.load(Ordering::Relaxed);
        Looked { at_work: held_up, held_up }
    }
}

fn pool(refuses: bool) -> (Arc<Pool>, UnixStream, Sender<()>) {
    pool_held_up(refuses, &Arc::default())
}

/// One that sees so many workers held up.
fn pool_held_up(refuses: bool, held_up: &Arc<AtomicUsize>) -> (Arc<Pool>, UnixStream, Sender<()>) {
    let (ours, kernel) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::empty()).unwrap();
    let kernel = UnixStream::from(kernel);
    kernel.set_read_timeout(Some(PATIENCE)).unwrap();
    let device = Arc::new(Device::from(ours));
    let (permit, permits) = channel();
    let service = Echo {
        device: Arc::clone(&device),
        permits: Mutex::new(permits),
        refuses,
        held_up: Arc::clone(held_up),
    };
    (Pool::new(device, Box::new(service), State::new().unwrap()), kernel, permit)
}

fn ask(kernel: &mut UnixStream, message: &[u8]) {
    kernel.write_all(message).unwrap();
}

fn answer(kernel: &mut UnixStream) -> Vec<u8> {
    let mut buffer = [0; 256];
    let length = kernel.read(&mut buffer).unwrap();
    buffer[16..length].to_vec()
}

fn settled(mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "it never came to hold");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_request_is_answered_although_all_workers_before_it_wait() {
    let (pool, mut kernel, permit) = pool(false);
    pool.start(1).unwrap();
    for _ in 0..MAX_WORKERS - 1 {
        ask(&mut kernel, b"wait");
    }
    ask(&mut kernel, b"quick");
    assert_eq!(answer(&mut kernel), b"quick");
    // All but one are taken, and the bound holds.
    assert_eq!(pool.crew().started, MAX_WORKERS);
    for _ in 0..MAX_WORKERS - 1 {
        permit.send(()).unwrap();
        assert_eq!(answer(&mut kernel), b"wait");
    }
    drop(kernel);
    pool.join().unwrap();
    assert_eq!(pool.counters().requests, u64::try_from(MAX_WORKERS).unwrap());
}

#[test]
fn at_the_bound_requests_wait_and_are_served_in_the_end() {
    let (pool, mut kernel, permit) = pool(false);
    pool.start(2).unwrap();
    for _ in 0..MAX_WORKERS + 10 {
        ask(&mut kernel, b"wait");
    }
    ask(&mut kernel, b"quick");
    settled(|| pool.waiting.load(Ordering::SeqCst) == 0 && pool.crew().started == MAX_WORKERS);
    for _ in 0..MAX_WORKERS + 10 {
        permit.send(()).unwrap();
    }
    let mut answers: Vec<_> = (0..MAX_WORKERS + 11).map(|_| answer(&mut kernel)).collect();
    answers.sort();
    assert_eq!(answers[0], b"quick");
    assert_eq!(pool.crew().started, MAX_WORKERS);
    drop(kernel);
    pool.join().unwrap();
}

#[test]
fn workers_that_are_held_up_do_not_count_up_to_their_bound() {
    let held_up = Arc::new(AtomicUsize::new(0));
    let (pool, mut kernel, permit) = pool_held_up(false, &held_up);
    pool.start(1).unwrap();
    for _ in 0..MAX_WORKERS + 10 {
        ask(&mut kernel, b"wait");
    }
    ask(&mut kernel, b"quick");
    settled(|| pool.waiting.load(Ordering::SeqCst) == 0 && pool.crew().started == MAX_WORKERS);
    held_up.store(MAX_WORKERS, Ordering::Relaxed);
    assert_eq!(answer(&mut kernel), b"quick");
    held_up.store(usize::MAX, Ordering::Relaxed);
    settled(|| pool.most(&pool.crew()) == MAX_WORKERS + MAX_HELD_UP);
    for _ in 0..MAX_WORKERS + 10 {
        permit.send(()).unwrap();
        answer(&mut kernel);
    }
    drop(kernel);
    pool.join().unwrap();
}

#[test]
fn who_waits_for_the_kernel_makes_room_for_one_more_worker() {
    let (pool, mut kernel, permit) = pool(false);
    pool.start(1).unwrap();
    for _ in 0..MAX_WORKERS {
        ask(&mut kernel, b"wait");
    }
    settled(|| pool.waiting.load(Ordering::SeqCst) == 0 && pool.crew().started == MAX_WORKERS);
    let aside = pool.step_aside();
    ask(&mut kernel, b"quick");
    assert_eq!(answer(&mut kernel), b"quick");
    drop(aside);
    for _ in 0..MAX_WORKERS {
        permit.send(()).unwrap();
        answer(&mut kernel);
    }
    drop(kernel);
    pool.join().unwrap();
}

#[test]
fn a_single_client_is_soon_served_by_one_worker() {
    let (pool, mut kernel, permit) = pool(false);
    pool.start(8).unwrap();
    settled(|| pool.crew().counters.len() == 8);
    // A review for each on an idle machine; where others have the CPUs, a few more.
    let deadline = Instant::now() + PATIENCE;
    while pool.crew().parked < 7 && Instant::now() < deadline {
        ask(&mut kernel, b"quick");
        answer(&mut kernel);
    }
    assert_eq!(pool.crew().parked, 7);
    settled(|| pool.waiting.load(Ordering::SeqCst) == 1);
    // And who parked comes back when needed.
    for _ in 0..7 {
        ask(&mut kernel, b"wait");
    }
    ask(&mut kernel, b"quick");
    assert_eq!(answer(&mut kernel), b"quick");
    assert!(pool.crew().started <= 9);
    for _ in 0..7 {
        permit.send(()).unwrap();
        answer(&mut kernel);
    }
    drop(kernel);
    pool.join().unwrap();
}

#[test]
fn the_end_wakes_who_is_parked() {
    let (pool, mut kernel, _permit) = pool(false);
    pool.start(6).unwrap();
    settled(|| {
        ask(&mut kernel, b"quick");
        answer(&mut kernel);
        pool.crew().parked > 0
    });
    drop(kernel);
    pool.join().unwrap();
    assert!(pool.crew().threads.is_empty());
}

#[test]
fn a_pool_whose_first_worker_cannot_begin_does_not_start() {
    let (pool, _kernel, _permit) = pool(true);
    assert_eq!(pool.start(4), Err(Errno::EPERM));
    assert_eq!(pool.crew().started, 1);
    pool.join().unwrap();
}

#[test]
fn a_request_at_which_workers_have_died_is_begun_again_and_then_given_up() {
    for (tries, answered) in [(1, &b"again"[..]), (MAX_TRIES, b"given up")] {
        let (pool, mut kernel, _permit) = pool(false);
        let mut slot = pool.state.slots.take().unwrap();
        slot.buffer[..4].copy_from_slice(&5_u32.to_ne_bytes());
        slot.buffer[..5].copy_from_slice(b"\x05\0\0\0!");
        (0..tries).for_each(|_| _ = slot.control.begin());
        pool.go_on(1, vec![slot]).unwrap();
        let expected = if answered == b"again" { &b"\x05\0\0\0!"[..] } else { answered };
        assert_eq!(answer(&mut kernel), expected);
        // And the worker goes on to read.
        ask(&mut kernel, b"next");
        assert_eq!(answer(&mut kernel), b"next");
    }
}
