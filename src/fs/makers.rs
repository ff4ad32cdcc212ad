//! Whether open(2) is about to make the name that it looks up, learned from opens.
//!
//! With O_CREAT an NFS client looks nothing up: its OPEN finds or makes. Here the kernel asks first, and does not say what for. But
//! before it looks up a name that it may have to make, it asks who may change the directory, from a place in its code ([`Site`])
//! where it asks nothing else, and only where the mount can be written to. So a LOOKUP that comes right behind that question need not be answered: CREATE
//! comes next. Which place that is, opens have shown: question, lookup, CREATE of that name, by one thread, and nothing between. It must have
//! been so many times, and hardly ever otherwise.
//!
//! CREATE then finds out whether the name is there already. Then the kernel is sent to look again ([`Makers::doubts`]), since it has not
//! been able to say who may open the file.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::inodes::lock;
use super::lately::{Lately, MAX_THREADS};
use super::{Name, NodeId};
use crate::caller::{Pid, Site};
use crate::sys::sync::Mutex;

/// Opens that must have shown it of a place, in all and for each one that has shown the opposite.
const CERTAIN: u32 = 8;

/// Places that are known.
const MAX_SITES: usize = 16;

/// How long after a lookup the CREATE may come.
const INHERITED: Duration = Duration::from_secs(10);

/// What is known of one mount's callers; of one kernel, that is.
#[derive(Debug, Default)]
pub(super) struct Makers {
    learned: Mutex<Learned>,
    /// Until when a name may have been looked up with a worker before this one.
    inherits_until: Option<Instant>,
}

#[derive(Debug, Default)]
struct Learned {
    /// The last one of each thread.
    steps: Lately<Step>,
    /// Names that were there, and for whom; no more than there are threads remembered.
    doubted: VecDeque<(Pid, Named)>,
    sites: Vec<Known>,
}

type Named = (NodeId, Box<[u8]>);

/// What a thread has asked last.
#[derive(Debug)]
enum Step {
    /// Who may change this directory.
    Asked(Site, NodeId),
    /// A name there.
    Looked { site: Site, name: Named, unseen: bool },
}

impl Step {
    fn site(&self) -> Site {
        match self {
            Self::Asked(site, _) | Self::Looked { site, .. } => *site,
        }
    }
}

#[derive(Debug)]
struct Known {
    site: Site,
    /// Opens that went on to make the name, and that did not.
    made: u32,
    not_made: u32,
}

impl Makers {
    /// For a worker that takes the place of another.
    pub(super) fn of_a_successor() -> Self {
        Self { inherits_until: Instant::now().checked_add(INHERITED), ..Self::default() }
    }

    /// A thread asks for the attributes of a directory, from `site` if that may be the place.
    pub(super) fn asks(&self, thread: Pid, site: Option<Site>, directory: NodeId) {
        let mut learned = lock(&self.learned);
        learned.breaks_off(thread);
        if let Some(site) = site {
            learned.steps.remember(thread, Step::Asked(site, directory));
        }
    }

