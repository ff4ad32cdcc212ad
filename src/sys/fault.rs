//! Named places at which a test lets a process die, to see what its successor makes of that.
//!
//! Only with the feature `faults`; without it [`point!`] is nothing at all (but a moment for the model checker, `sys::sync`), and neither is [`around!`]. A test shares a sealed memfd with the
//! processes of a mount, whose path it gives them in [`VARIABLE`]. There it says at which hit of which point the process that comes
//! there kills itself, and there all points can be recorded that are passed. Points are the same in all processes of a mount.
//!
//! This decides nothing: what it does is kill(2), and when, the test says.

/// A place at which the process may die; and another thread may come in between.
macro_rules! point {
    ($name:expr) => {
        #[cfg(feature = "faults")]
        $crate::sys::fault::hit($name);
        $crate::sys::sync::moment();
    };
}

/// A call with such a place before and after it.
macro_rules! around {
    ($name:literal, $call:expr) => {{
        $crate::sys::fault::point!(concat!("before ", $name));
        let outcome = $call;
        $crate::sys::fault::point!(concat!("after ", $name));
        outcome
    }};
}

pub(crate) use {around, point};

#[cfg(feature = "faults")]
pub use enabled::{MAX_ARMED, MAX_RECORDED, Points, VARIABLE, hit};

