//! The lookout: a thread that sees to it that requests do not lie unread while more workers would help.
//!
//! It looks every [`TICK`] while more workers might help, more rarely while there is only work, and sleeps when there is
//! none. Where no worker waits for requests, it summons one more if those at work are held up: because they have spent the
//! time neither on a CPU nor waiting for one, but in the server's hands, while requests lie unread or none was finished at
//! all, and one of them is seen asleep there: the kernel counts time spent waiting for a CPU only when the wait is over.
//! Workers that are short of CPU get no company: it would only take turns with them. Those that have a CPU each and
//! are at it all the time do, as long as there are CPUs. In a review now and then it sends home who was not needed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Pool;
use crate::sys::cycles;

/// How long a request may lie unread before anybody looks, where one did a moment ago.
const TICK: Duration = Duration::from_millis(1);
/// And where none did for long: each look takes the CPU from somebody.
const LONGEST_TICK: Duration = Duration::from_millis(4);
/// For how long each look must have found somebody waiting for requests before the lookout sleeps, unless there are still workers to
/// be sent home.
const QUIET: Duration = Duration::from_millis(50);

/// From one review of the crew's size to the next.
const REVIEW: Duration = Duration::from_millis(64);
/// How often somebody looks at those who have long been at work, while nothing else happens.
const LOOK_AROUND: Duration = Duration::from_millis(250);
/// Workers for which one look every [`TICK`] is cheap: it costs a system call for each.
const CHEAP: usize = 128;

/// Wakes the lookout where it sleeps.
#[derive(Debug, Default)]
pub(super) struct Bell {
    awake: AtomicBool,
}

impl Bell {
    /// There is work. Nearly always one load.
    pub(super) fn ring(&self, lookout: Option<&thread::Thread>) {
        if !self.awake.load(Ordering::Relaxed)
            && !self.awake.swap(true, Ordering::SeqCst)
            && let Some(lookout) = lookout
        {
            lookout.unpark();
        }
    }
}

/// How a worker spends its time: `/proc/thread-self/schedstat`, and what it does now: `/proc/thread-self/stat` (proc(5)).
#[derive(Debug, Default)]
pub(super) struct Meter {
    file: Option<File>,
    state: Option<File>,
}

/// Time on a CPU, and time spent waiting for one.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Spent {
    running: Duration,
    runnable: Duration,
}

impl Meter {
    /// Of the calling thread. Without scheduler statistics in the kernel it shows that all time is spent elsewhere.
    pub(super) fn of_this_thread() -> Self {
        let open = |name| File::open(name).ok();
        Self { file: open("/proc/thread-self/schedstat"), state: open("/proc/thread-self/stat") }
    }

    /// Whether the thread waits for something else than a CPU; yes where that cannot be told.
    fn is_asleep(&self) -> bool {
        let mut text = [0; 80];
        let length = self.state.as_ref().and_then(|file| file.read_at(&mut text, 0).ok()).unwrap_or(0);
        // The name, in parentheses, may hold any byte, and is short; the state follows it.
        let name_ends = text[..length].iter().rposition(|&byte| byte == b')');
        name_ends.and_then(|at| text.get(at + 2)) != Some(&b'R')
    }

    fn read(&self) -> Spent {
        let mut text = [0; 80];
        let length = self.file.as_ref().and_then(|file| file.read_at(&mut text, 0).ok()).unwrap_or(0);
        Spent::parse(&text[..length]).unwrap_or_default()
    }
}

impl Spent {
    fn parse(text: &[u8]) -> Option<Self> {
        let mut numbers = std::str::from_utf8(text).ok()?.split_ascii_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok().map(Duration::from_nanos);
        Some(Self { running: next()?, runnable: next()? })
    }

    fn since(self, earlier: Self) -> Self {
        Self {
            running: self.running.saturating_sub(earlier.running),
            runnable: self.runnable.saturating_sub(earlier.runnable),
        }
    }
}

/// What the lookout saw last.
#[derive(Debug, Clone, Copy)]
struct Sight {
    at: Instant,
    taken: u64,
    /// The same moment by the clock of the next two.
    cycles: u64,
    /// Time that requests took which are answered.
    at_work: u64,
    /// Time that workers waited for requests which came.
    idle: u64,
    spent: Spent,
    workers: usize,
}

