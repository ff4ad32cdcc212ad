//! Who a caller is at the server, and which rule said so.

use std::sync::Arc;

use super::profile::{ActAs, Groups};
use super::translation::Decider;
use super::*;

/// How one id of a caller was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'p, P, N> {
    /// The caller's id.
    pub pod: P,
    /// What it is at the server; none where it is refused (a supplementary group: left out).
    pub nfs: Option<N>,
    /// Who said so.
    pub by: &'p Origin,
}

/// How a caller was admitted, id by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace<'p> {
    /// The user.
    pub uid: Step<'p, PodUid, NfsUid>,
    /// The group.
    pub gid: Step<'p, PodGid, NfsGid>,
    /// The supplementary groups that count.
    pub groups: Vec<Step<'p, PodGid, NfsGid>>,
    /// What [`Policy::admit`] answers.
    pub outcome: Result<Credentials, Denied>,
}

impl Policy {
    /// The caller's own credentials at the server (its user, its group first, its groups that have a rule), whatever
    /// `act_as` says; refused where no rule admits it. A supplementary group without a rule is left out.
    ///
    /// With a fixed `act_as`, whose groups replace the caller's anyway, the group needs no rule and the supplementary
    /// ones are not looked at.
    pub fn admit(&self, caller: &Caller<'_>) -> Result<Credentials, Denied> {
        let uid = self.admit_uid(caller.uid)?;
        let gid = self.admit_gid(caller.gid)?;
        Ok(Credentials { uid, gid, groups: self.admit_groups(caller, gid) })
    }

    /// Whether the supplementary groups of a caller with this gid can change what [`Self::admit`] answers. Where not,
    /// nobody needs to look them up.
    pub fn groups_matter(&self, gid: PodGid) -> bool {
        self.groups.value == Groups::Process
            && !matches!(self.act_as.value, ActAs::Fixed(_))
            && self.admit_gid(gid).is_ok_and(|own| self.gids.may_yield_other_than(own))
    }

    /// The groups that count: those of the process (`of_process`), none, or the profile's list.
    pub fn counted_groups<'a>(&'a self, of_process: &'a [PodGid]) -> &'a [PodGid] {
        match &self.groups.value {
            Groups::Process => of_process,
            Groups::None => &[],
            Groups::These(groups) => groups,
        }
    }

    /// [`Self::admit`], with who decided each id.
    pub fn trace_admission(&self, caller: &Caller<'_>) -> Trace<'_> {
        let group = |pod| Step {
            pod,
            nfs: self.gids.inbound(pod),
            by: self.gid_origin(self.gids.inbound_decider(pod)),
        };
        let fixed = matches!(self.act_as.value, ActAs::Fixed(_));
        let mut gid = group(caller.gid);
        if gid.nfs.is_none() && fixed {
            gid = Step { pod: caller.gid, nfs: self.admit_gid(caller.gid).ok(), by: &self.act_as.origin };
        }
        let counted = if fixed { &[] } else { self.counted_groups(caller.groups) };
        Trace {
            uid: Step {
                pod: caller.uid,
                nfs: self.uids.inbound(caller.uid),
                by: self.uid_origin(self.uids.inbound_decider(caller.uid)),
            },
            gid,
            groups: counted.iter().map(|&pod| group(pod)).collect(),
            outcome: self.admit(caller),
        }
    }

    /// Who says what the owner of an object is shown as: its user, and its group.
    pub fn trace_owner(&self, uid: NfsUid, gid: NfsGid) -> (&Origin, &Origin) {
        (self.uid_origin(self.uids.outbound_decider(uid)), self.gid_origin(self.gids.outbound_decider(gid)))
    }

    /// What holds for a path below the mount's root, and who says so.
    pub fn trace_path(&self, path: &[u8]) -> &Held {
        self.scopes.held(self.scopes.at_path(path))
    }

    fn admit_uid(&self, uid: PodUid) -> Result<NfsUid, Denied> {
        let refusal = if uid.is_root() { Denied::Root } else { Denied::NoRuleForUid(uid) };
        self.uids.inbound(uid).ok_or(refusal)
    }

    fn admit_gid(&self, gid: PodGid) -> Result<NfsGid, Denied> {
        match (self.gids.inbound(gid), &self.act_as.value) {
            (Some(nfs), _) => Ok(nfs),
            (None, ActAs::Fixed(fixed)) => Ok(fixed.gid),
            (None, _) if gid.is_root() => Err(Denied::RootGroup),
            (None, _) => Err(Denied::NoRuleForGid(gid)),
        }
    }

    fn admit_groups(&self, caller: &Caller<'_>, first: NfsGid) -> Arc<[NfsGid]> {
        let counted = self.counted_groups(caller.groups);
        if counted.is_empty() || matches!(self.act_as.value, ActAs::Fixed(_)) {
            return self.no_groups.clone();
        }
        let mut groups: Vec<_> =
            counted.iter().filter_map(|&gid| self.gids.inbound(gid)).filter(|&gid| gid != first).collect();
        groups.sort_unstable();
        groups.dedup();
        if groups.is_empty() { self.no_groups.clone() } else { groups.into() }
    }

    fn uid_origin(&self, decider: Decider) -> &Origin {
        self.origin(decider, |rule| &self.uids.map.rules()[rule].origin)
    }

    fn gid_origin(&self, decider: Decider) -> &Origin {
        self.origin(decider, |rule| &self.gids.map.rules()[rule].origin)
    }

    fn origin<'p>(&'p self, decider: Decider, of_rule: impl FnOnce(usize) -> &'p Origin) -> &'p Origin {
        match decider {
            Decider::Rule(rule) => of_rule(rule),
            Decider::UnmappedPod => &self.unmapped_origins.pod,
            Decider::UnmappedRoot => &self.unmapped_origins.root,
            Decider::UnmappedNfs => &self.unmapped_origins.nfs,
        }
    }
}