#[cfg(feature = "faults")]
mod enabled {
    use std::fs::OpenOptions;
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, OnceLock};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use crate::sys::Errno;
    use crate::sys::shared_memory::{SharedMemory, SharedWords};

    /// The environment variable with the path of the shared memory.
    pub const VARIABLE: &str = "PERMFS_FAULTS";

    /// Deaths that may be arranged for at once: each waits for the one before it.
    pub const MAX_ARMED: usize = 16;
    /// Points that are recorded; those that come after are not.
    pub const MAX_RECORDED: usize = 1 << 15;

    /// Words of a name.
    const NAME: usize = 8;
    /// Words of an arranged death: how many hits are to come, and the point's name.
    const ARMED: usize = NAME + 1;

    /// How many deaths are arranged, and how many of them have been died.
    const ARRANGED: usize = 0;
    const DIED: usize = 1;
    /// Not 0 while points are recorded, and how many have been.
    const RECORDING: usize = 2;
    const RECORDED: usize = 3;
    const FIRST_ARMED: usize = 8;
    const FIRST_RECORD: usize = FIRST_ARMED + MAX_ARMED * ARMED;
    const WORDS: usize = FIRST_RECORD + MAX_RECORDED * NAME;

    static SHARED: OnceLock<Option<Points>> = OnceLock::new();

    /// A process has come to a point.
    pub fn hit(name: &str) {
        if let Some(points) = SHARED.get_or_init(Points::given) {
            points.hit(name);
        }
    }

    /// What a test and the processes of a mount share.
    #[derive(Debug)]
    pub struct Points {
        memory: Arc<SharedMemory>,
        words: SharedWords,
    }

    impl Points {
        /// New ones, with nothing arranged.
        ///
        /// # Errors
        /// ENOMEM, EMFILE.
        pub fn new() -> Result<Self, Errno> {
            Self::of(SharedMemory::new("permfs-faults", WORDS * size_of::<u64>())?)
        }

        fn given() -> Option<Self> {
            let path = std::env::var_os(VARIABLE)?;
            let file = OpenOptions::new().read(true).write(true).open(path).ok()?;
            Self::of(SharedMemory::map(OwnedFd::from(file)).ok()?).ok()
        }

        fn of(memory: Arc<SharedMemory>) -> Result<Self, Errno> {
            let words = memory.words(0, WORDS).ok_or(Errno::EINVAL)?;
            Ok(Self { memory, words })
        }

        /// The memory, for [`VARIABLE`].
        #[must_use]
        pub fn descriptor(&self) -> BorrowedFd<'_> {
            self.memory.as_fd()
        }

        /// Arranges deaths, one after the other: at the so-manieth hit of a point, counted from 1 and from the death before. At
        /// most [`MAX_ARMED`]; those before are forgotten.
        pub fn arm(&self, deaths: &[(&str, u64)]) {
            self.set(ARRANGED, 0);
            self.set(DIED, 0);
            for ((name, hits), at) in deaths.iter().zip((FIRST_ARMED..FIRST_RECORD).step_by(ARMED)) {
                self.set(at, *hits);
                self.write(at + 1, name);
            }
            self.set(ARRANGED, u64::try_from(deaths.len()).unwrap_or(0));
        }

        /// How many of the deaths have been died.
        #[must_use]
        pub fn died(&self) -> u64 {
            self.get(DIED)
        }

        /// Records points from now on, from when the arranged deaths have been died.
        pub fn record(&self) {
            self.set(RECORDED, 0);
            self.set(RECORDING, 1);
        }

        /// Ends the record; answers with it.
        #[must_use]
        pub fn recorded(&self) -> Vec<String> {
            self.set(RECORDING, 0);
            let count = usize::try_from(self.get(RECORDED)).unwrap_or(0).min(MAX_RECORDED);
            (0..count).map(|index| self.read(FIRST_RECORD + index * NAME)).collect()
        }

        /// How many points have been recorded so far.
        #[must_use]
        pub fn count(&self) -> u64 {
            self.get(RECORDED)
        }

        fn hit(&self, name: &str) {
            let died = self.get(DIED);
            if died < self.get(ARRANGED) {
                let at = FIRST_ARMED + usize::try_from(died).unwrap_or(0) * ARMED;
                if self.is(at + 1, name) && self.words[at].fetch_sub(1, Ordering::AcqRel) == 1 {
                    self.set(DIED, died + 1);
                    let _ = kill(Pid::this(), Signal::SIGKILL);
                    loop {
                        std::thread::park();
                    }
                }
            } else if self.get(RECORDING) != 0 {
                let index = self.words[RECORDED].fetch_add(1, Ordering::AcqRel);
                if let Some(index) = usize::try_from(index).ok().filter(|index| *index < MAX_RECORDED) {
                    self.write(FIRST_RECORD + index * NAME, name);
                }
            }
        }

        fn get(&self, index: usize) -> u64 {
            self.word(index).load(Ordering::Acquire)
        }

        fn set(&self, index: usize, value: u64) {
            self.word(index).store(value, Ordering::Release);
        }

        fn word(&self, index: usize) -> &AtomicU64 {
            &self.words[index]
        }

        fn write(&self, at: usize, name: &str) {
            as_words(name).into_iter().zip(at..).for_each(|(word, index)| self.set(index, word));
        }

        fn is(&self, at: usize, name: &str) -> bool {
            as_words(name).into_iter().zip(at..).all(|(word, index)| self.get(index) == word)
        }

        fn read(&self, at: usize) -> String {
            let bytes: Vec<u8> = (at..at + NAME).flat_map(|index| self.get(index).to_ne_bytes()).collect();
            String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
        }
    }

    fn as_words(name: &str) -> [u64; NAME] {
        let mut words = [0; NAME];
        for (word, chunk) in words.iter_mut().zip(name.as_bytes().chunks(8)) {
            let mut padded = [0; 8];
            padded[..chunk.len()].copy_from_slice(chunk);
            *word = u64::from_ne_bytes(padded);
        }
        words
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn points_are_recorded_by_name_and_only_while_that_is_asked_for() {
            let points = Points::new().unwrap();
            points.hit("before");
            points.record();
            points.hit("a point with a name");
            points.hit("b");
            assert_eq!(points.recorded(), ["a point with a name", "b"]);
            points.hit("after");
            assert_eq!(points.count(), 2);
        }

        #[test]
        fn a_death_waits_for_its_point_and_its_hit() {
            let points = Points::new().unwrap();
            points.arm(&[("b", 3)]);
            for name in ["a", "b", "a", "b", "bb"] {
                points.hit(name);
            }
            assert_eq!(points.died(), 0);
        }
    }
}
