//! Why a profile is refused: which of its parts contradict each other, or the safety of the export.
//!
//! Typed, so that `config/` can point at the lines; in words, so that whoever reads it knows what to do.

use std::fmt;

/// A part of a [`super::Profile`] that can be at fault. Numbers are places in its lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// A rule for users.
    Uid(usize),
    /// A rule for groups.
    Gid(usize),
    /// `unmapped.pod`.
    UnmappedPod,
    /// `unmapped.nfs`.
    UnmappedNfs,
    /// `unmapped.root`.
    UnmappedRoot,
    /// `act_as`.
    ActAs,
    /// `permissions.apply_to`.
    ApplyTo,
    /// `cache.open`.
    CacheOpen,
    /// A path rule.
    Path(usize),
    /// A path rule's `apply_to`.
    PathApplyTo(usize),
}

/// What is wrong. Ids are bare numbers here: they are only ever put into a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A range ends before it begins.
    Reversed,
    /// The ranges of a rule differ in width.
    UnequalWidth {
        /// How many pod ids.
        pod: u64,
        /// How many NFS ids.
        nfs: u64,
    },
    /// Two rules for one pod id.
    TwoRules {
        /// That id.
        pod: u32,
    },
    /// Two rules disagree about what an NFS id is shown as.
    AmbiguousInverse {
        /// That id.
        nfs: u32,
    },
    /// Many pod ids are one NFS id without `shown_as`.
    ShownAsMissing {
        /// The NFS id.
        nfs: u32,
        /// The first of the pod ids.
        pod: u32,
    },
    /// `shown_as` is not one of the pod ids that map onto the NFS id.
    ShownAsElsewhere {
        /// What was written.
        shown: u32,
        /// The NFS id.
        nfs: u32,
    },
    /// `shown_as` where it means nothing.
    ShownAsUnused,
    /// Something maps or squashes onto id 0 without `allow_root`.
    Root,
    /// An NFS id is shown as the number of another one that is kept.
    Presentation {
        /// The mapped NFS id.
        nfs: u32,
        /// What it is shown as, and what the other one is.
        shown: u32,
    },
    /// A pod id acts as the number of another one that is kept.
    Authority {
        /// The mapped pod id.
        pod: u32,
        /// Whom it acts as, and whom the other one acts as.
        nfs: u32,
    },
    /// With `act_as = "owner"`, a mapped pod id is what all owners without a rule are shown as.
    StandIn {
        /// That id.
        pod: u32,
    },
    /// `apply_to = "all"` without `act_as = "owner"`.
    ApplyToNeedsOwner,
    /// `cache.open = "trust"` where something may be written.
    TrustNeedsReadOnly,
    /// `cache.open = "trust"` with `cache.data = "passthrough"`.
    TrustNeedsPages,
    /// Two path rules for one path.
    TwoPaths,
    /// More path rules than can be numbered.
    TooManyPaths,
}

/// What is wrong, and with which parts of the profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict {
    /// What is wrong.
    pub fault: Fault,
    /// The part at fault: of two rules, the later.
    pub at: Part,
    /// The part it contradicts.
    pub with: Option<Part>,
}

