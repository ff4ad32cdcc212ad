//! The identities by which the host works on an export: those that the rules give to pods, and no others.
//!
//! Nobody knows yet which pod will come, so several are tried in the order of the rules: the first id of each rule, then
//! whom the export's own directory is shown as. Each acts as the policy has it act (`act_as`).

use crate::backing::Errno;
use crate::policy::{Caller, Credentials, Operation, Owner, PodGid, PodUid, Policy, Rules, ScopeId};

/// The most rules of each kind whose ids are tried.
const MAX_RULES: usize = 8;

/// Whom the rules let work.
#[derive(Debug)]
pub(super) struct Hands<'p> {
    policy: &'p Policy,
    admitted: Vec<Credentials>,
}

impl<'p> Hands<'p> {
    /// Whom `policy` admits to a directory of `owner`.
    pub(super) fn new(policy: &'p Policy, owner: Owner) -> Self {
        let uids = policy.uid_map().rules().iter().filter(|rule| rule.direction.inbound());
        let uids = uids.take(MAX_RULES).map(|rule| rule.pod_first);
        let gids = policy.gid_map().rules().iter().filter(|rule| rule.direction.inbound());
        let gids = gids.take(MAX_RULES).map(|rule| rule.pod_first);
        let uids = uids.chain([policy.show_uid(owner.uid), PodUid::ROOT]);
        let gids: Vec<_> = gids.chain([policy.show_gid(owner.gid), PodGid::ROOT]).collect();
        let mut hands = Self { policy, admitted: Vec::new() };
        for uid in uids {
            if let Some(admitted) = hands.admit(uid, &gids)
                && !hands.admitted.contains(&admitted)
            {
                hands.admitted.push(admitted);
            }
        }
        hands
    }

    /// Whether nobody could use the directory.
    pub(super) fn is_empty(&self) -> bool {
        self.admitted.is_empty()
    }

    /// Those that are tried, for a sentence.
    pub(super) fn names(&self) -> String {
        let names: Vec<_> = self.admitted.iter().map(|who| format!("{}:{}", who.uid, who.gid)).collect();
        names.join(", ")
    }

    /// The rules that hold at the export's root.
    pub(super) fn rules(&self) -> &Rules {
        self.policy.scopes().rules(ScopeId::ROOT)
    }

    /// The policy.
    pub(super) fn policy(&self) -> &'p Policy {
        self.policy
    }

    /// Does something with an object, or in a directory (`parent`), as the first who may.
    ///
    /// # Errors
    /// The first that is no refusal; else the last refusal (EACCES or EPERM).
    pub(super) fn attempt<T>(
        &self,
        operation: Operation,
        object: Option<Owner>,
        parent: Option<Owner>,
        mut work: impl FnMut(&Credentials) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let mut refused = Errno::EACCES;
        let owner = object.or(parent).and_then(|owner| self.as_owner(owner));
        for who in owner.iter().chain(&self.admitted) {
            let who = self.policy.credentials(operation, who, object, parent, self.rules());
            match work(&who) {
                Err(errno @ (Errno::EACCES | Errno::EPERM)) => refused = errno,
                outcome => return outcome,
            }
        }
        Err(refused)
    }

    /// The owner itself, where the rules make somebody that owner: what pods of another rule have left is theirs to move.
    fn as_owner(&self, owner: Owner) -> Option<Credentials> {
        let (uid, gid) = (self.policy.show_uid(owner.uid), self.policy.show_gid(owner.gid));
        self.admit(uid, &[gid]).filter(|who| who.uid == owner.uid && !owner.uid.is_root())
    }

    fn admit(&self, uid: PodUid, gids: &[PodGid]) -> Option<Credentials> {
        let groups = self.policy.counted_groups(gids);
        gids.iter().find_map(|&gid| self.policy.admit(&Caller { uid, gid, groups }).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RulesFile;
    use crate::policy::{NfsGid, NfsUid};

    fn owner(uid: u32, gid: u32) -> Owner {
        Owner { uid: NfsUid::new(uid).unwrap(), gid: NfsGid::new(gid).unwrap(), setgid: false }
    }

    fn policy(profile: &str) -> Policy {
        let text = format!("version = 1\n[profile.p]\n{profile}\n");
        RulesFile::parse(&text, "rules").unwrap().policy(None, &Default::default()).unwrap()
    }

    fn names(profile: &str, at: Owner) -> String {
        Hands::new(&policy(profile), at).names()
    }

    #[test]
    fn the_first_ids_of_the_rules_are_tried() {
        let rules = "uid = [{ pod = 50000, nfs = 2001 }, { pod = \"100-199\", nfs = \"300-399\" }]\n\
            gid = [{ pod = 0, nfs = 2001 }]";
        assert_eq!(names(rules, owner(2001, 2001)), "2001:2001, 300:2001");
    }

    #[test]
    fn where_ids_are_kept_the_directorys_owner_is_tried_and_root_only_where_the_rules_name_it() {
        let kept = "unmapped = { pod = \"keep\", nfs = \"keep\" }";
        assert_eq!(names(kept, owner(7, 8)), "7:8");
        assert_eq!(names(kept, owner(0, 0)), "");
        let root = "unmapped = { pod = \"keep\", nfs = \"keep\", root = \"keep\" }";
        assert_eq!(names(root, owner(0, 0)), "0:0");
    }

    #[test]
    fn without_rules_there_is_nobody() {
        assert!(Hands::new(&policy(""), owner(1, 1)).is_empty());
    }

    #[test]
    fn whoever_may_does_it_and_the_owner_is_asked_first() {
        let policy =
            policy("uid = [{ pod = 1, nfs = 11 }, { pod = 2, nfs = 12 }]\ngid = [{ pod = 1, nfs = 11 }]");
        let hands = Hands::new(&policy, owner(11, 11));
        let who = hands.attempt(Operation::Look, Some(owner(12, 11)), None, |who| Ok(who.uid.get()));
        assert_eq!(who, Ok(12));
        let mut tried = Vec::new();
        let refused = hands.attempt(Operation::Look, Some(owner(9, 9)), None, |who| {
            tried.push(who.uid.get());
            Err::<(), _>(Errno::EACCES)
        });
        assert_eq!((refused, tried), (Err(Errno::EACCES), vec![11, 12]));
        let failed = hands.attempt(Operation::Look, None, None, |_| Err::<(), _>(Errno::EIO));
        assert_eq!(failed, Err(Errno::EIO));
    }
}
