//! Work that may hang on a server: each piece on a thread of its own, which the call can leave behind.
//!
//! A thread that is left behind goes on, and keeps what it was given (its [`super::in_flight::Turn`]) until it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::protocol::{Code, Refusal};
use crate::mount::patience::within;

/// The most threads that work or hang at once.
pub(super) const MAX_WORKERS: usize = 128;

/// The threads.
#[derive(Debug, Clone, Default)]
pub(super) struct Crew {
    working: Arc<AtomicUsize>,
}

struct Post(Arc<AtomicUsize>);

impl Drop for Post {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Crew {
    /// What `work` answers, or nothing where it takes longer than `limit`.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED past [`MAX_WORKERS`].
    pub(super) fn within<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>, Refusal> {
        let post = Post(Arc::clone(&self.working));
        if self.working.fetch_add(1, Ordering::AcqRel) >= MAX_WORKERS {
            let sentence =
                format!("{MAX_WORKERS} calls wait for servers that do not answer; see to those first");
            return Err(Refusal::new(Code::ResourceExhausted, sentence));
        }
        Ok(within(limit, move || {
            let answer = work();
            drop(post);
            answer
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn threads_that_hang_are_counted_until_they_end() {
        let crew = Crew::default();
        let (release, hang) = mpsc::channel::<()>();
        let hang = Arc::new(std::sync::Mutex::new(hang));
        let waits = |hang: &Arc<std::sync::Mutex<mpsc::Receiver<()>>>| {
            let hang = Arc::clone(hang);
            move || {
                let _ = hang.lock().unwrap().recv();
            }
        };
        for _ in 0..MAX_WORKERS {
            assert_eq!(crew.within(Duration::ZERO, waits(&hang)).unwrap(), None);
        }
        let full = crew.within(Duration::ZERO, || ()).unwrap_err();
        assert_eq!(full.code, Code::ResourceExhausted);
        drop(release);
        while crew.working.load(Ordering::Acquire) > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(crew.within(Duration::from_secs(5), || 7).unwrap(), Some(7));
    }
}