impl Sight {
    /// A sum of the processor's time as a duration, by how far both clocks have come since `before`.
    fn real(&self, before: &Self, cycles: u64) -> Duration {
        let passed = self.cycles.saturating_sub(before.cycles).max(1);
        let nanoseconds = (self.at - before.at).as_nanos() * u128::from(cycles) / u128::from(passed);
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

/// Whether one more worker would help, given how many there are, how they have spent the time, and how much of it with
/// requests in hand; `asleep` tells whether one of them waits for something else than a CPU now.
fn would_help(
    workers: usize,
    elapsed: Duration,
    at_work: Duration,
    spent: Spent,
    cpus: usize,
    asleep: impl FnOnce() -> bool,
) -> bool {
    let all = times(elapsed, workers);
    let held_up = at_work.saturating_sub(spent.running + spent.runnable) > all / 4;
    let at_full_speed = spent.running > all / 10 * 9 && workers < cpus;
    at_full_speed || held_up && asleep()
}

/// Whether fewer would do, given what [`would_help`] is given.
fn is_one_too_many(workers: usize, elapsed: Duration, at_work: Duration, spent: Spent) -> bool {
    let needed = spent.running + at_work.saturating_sub(spent.running + spent.runnable);
    workers > 1 && needed < times(elapsed, workers - 1) / 10 * 7
}

fn times(elapsed: Duration, workers: usize) -> Duration {
    elapsed.saturating_mul(u32::try_from(workers).unwrap_or(u32::MAX))
}

impl Pool {
    /// The lookout's life.
    pub(super) fn look_out(self: &Arc<Self>) {
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        let (mut tick, mut quiet, mut unreviewed) = (TICK, Duration::ZERO, Duration::ZERO);
        let (mut before, mut reviewed) = (self.sight(), self.sight());
        while !self.ended.load(Ordering::SeqCst) {
            let at_rest = reviewed.workers == 1 || self.taken.load(Ordering::Relaxed) == reviewed.taken;
            if quiet >= QUIET && at_rest {
                self.sleep();
                (tick, quiet, unreviewed) = (TICK, Duration::ZERO, Duration::ZERO);
                (before, reviewed) = (self.sight(), self.sight());
            }
            let pause = tick * self.crowd();
            thread::sleep(pause);
            (quiet, unreviewed) = (quiet + pause, unreviewed + pause);
            tick = (tick * 2).min(LONGEST_TICK);
            if unreviewed >= REVIEW {
                unreviewed = Duration::ZERO;
                self.look_around();
                reviewed = self.review(&reviewed);
                before = reviewed;
            } else if self.waiting.load(Ordering::SeqCst) == 0 {
                quiet = Duration::ZERO;
                if !self.is_full() {
                    let needed;
                    (before, needed) = self.look(&before, cpus);
                    if needed {
                        tick = TICK;
                    }
                }
            }
        }
    }

    /// Nobody waits for requests: summons one more worker, if that helps; and whether one might soon.
    fn look(self: &Arc<Self>, before: &Sight, cpus: usize) -> (Sight, bool) {
        let now = self.sight();
        let elapsed = now.at - before.at;
        // All are at work now, also those whose request will take long yet.
        let idle = now.real(before, now.idle.saturating_sub(before.idle));
        let at_work = times(elapsed, now.workers).saturating_sub(idle);
        let spent = now.spent.since(before.spent);
        let needed = now.taken == before.taken || self.device.is_readable();
        let comparable = now.workers == before.workers;
        let asleep = || self.anybody_sleeps();
        if needed && comparable && would_help(now.workers, elapsed, at_work, spent, cpus, asleep) {
            self.summon();
        }
        (now, needed)
    }

    /// Whether a worker sleeps while none waits for requests: in a call, then.
    fn anybody_sleeps(&self) -> bool {
        let crew = self.crew();
        crew.meters.iter().filter(|meter| meter.is_asleep()).count() > crew.parked
    }

    /// Dismisses a worker that was not needed since the last review.
    fn review(&self, before: &Sight) -> Sight {
        let now = self.sight();
        let at_work = now.real(before, now.at_work.saturating_sub(before.at_work));
        let spent = now.spent.since(before.spent);
        if now.workers == before.workers
            && now.taken != before.taken
            && is_one_too_many(now.workers, now.at - before.at, at_work, spent)
        {
            self.dismissed.store(1, Ordering::Relaxed);
        }
        now
    }

    /// Until the bell rings.
    fn sleep(&self) {
        self.bell.awake.store(false, Ordering::SeqCst);
        // Who took a request just before that has rung no bell.
        while self.waiting.load(Ordering::SeqCst) > 0
            && !self.bell.awake.load(Ordering::SeqCst)
            && !self.ended.load(Ordering::SeqCst)
        {
            if self.look_around() {
                thread::park_timeout(LOOK_AROUND);
            } else {
                thread::park();
            }
        }
        self.bell.awake.store(true, Ordering::SeqCst);
    }

    /// Sees who is held up; whether anybody is at work at all.
    fn look_around(&self) -> bool {
        let workers = self.crew().counters.clone();
        let looked = self.service.look_around(&workers);
        self.held_up.store(looked.held_up, Ordering::Relaxed);
        looked.at_work > 0
    }

    /// Whether there can be no more workers.
    fn is_full(&self) -> bool {
        let crew = self.crew();
        crew.parked == 0 && crew.started >= self.most(&crew)
    }

    /// How much rarer a look must be where there are many workers to look at.
    fn crowd(&self) -> u32 {
        u32::try_from(self.crew().started / CHEAP + 1).unwrap_or(1)
    }

    fn sight(&self) -> Sight {
        let crew = self.crew();
        let mut spent = Spent::default();
        for meter in &crew.meters {
            let one = meter.read();
            spent.running += one.running;
            spent.runnable += one.runnable;
        }
        Sight {
            at: Instant::now(),
            taken: self.taken.load(Ordering::Relaxed),
            cycles: cycles::now(),
            at_work: self.at_work.get(),
            idle: self.idle.get(),
            spent,
            workers: crew.started - crew.parked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_millis(10);

    fn spent(running: u64, runnable: u64) -> Spent {
        Spent { running: Duration::from_millis(running), runnable: Duration::from_millis(runnable) }
    }

    /// Somebody is.
    fn asleep() -> bool {
        true
    }

    #[test]
    fn workers_that_wait_for_the_server_get_company_and_those_that_wait_for_a_cpu_do_not() {
        assert!(would_help(1, TEN, TEN, spent(2, 1), 2, asleep), "seven in ten milliseconds elsewhere");
        assert!(would_help(4, TEN, TEN * 3, spent(8, 2), 1, asleep), "twenty in forty");
        assert!(!would_help(1, TEN, TEN, spent(5, 5), 2, asleep));
        assert!(!would_help(8, TEN, TEN * 8, spent(10, 68), 8, asleep));
        assert!(
            !would_help(1, TEN, TEN / 2, spent(5, 0), 2, asleep),
            "it has waited for requests, half of the time"
        );
        assert!(!would_help(1, TEN, TEN, spent(2, 1), 2, || false), "its wait for a CPU is not over");
    }

    #[test]
    fn a_worker_at_full_speed_gets_company_while_there_are_cpus() {
        assert!(would_help(1, TEN, TEN, spent(10, 0), 2, asleep));
        assert!(!would_help(2, TEN, TEN * 2, spent(20, 0), 2, asleep));
        assert!(!would_help(1, TEN, TEN, spent(8, 2), 2, asleep), "somebody else has the CPU as well");
    }

    #[test]
    fn a_worker_is_sent_home_where_the_others_would_have_done() {
        assert!(is_one_too_many(2, TEN, TEN, spent(6, 4)));
        assert!(!is_one_too_many(2, TEN, TEN, spent(8, 2)));
        assert!(!is_one_too_many(2, TEN, TEN * 2, spent(1, 0)), "they wait for the server");
        assert!(is_one_too_many(8, TEN, TEN * 4, spent(4, 0)));
        assert!(!is_one_too_many(1, TEN, TEN, spent(0, 0)));
    }

    #[test]
    fn the_kernels_numbers_are_nanoseconds() {
        let parsed = Spent::parse(b"2000000 3000000 17\n").unwrap();
        assert_eq!(parsed, spent(2, 3));
        assert_eq!(Spent::parse(b""), None);
        let meter = Meter::of_this_thread();
        assert_eq!(meter.read().since(meter.read()).running, Duration::ZERO);
    }

    #[test]
    fn a_thread_that_waits_is_told_from_one_that_runs() {
        let meter = Meter::of_this_thread();
        assert!(!meter.is_asleep());
        let (let_go, wait) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let other = thread::spawn(move || {
            tell.send(Meter::of_this_thread()).unwrap();
            let _ = wait.recv();
        });
        let meter = told.recv().unwrap();
        // It is about to wait.
        while !meter.is_asleep() {
            thread::yield_now();
        }
        drop(let_go);
        other.join().unwrap();
    }
}
