//! What differs between two policies, whatever lines they were written on.

use super::ids::Id;
use super::rules::Rules;
use super::*;

impl Policy {
    /// The keys of the rules file that mean something else in `other`, in the file's order; none where both decide alike.
    #[must_use]
    pub fn changes(&self, other: &Self) -> Vec<&'static str> {
        let unmapped = |policy: &Self| {
            let (uids, gids) = (&policy.uids, &policy.gids);
            [(uids.pod, gids.pod), (uids.root, gids.root)]
        };
        let shown = |policy: &Self| (policy.uids.nfs, policy.gids.nfs);
        let caches = (&self.cache, &other.cache);
        let same = [
            ("uid", same_rules(&self.uids.map, &other.uids.map)),
            ("gid", same_rules(&self.gids.map, &other.gids.map)),
            ("act_as", self.act_as.value == other.act_as.value),
            ("groups", self.groups.value == other.groups.value),
            ("allow_root", self.allow_root == other.allow_root),
            ("unmapped.pod", unmapped(self)[0] == unmapped(other)[0]),
            ("unmapped.nfs", shown(self) == shown(other)),
            ("unmapped.root", unmapped(self)[1] == unmapped(other)[1]),
            ("cache.attr_timeout", caches.0.attr_timeout == caches.1.attr_timeout),
            ("cache.entry_timeout", caches.0.entry_timeout == caches.1.entry_timeout),
            ("cache.negative_timeout", caches.0.negative_timeout == caches.1.negative_timeout),
            ("cache.data", caches.0.data == caches.1.data),
            ("cache.open", caches.0.open == caches.1.open),
            ("locks.scope", self.lock_scope == other.lock_scope),
            ("path", self.scopes.decide_like(&other.scopes)),
        ];
        let base = |policy: &Self| policy.scopes.all_held().first().map(|held| held.rules.clone());
        let permissions = match (base(self), base(other)) {
            (Some(before), Some(after)) => changed_permissions(&before, &after),
            // There is always a base.
            _ => Vec::new(),
        };
        let keys = same.into_iter().filter_map(|(key, same)| (!same).then_some(key));
        keys.chain(permissions).collect()
    }
}

fn same_rules<P: Id, N: Id>(one: &IdMap<P, N>, other: &IdMap<P, N>) -> bool {
    let meaning = |rule: &Rule<P, N>| Rule { origin: Origin::Default(""), ..rule.clone() };
    one.rules().iter().map(meaning).eq(other.rules().iter().map(meaning))
}

fn changed_permissions(before: &Rules, after: &Rules) -> Vec<&'static str> {
    let same = [
        ("permissions.group_write", before.group_write == after.group_write),
        ("permissions.setgid", before.setgid == after.setgid),
        ("permissions.umask", before.umask == after.umask),
        ("permissions.apply_to", before.apply_to_all == after.apply_to_all),
        ("permissions.chown", before.chown == after.chown),
        ("permissions.read_only", before.read_only == after.read_only),
    ];
    same.into_iter().filter_map(|(key, same)| (!same).then_some(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(change: impl FnOnce(&mut Profile)) -> Policy {
        let mut profile = Profile::new("p");
        change(&mut profile);
        profile.build().unwrap()
    }

    fn read_only_below(path: &str, line: u32) -> PathRule {
        let origin = Origin::File { path: "f".into(), line };
        let mut rule = PathRule::new(MatchPath::parse(path).unwrap(), origin.clone());
        rule.read_only = Some((true, origin));
        rule
    }

    #[test]
    fn lines_do_not_matter_and_meanings_do() {
        let nothing = policy(|_| ());
        assert!(nothing.changes(&policy(|_| ())).is_empty());
        let below = |path: &'static str, line| policy(move |p| p.paths.push(read_only_below(path, line)));
        assert!(below("/a", 3).changes(&below("/a", 30)).is_empty());
        assert_eq!(nothing.changes(&below("/a", 3)), ["path"]);
        assert_eq!(below("/b", 3).changes(&below("/a", 3)), ["path"]);
        let grouped = policy(|p| {
            p.permissions.group_write = true;
            p.cache.attr_timeout = std::time::Duration::ZERO;
            p.lock_scope = LockScope::Node;
        });
        let keys = ["cache.attr_timeout", "locks.scope", "permissions.group_write"];
        assert_eq!(nothing.changes(&grouped), keys);
        assert_eq!(grouped.changes(&nothing), keys);
    }
}
