//! chown(2): what the kernel lets through, what the rules make of that, and what the server says to the rest.

use super::decide::Inquiry;
use super::explanation::Stop;
use super::walk::Place;
use crate::policy::{ChownOutcome, Credentials, PodGid, PodUid};
use crate::sys::Errno;

impl Inquiry<'_> {
    pub(super) fn chown<N>(&mut self, who: &Credentials, object: &Place<N>) -> Result<(), Stop> {
        let (here, object) = (&object.path, &object.found);
        let shown = self.policy.present(&object.attr, self.rules);
        self.ask_kernel_to_give(here, shown.uid, shown.gid)?;
        self.may_change(here, self.scope)?;
        let (uid, gid) = self.question.owner;
        let outcome = self.policy.chown(uid, gid, &shown, self.rules);
        let rule = self.said.path_rule.clone();
        match self.rules_say(format!("{here} may be given away"), outcome, rule)? {
            ChownOutcome::Nothing => {
                self.said.notes.push("nothing is asked of the server: it succeeds without effect".to_owned());
            }
            ChownOutcome::Pass { absorb: true, .. } => {
                self.said.notes.push(
                    "it names what is already shown: a refusal by the server counts as done".to_owned(),
                );
            }
            ChownOutcome::Pass { uid, gid, absorb: false } => {
                let own_group = uid.is_none_or(|uid| uid == object.attr.uid)
                    && gid.is_none_or(|gid| who.is_member(gid))
                    && who.uid == object.attr.uid;
                let asked = format!("{}:{} may give {here} to that owner", who.uid, who.gid);
                self.say("server", asked, own_group || who.uid.is_root(), || {
                    (
                        Errno::EPERM,
                        format!(
                            "the server lets only root change an owner, and {} only to a group of its own",
                            who.uid
                        ),
                    )
                })?;
                let mut stored = object.attr;
                (stored.uid, stored.gid) = (uid.unwrap_or(stored.uid), gid.unwrap_or(stored.gid));
                self.show(&stored);
            }
        }
        Ok(())
    }

    /// chown_ok() and chgrp_ok() of Linux (fs/attr.c): without CAP_CHOWN an owner may name itself, and the groups that it is
    /// in. The request comes to permfs only then, so `permissions.chown` does not matter before.
    pub(super) fn ask_kernel_to_give(
        &mut self,
        here: &str,
        owner: PodUid,
        group: PodGid,
    ) -> Result<(), Stop> {
        let caller = self.as_the_kernel_sees();
        let owns = caller.uid == owner;
        let in_group = |gid| gid == group || gid == caller.gid || caller.groups.contains(&gid);
        let (uid, gid) = self.question.owner;
        let allowed = caller.uid.is_root()
            || (uid.is_none_or(|uid| owns && uid == owner) && gid.is_none_or(|gid| owns && in_group(gid)));
        let asked = format!("{}:{} may chown {here}, shown {owner}:{group}", caller.uid, caller.gid);
        self.say("kernel", asked, allowed, || {
            let reason = "only root in the pod may give a file away, and only its owner may give it a group, one of its own; \
                          the kernel refuses the rest before it asks permfs, whatever permissions.chown says";
            (Errno::EPERM, reason.to_owned())
        })
    }
}
