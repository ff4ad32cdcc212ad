//! From which place in the kernel the new name of a rename is looked up, learned from renames.
//!
//! Of the two names of rename(2) only the old one has to be looked up before: an NFS client leaves the other one out
//! (`LOOKUP_RENAME_TARGET`). Here both come as the same request. But the kernel looks them up from two places in its code
//! ([`Site`]), and a rename tells afterwards which name was which: a thread that has looked a name up from there, has looked up
//! none since, and then renames something to it, has shown that the place is of new names. Several must have, and nobody the
//! opposite; who is answered by it and does not go on to rename anything to that name casts doubt, and it is learned anew.

use super::inodes::lock;
use super::lately::Lately;
use super::{Name, NodeId};
use crate::caller::{Pid, Site};
use crate::sys::sync::Mutex;

/// Renames that must have shown it of a place.
const CERTAIN: u32 = 4;

/// Places that are known. rename(2) and renameat(2) have two each.
const MAX_SITES: usize = 16;

/// What is known of one mount's callers; of one kernel, that is.
#[derive(Debug, Default)]
pub(super) struct Targets {
    learned: Mutex<Learned>,
}

#[derive(Debug, Default)]
struct Learned {
    /// The last one of each thread, until it renames.
    looks: Lately<Look>,
    sites: Vec<Known>,
}

#[derive(Debug)]
struct Look {
    site: Site,
    name: (NodeId, Box<[u8]>),
    /// It was answered unseen.
    unseen: bool,
}

#[derive(Debug)]
struct Known {
    site: Site,
    /// How many renames have shown that it is of new names.
    new: u32,
    /// It is of old names, or of both: for good.
    old: bool,
}

impl Targets {
    /// A thread looks `name` in `parent` up, from `site` if that is for a rename. Whether that is certain to be its new name;
    /// `may` says whether it may be answered unseen then.
    pub(super) fn looks(
        &self,
        thread: Pid,
        site: Option<Site>,
        (parent, name): (NodeId, Name<'_>),
        may: impl FnOnce() -> bool,
    ) -> bool {
        let certain = {
            let mut learned = lock(&self.learned);
            if let Some(before) = learned.looks.take(thread).filter(|look| look.unseen) {
                learned.doubt(before.site);
            }
            site.is_some_and(|site| learned.is_certain(site))
        };
        let Some(site) = site else { return false };
        let unseen = certain && may();
        let look = Look { site, name: (parent, name.as_bytes().into()), unseen };
        lock(&self.learned).looks.remember(thread, look);
        unseen
    }

    /// A thread has come to rename `old` to `new`, with no flags.
    pub(super) fn renames(&self, thread: Pid, old: (NodeId, Name<'_>), new: (NodeId, Name<'_>)) {
        let mut learned = lock(&self.learned);
        let Some(look) = learned.looks.take(thread) else { return };
        let is =
            |(parent, name): (NodeId, Name<'_>)| look.name.0 == parent && *look.name.1 == *name.as_bytes();
        if is(old) != is(new) {
            learned.learn(look.site, is(new));
        }
    }
}

impl Learned {
    fn is_certain(&self, site: Site) -> bool {
        self.sites.iter().any(|known| known.site == site && known.new >= CERTAIN && !known.old)
    }

    fn doubt(&mut self, site: Site) {
        self.sites.iter_mut().filter(|known| known.site == site).for_each(|known| known.new = 0);
    }

    fn learn(&mut self, site: Site, new: bool) {
        let at = self.sites.iter().position(|known| known.site == site).or_else(|| {
            self.sites.push(Known { site, new: 0, old: false });
            (self.sites.len() <= MAX_SITES).then(|| self.sites.len() - 1)
        });
        self.sites.truncate(MAX_SITES);
        if let Some(known) = at.map(|at| &mut self.sites[at]) {
            known.new = known.new.saturating_add(new.into());
            known.old |= !new;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::fs::lately::MAX_THREADS;

    const OLD: Site = Site(1);
    const NEW: Site = Site(2);
    const THREAD: Pid = Pid(7);

    fn at(directory: u64, name: &'static std::ffi::CStr) -> (NodeId, Name<'static>) {
        (NodeId(NonZeroU64::new(directory).unwrap()), Name::new(name).unwrap())
    }

    fn look(targets: &Targets, site: Site, name: (NodeId, Name<'_>)) -> bool {
        targets.looks(THREAD, Some(site), name, || true)
    }

    fn taught() -> Targets {
        let targets = Targets::default();
        for _ in 0..CERTAIN {
            assert!(!look(&targets, OLD, at(1, c"a")) && !look(&targets, NEW, at(1, c"b")));
            targets.renames(THREAD, at(1, c"a"), at(1, c"b"));
        }
        targets
    }

    #[test]
    fn several_renames_teach_the_place_of_new_names_and_no_other() {
        let targets = taught();
        assert!(!look(&targets, OLD, at(1, c"c")));
        assert!(look(&targets, NEW, at(2, c"d")));
        targets.renames(THREAD, at(1, c"c"), at(2, c"d"));
        assert!(look(&targets, NEW, at(2, c"e")));
    }

    #[test]
    fn a_place_that_was_ever_one_of_old_names_is_believed_no_more() {
        let targets = taught();
        // An old name is looked up from there: as it must not be.
        assert!(!targets.looks(THREAD, Some(NEW), at(1, c"a"), || false));
        targets.renames(THREAD, at(1, c"a"), at(1, c"b"));
        for _ in 0..2 * CERTAIN {
            assert!(!look(&targets, NEW, at(1, c"b")));
            targets.renames(THREAD, at(1, c"a"), at(1, c"b"));
        }
    }

    #[test]
    fn an_answer_that_is_not_followed_by_a_rename_to_that_name_casts_doubt() {
        let targets = taught();
        assert!(look(&targets, NEW, at(1, c"x")));
        assert!(!look(&targets, NEW, at(1, c"x")));
        let targets = taught();
        assert!(look(&targets, NEW, at(1, c"x")));
        assert!(!targets.looks(THREAD, None, at(1, c"y"), || true));
        assert!(!look(&targets, NEW, at(1, c"x")));
    }

    #[test]
    fn a_look_that_the_rename_need_not_have_made_teaches_nothing() {
        let targets = Targets::default();
        for _ in 0..2 * CERTAIN {
            // It has failed, and then the thread has looked something else up.
            look(&targets, OLD, at(1, c"b"));
            targets.looks(THREAD, None, at(1, c"b"), || true);
            targets.renames(THREAD, at(1, c"a"), at(1, c"b"));
            // Another directory; and one name for both.
            look(&targets, OLD, at(2, c"b"));
            targets.renames(THREAD, at(1, c"a"), at(1, c"b"));
            look(&targets, OLD, at(1, c"b"));
            targets.renames(THREAD, at(1, c"b"), at(1, c"b"));
            // Another thread.
            look(&targets, OLD, at(1, c"b"));
            targets.renames(Pid(8), at(1, c"a"), at(1, c"b"));
        }
        assert!(!look(&targets, OLD, at(1, c"b")));
        assert!(targets.learned.lock().unwrap().sites.is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let targets = Targets::default();
        for number in 1..1000 {
            let (thread, name) = (Pid(number), at(1, c"b"));
            targets.looks(thread, Some(Site(number.into())), name, || true);
            if number % 2 == 0 {
                targets.renames(thread, at(1, c"a"), name);
            }
        }
        let learned = targets.learned.lock().unwrap();
        assert_eq!((learned.looks.len(), learned.sites.len()), (MAX_THREADS, MAX_SITES));
    }
}
