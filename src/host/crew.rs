//! Work that may hang on a server: each piece on a thread of its own, which the call can leave behind.
//!
//! A thread that is left behind goes on, and keeps what it was given (its [`super::in_flight::Turn`]) until it ends. So that
//! one dead share costs a few threads and never all, each piece says for which place it works: of a place there are a few at
//! once, and while one of them hangs there nobody else begins.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::protocol::{Code, Refusal};
use crate::mount::patience::within;

/// What is done by threads that may hang. Each kind has a bound of its own, so that volumes can be taken away however many
/// wait to be shown.
#[derive(Debug, Clone)]
pub(super) struct Crews {
    /// Finding the directory that a pod is to see.
    pub(super) probes: Crew,
    /// mount.nfs, which is ended when its time is over.
    pub(super) attaches: Crew,
    /// Making and removing volumes, which may take long where nothing hangs.
    pub(super) works: Crew,
    /// Making copies, which may take for ever: whoever may write in the original decides how long.
    pub(super) copies: Crew,
    /// Asking for space.
    pub(super) looks: Crew,
    /// Unmounting.
    pub(super) unmounts: Crew,
}

impl Default for Crews {
    fn default() -> Self {
        let (soon, never) = (Duration::from_secs(5), Duration::MAX);
        let bounds = |each, late| Crew::new(Bounds { all: MAX_WORKERS, each, late });
        Self {
            probes: bounds(8, soon),
            attaches: bounds(8, Duration::from_secs(20)),
            works: bounds(8, never),
            copies: bounds(4, never),
            looks: bounds(1, never),
            unmounts: bounds(8, never),
        }
    }
}

/// The most threads of a crew that work or hang at once.
pub(super) const MAX_WORKERS: usize = 128;

/// How many, and how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The most at once.
    all: usize,
    /// The most at one place.
    each: usize,
    /// Once somebody has been at a place for so long, it does not answer, and nobody else begins there.
    late: Duration,
}

/// Threads for one kind of work.
#[derive(Debug, Clone)]
pub(super) struct Crew {
    bounds: Bounds,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Who is where, and since when; the first came first.
    posts: Mutex<HashMap<String, Vec<(u64, Instant)>>>,
    left: Condvar,
}

/// A thread's place, until it is dropped.
struct Post {
    shared: Arc<Shared>,
    place: String,
    number: u64,
}

impl Crew {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, shared: Arc::default() }
    }

    /// What `work` at `place` answers, or nothing where it takes longer than `limit`. It may wait as long again for its turn.
    ///
    /// # Errors
    /// UNAVAILABLE where the place does not answer those who are there; RESOURCE_EXHAUSTED past [`MAX_WORKERS`].
    pub(super) fn within<T: Send + 'static>(
        &self,
        place: &str,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>, Refusal> {
        let post = self.enter(place, limit)?;
        Ok(within(limit, move || {
            let answer = work();
            drop(post);
            answer
        }))
    }

    fn enter(&self, place: &str, limit: Duration) -> Result<Post, Refusal> {
        let Bounds { all, each, late } = self.bounds;
        let begin = Instant::now();
        let mut posts = self.shared.lock();
        loop {
            if posts.values().map(Vec::len).sum::<usize>() >= all {
                let sentence = format!("{all} calls wait for servers that do not answer; see to those first");
                return Err(Refusal::new(Code::ResourceExhausted, sentence));
            }
            let here = posts.get(place).map_or(&[][..], Vec::as_slice);
            let oldest = here.first().map_or(Duration::ZERO, |(_, since)| since.elapsed());
            if oldest >= late || (here.len() >= each && begin.elapsed() >= limit) {
                let (count, seconds) = (here.len(), oldest.as_secs());
                let sentence = format!(
                    "{place} has not answered for {seconds} s, and {count} calls wait for it: check the server"
                );
                return Err(Refusal::new(Code::Unavailable, sentence));
            }
            if here.len() < each {
                break;
            }
            let patience = late.saturating_sub(oldest).min(limit.saturating_sub(begin.elapsed()));
            let waited = self.shared.left.wait_timeout(posts, patience);
            posts = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let here = posts.entry(place.to_owned()).or_default();
        let number = here.last().map_or(0, |(number, _)| number + 1);
        here.push((number, Instant::now()));
        drop(posts);
        Ok(Post { shared: Arc::clone(&self.shared), place: place.to_owned(), number })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<(u64, Instant)>>> {
        self.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        let mut posts = self.shared.lock();
        if let Some(here) = posts.get_mut(&self.place) {
            here.retain(|(number, _)| *number != self.number);
            if here.is_empty() {
                posts.remove(&self.place);
            }
        }
        drop(posts);
        self.shared.left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SOON: Duration = Duration::from_secs(60);

    /// Work that hangs until the sender is gone.
    fn hanging() -> (mpsc::Sender<()>, impl Fn() -> Box<dyn FnOnce() + Send>) {
        let (release, hang) = mpsc::channel::<()>();
        let hang = Arc::new(Mutex::new(hang));
        let work = move || -> Box<dyn FnOnce() + Send> {
            let hang = Arc::clone(&hang);
            Box::new(move || {
                let _ = hang.lock().unwrap().recv();
            })
        };
        (release, work)
    }

    fn is_empty(crew: &Crew) -> bool {
        crew.shared.lock().is_empty()
    }

    #[test]
    fn threads_that_hang_are_counted_until_they_end() {
        let crew = Crew::new(Bounds { all: 4, each: 4, late: Duration::MAX });
        let (release, work) = hanging();
        for _ in 0..4 {
            assert_eq!(crew.within("a", Duration::ZERO, work()).unwrap(), None);
        }
        let full = crew.within("b", Duration::ZERO, || ()).unwrap_err();
        assert_eq!(full.code, Code::ResourceExhausted);
        drop(release);
        while !is_empty(&crew) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(crew.within("a", SOON, || 7).unwrap(), Some(7));
    }

    #[test]
    fn where_somebody_hangs_nobody_else_begins_and_elsewhere_work_goes_on() {
        let crew = Crew::new(Bounds { all: 8, each: 4, late: Duration::from_millis(50) });
        let (_release, work) = hanging();
        assert_eq!(crew.within("dead", Duration::from_millis(60), work()).unwrap(), None);
        for _ in 0..100 {
            let begin = Instant::now();
            let refused = crew.within("dead", SOON, || ()).unwrap_err();
            assert_eq!(refused.code, Code::Unavailable);
            assert!(begin.elapsed() < SOON, "told at once");
        }
        assert_eq!(crew.within("alive", SOON, || 7).unwrap(), Some(7));
    }

    #[test]
    fn a_crowd_at_a_dead_place_takes_a_few_threads_and_is_told_soon() {
        // Late enough for the first few to begin together, also on a busy machine.
        let crew = Crew::new(Bounds { all: 100, each: 4, late: Duration::from_secs(2) });
        let (_release, work) = hanging();
        let begin = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..50 {
                let (crew, work) = (&crew, work());
                scope.spawn(move || crew.within("dead", Duration::from_millis(2500), work));
            }
        });
        assert!(begin.elapsed() < SOON);
        assert_eq!(crew.shared.lock()["dead"].len(), 4);
    }

    #[test]
    fn a_crowd_at_a_place_that_answers_is_served_whole() {
        let crew = Crew::new(Bounds { all: 4, each: 2, late: SOON });
        std::thread::scope(|scope| {
            for n in 0..50 {
                let crew = &crew;
                scope.spawn(move || assert_eq!(crew.within("alive", SOON, move || n).unwrap(), Some(n)));
            }
        });
        assert!(is_empty(&crew));
    }
}
