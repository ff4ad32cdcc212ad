//! What a chown means under a policy.

use super::scope::Chown;
use super::{Denied, NfsGid, NfsUid, PodGid, PodUid, Policy, Rules, ShownAttr};

/// What to do with a chown, decided before the backing is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChownOutcome {
    /// Hand it to the backing. Where the backing then refuses with EPERM or EACCES and `absorb` is set, the request
    /// named what is already shown: it succeeds without effect.
    Pass {
        /// New owner, if one was named.
        uid: Option<NfsUid>,
        /// New group, if one was named.
        gid: Option<NfsGid>,
        /// A refusal by the backing counts as done.
        absorb: bool,
    },
    /// Succeed without a call.
    Nothing,
}

impl Policy {
    /// What to do with a chown of an object that is shown as `shown`.
    ///
    /// # Errors
    /// [`Denied::Chown`] under `chown = "deny"`; [`Denied::NoOwner`] or [`Denied::NoGroup`] where the new owner or group
    /// has no rule and is not what is shown already.
    pub fn chown(
        &self,
        uid: Option<PodUid>,
        gid: Option<PodGid>,
        shown: &ShownAttr,
        rules: &Rules,
    ) -> Result<ChownOutcome, Denied> {
        match rules.chown {
            Chown::Ignore => return Ok(ChownOutcome::Nothing),
            Chown::Deny => return Err(Denied::Chown),
            Chown::Absorb | Chown::Pass => {}
        }
        let absorb = rules.chown == Chown::Absorb;
        let same_uid = uid.is_none_or(|uid| uid == shown.uid);
        let same_gid = gid.is_none_or(|gid| gid == shown.gid);
        // An owner without a rule is shown as somebody who may have none either: naming them changes nothing.
        let uid = match uid.map(|uid| self.owner_named(uid)).transpose() {
            Err(_) if absorb && same_uid => None,
            named => named?,
        };
        let gid = match gid.map(|gid| self.group_named(gid)).transpose() {
            Err(_) if absorb && same_gid => None,
            named => named?,
        };
        if uid.is_none() && gid.is_none() {
            return Ok(ChownOutcome::Nothing);
        }
        Ok(ChownOutcome::Pass { uid, gid, absorb: absorb && same_uid && same_gid })
    }
}