    /// A thread looks `name` in `parent` up. Whether it is certain to make it; `may` says whether it may be answered unseen then.
    pub(super) fn looks(
        &self,
        thread: Pid,
        (parent, name): (NodeId, Name<'_>),
        may: impl FnOnce() -> bool,
    ) -> bool {
        let (site, name, certain) = {
            let mut learned = lock(&self.learned);
            let site = match learned.steps.take(thread) {
                Some(Step::Asked(site, directory)) if directory == parent => site,
                Some(other) => return learned.learn(other.site(), false),
                None => return false,
            };
            let name = (parent, name.as_bytes().into());
            let certain = !learned.is_doubted(thread, &name) && learned.is_certain(site);
            (site, name, certain)
        };
        let unseen = certain && may();
        let mut learned = lock(&self.learned);
        learned.steps.remember(thread, Step::Looked { site, name, unseen });
        unseen
    }

    /// What it has looked up is there, which shows nothing.
    pub(super) fn finds(&self, thread: Pid) {
        lock(&self.learned).steps.take(thread);
    }

    /// A thread has come to make `name` in `parent`. Whether its lookup was answered unseen, or may have been.
    pub(super) fn makes(&self, thread: Pid, (parent, name): (NodeId, Name<'_>)) -> bool {
        let mut learned = lock(&self.learned);
        match learned.steps.take(thread) {
            Some(Step::Looked { site, name: looked, unseen })
                if looked.0 == parent && *looked.1 == *name.as_bytes() =>
            {
                learned.learn(site, true);
                unseen
            }
            Some(other) => learned.learn(other.site(), false),
            None => self.inherits_until.is_some_and(|until| Instant::now() < until),
        }
    }

    /// That name was there, or could not be made: this thread's next lookup of it is answered.
    pub(super) fn doubts(&self, thread: Pid, (parent, name): (NodeId, Name<'_>)) {
        let mut learned = lock(&self.learned);
        learned.trusts_less();
        learned.doubted.push_back((thread, (parent, name.as_bytes().into())));
        if learned.doubted.len() > MAX_THREADS {
            learned.doubted.pop_front();
        }
    }

    /// What was made did not come out as whoever made it (a server that squashes everybody): what is new looks like what was there.
    /// Each time tells against leaving anything out; where it is so from the first file on, nothing ever is.
    pub(super) fn cannot_tell(&self) {
        lock(&self.learned).trusts_less();
    }
}

impl Learned {
    fn trusts_less(&mut self) {
        self.sites.iter_mut().for_each(|known| known.not_made = known.not_made.saturating_add(1));
    }

    /// Something else comes than what a thread that makes a name would ask.
    fn breaks_off(&mut self, thread: Pid) {
        if let Some(step) = self.steps.take(thread) {
            self.learn(step.site(), false);
        }
    }

    fn is_doubted(&mut self, thread: Pid, name: &Named) -> bool {
        let before = self.doubted.len();
        self.doubted.retain(|(of, doubted)| (*of, doubted) != (thread, name));
        self.doubted.len() < before
    }

    fn is_certain(&self, site: Site) -> bool {
        let enough = |known: &Known| known.made / CERTAIN > known.not_made;
        self.sites.iter().any(|known| known.site == site && enough(known))
    }

    /// Always false: it is not certain.
    fn learn(&mut self, site: Site, made: bool) -> bool {
        let known = match self.sites.iter_mut().position(|known| known.site == site) {
            Some(at) => &mut self.sites[at],
            None if self.sites.len() == MAX_SITES => return false,
            None => {
                self.sites.push(Known { site, made: 0, not_made: 0 });
                let last = self.sites.len() - 1;
                &mut self.sites[last]
            }
        };
        let count = if made { &mut known.made } else { &mut known.not_made };
        *count = count.saturating_add(1);
        false
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    const MAKES: Site = Site(1);
    const OPENS: Site = Site(2);
    const THREAD: Pid = Pid(7);

    fn at(directory: u64, name: &'static std::ffi::CStr) -> (NodeId, Name<'static>) {
        (node(directory), Name::new(name).unwrap())
    }

    fn node(number: u64) -> NodeId {
        NodeId(NonZeroU64::new(number).unwrap())
    }

    /// Whether the lookup was answered unseen.
    fn open(makers: &Makers, site: Site, name: (NodeId, Name<'_>)) -> bool {
        makers.asks(THREAD, Some(site), name.0);
        makers.looks(THREAD, name, || true)
    }

    fn taught() -> Makers {
        let makers = Makers::default();
        for _ in 0..2 * CERTAIN {
            let unseen = open(&makers, MAKES, at(1, c"a"));
            assert_eq!(makers.makes(THREAD, at(1, c"a")), unseen);
        }
        makers
    }

    #[test]
    fn opens_that_made_what_they_looked_up_teach_from_where_that_is_done() {
        let makers = taught();
        assert!(open(&makers, MAKES, at(2, c"b")));
        assert!(makers.makes(THREAD, at(2, c"b")));
        assert!(!open(&makers, OPENS, at(2, c"b")));
        // Nothing was asked before, or something about another directory.
        makers.finds(THREAD);
        assert!(!makers.looks(THREAD, at(2, c"c"), || true));
        makers.asks(THREAD, Some(MAKES), node(1));
        assert!(!makers.looks(THREAD, at(2, c"c"), || true));
        assert!(!makers.makes(THREAD, at(2, c"c")));
    }

    #[test]
    fn a_place_from_where_nothing_is_made_is_never_believed() {
        let makers = Makers::default();
        for round in 0..10 * CERTAIN {
            // The directory is opened, and then often something in it, which is there or is not.
            makers.asks(THREAD, Some(OPENS), node(1));
            if round % 2 == 0 {
                assert!(!makers.looks(THREAD, at(1, c"a"), || true));
            }
            // Once in a while somebody comes between, and it looks as if it were made from there.
            if round % 8 == 0 {
                assert!(!makers.makes(THREAD, at(1, c"a")));
            }
        }
        assert!(!open(&makers, OPENS, at(1, c"a")));
    }

    #[test]
    fn a_name_that_was_there_is_looked_up_the_next_time_and_trust_is_to_be_earned_again() {
        let makers = taught();
        assert!(open(&makers, MAKES, at(1, c"b")));
        assert!(makers.makes(THREAD, at(1, c"b")));
        makers.doubts(THREAD, at(1, c"b"));
        assert!(!open(&makers, MAKES, at(1, c"b")));
        makers.finds(THREAD);
        for _ in 0..2 * CERTAIN {
            let unseen = open(&makers, MAKES, at(1, c"c"));
            assert_eq!(makers.makes(THREAD, at(1, c"c")), unseen);
        }
        assert!(open(&makers, MAKES, at(1, c"b")));
    }

    #[test]
    fn a_successor_does_not_know_what_was_answered_unseen() {
        assert!(Makers::of_a_successor().makes(THREAD, at(1, c"a")));
        assert!(!Makers::default().makes(THREAD, at(1, c"a")));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let makers = Makers::default();
        for number in 1..1000 {
            let thread = Pid(number);
            makers.asks(thread, Some(Site(number.into())), node(1));
            makers.looks(thread, at(1, c"b"), || true);
            if number % 2 == 0 {
                makers.makes(thread, at(1, c"b"));
                makers.doubts(thread, at(1, c"b"));
            }
        }
        let learned = makers.learned.lock().unwrap();
        let remembered = (learned.steps.len(), learned.doubted.len(), learned.sites.len());
        assert_eq!(remembered, (MAX_THREADS, MAX_THREADS, MAX_SITES));
    }
}