impl Conflict {
    /// What is wrong, as a sentence without an end.
    #[must_use]
    pub fn what(&self) -> String {
        let id = self.kind_of_id();
        match self.fault {
            Fault::Reversed => "the range ends before it begins".to_owned(),
            Fault::UnequalWidth { pod, nfs } => {
                format!("ranges of unequal width: {pod} pod {id}s and {nfs} nfs {id}s")
            }
            Fault::TwoRules { pod } => format!("two rules for pod {id} {pod}"),
            Fault::AmbiguousInverse { nfs } => {
                format!("ambiguous inverse: two rules say what nfs {id} {nfs} is shown as")
            }
            Fault::ShownAsMissing { nfs, .. } => {
                format!(
                    "ambiguous inverse: many pod {id}s are nfs {id} {nfs}, and nothing says as which it is shown"
                )
            }
            Fault::ShownAsElsewhere { shown, nfs } => {
                format!("shown_as = {shown} is not one of the pod {id}s that map onto nfs {id} {nfs}")
            }
            Fault::ShownAsUnused => {
                "shown_as means nothing here: it is for rules of both directions onto one nfs id".to_owned()
            }
            Fault::Root => format!("this maps onto {id} 0, root, on the export"),
            Fault::Presentation { nfs, shown } => format!(
                "presentation collision: nfs {id} {nfs} is shown as {shown} while owners without a rule are kept, \
                 so a real {shown} looks the same"
            ),
            Fault::Authority { pod, nfs } => format!(
                "authority collision: pod {id} {pod} acts as {nfs} while callers without a rule are kept, \
                 so pod {id} {nfs} does too"
            ),
            Fault::StandIn { pod } => format!(
                "presentation collision: owners without a rule are shown as {pod}, and with act_as = \"owner\" \
                 pod {id} {pod} could act as each of them"
            ),
            Fault::ApplyToNeedsOwner => "apply_to = \"all\" needs act_as = \"owner\"".to_owned(),
            Fault::TrustNeedsReadOnly => {
                "cache.open = \"trust\" is for profiles that are read-only everywhere".to_owned()
            }
            Fault::TrustNeedsPages => {
                "cache.open = \"trust\" and data = \"passthrough\": what is opened without a request cannot pass through"
                    .to_owned()
            }
            Fault::TwoPaths => "two rules for one path".to_owned(),
            Fault::TooManyPaths => {
                "too many path rules: their prefixes have more than 32,000 names".to_owned()
            }
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn next_step(&self) -> String {
        match self.fault {
            Fault::Reversed => "write the smaller id first".to_owned(),
            Fault::UnequalWidth { .. } => {
                "make both ranges equally wide, or the nfs side a single id".to_owned()
            }
            Fault::TwoRules { .. } => "remove one of them, or split the range".to_owned(),
            Fault::AmbiguousInverse { nfs } => {
                format!("give one of them direction = \"pod-to-nfs\", or both the same shown_as for {nfs}")
            }
            Fault::ShownAsMissing { pod, .. } => {
                format!("add shown_as = {pod}, or direction = \"pod-to-nfs\"")
            }
            Fault::ShownAsElsewhere { .. } => "name a pod id of this rule".to_owned(),
            Fault::ShownAsUnused => "remove it".to_owned(),
            Fault::Root => self.next_step_for_root(),
            Fault::Presentation { shown, .. } => {
                format!(
                    "write unmapped.nfs = \"nobody\", or add a rule that says what nfs {shown} is shown as"
                )
            }
            Fault::Authority { nfs, .. } => {
                format!("write unmapped.pod = \"deny\", or add a rule that says whom pod {nfs} acts as")
            }
            Fault::StandIn { .. } => "let unmapped.nfs name an id that no rule does".to_owned(),
            Fault::ApplyToNeedsOwner => "write act_as = \"owner\", or apply_to = \"new\"".to_owned(),
            Fault::TrustNeedsReadOnly => {
                "add read_only = true to the profile's permissions, or write open = \"revalidate\"".to_owned()
            }
            Fault::TrustNeedsPages => "write data = \"auto\", or open = \"revalidate\"".to_owned(),
            Fault::TwoPaths => "merge them".to_owned(),
            Fault::TooManyPaths => "shorten the list".to_owned(),
        }
    }

    fn next_step_for_root(&self) -> String {
        let key = match self.at {
            Part::Uid(_) | Part::Gid(_) => "add allow_root = true to the rule if that is meant",
            _ => "add allow_root = true to the profile if that is meant",
        };
        format!("{key}, or name another id")
    }

    fn kind_of_id(&self) -> &'static str {
        match (self.at, self.with) {
            (Part::Uid(_), _) | (_, Some(Part::Uid(_))) => "uid",
            (Part::Gid(_), _) | (_, Some(Part::Gid(_))) => "gid",
            _ => "id",
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what(), self.next_step())
    }
}
