//! The decision of the rules, by the functions that the mount calls; with an export at hand [`super::at_export`] goes on.

use std::borrow::Cow;

use super::explanation::{Explanation, Look, Question, Step, Stop, Unanswerable};
use super::op::Op;
use super::walk;
use crate::backing::BackingFs;
use crate::fs::errno_of;
use crate::policy::{
    Caller, Credentials, Denied, FileKind, Operation, Owner, Permissions, Policy, Rules, ScopeId, ShownAttr,
    StoredAttr, Timestamp, Trace,
};
use crate::sys::Errno;

/// Decides. Without a backing only the rules are asked.
pub(super) fn decide<B: BackingFs>(
    policy: &Policy,
    question: &Question,
    backing: Option<&B>,
) -> Result<Explanation, Unanswerable> {
    let groups = policy.counted_groups(&question.groups);
    let caller = Caller { uid: question.uid, gid: question.gid, groups };
    let trace = policy.trace_admission(&caller);
    let scope = policy.scopes().at_path(question.path.as_bytes());
    let path_rule = policy.scopes().held(scope).path.as_ref().map(ToString::to_string);
    let mut inquiry = Inquiry {
        policy,
        question,
        rules: policy.scopes().rules(scope),
        scope,
        said: Explanation {
            allowed: true,
            errno: None,
            reason: None,
            rule: trace.uid.by.to_string(),
            uid_rule: trace.uid.by.to_string(),
            gid_rule: trace.gid.by.to_string(),
            path_rule,
            path: question.path.clone(),
            credentials: None,
            stored: None,
            shown: None,
            steps: Vec::new(),
            notes: Vec::new(),
        },
    };
    match inquiry.conduct(&caller, &trace, backing) {
        Ok(()) => {}
        Err(Stop::Unanswerable(why)) => return Err(why),
        Err(Stop::Refused { errno, reason, rule }) => {
            let said = &mut inquiry.said;
            (said.allowed, said.errno, said.reason) = (false, Some(format!("{errno:?}")), Some(reason));
            (said.stored, said.shown) = (None, None);
            said.rule = rule.unwrap_or_else(|| said.rule.clone());
        }
    }
    Ok(inquiry.said)
}

/// A question being answered: what was said so far.
pub(super) struct Inquiry<'a> {
    pub(super) policy: &'a Policy,
    pub(super) question: &'a Question,
    /// Those of the path asked about; where it leads through a symlink, those of where that leads.
    pub(super) rules: &'a Rules,
    /// Where they hold.
    pub(super) scope: ScopeId,
    pub(super) said: Explanation,
}

impl Inquiry<'_> {
    fn conduct<B: BackingFs>(
        &mut self,
        caller: &Caller<'_>,
        trace: &Trace<'_>,
        backing: Option<&B>,
    ) -> Result<(), Stop> {
        walk::check(&self.question.path)?;
        let admitted = self.admit(caller, trace)?;
        match backing {
            Some(backing) => self.at_the_export(&admitted, backing),
            None => self.on_paper(&admitted),
        }
    }

    fn admit(&mut self, caller: &Caller<'_>, trace: &Trace<'_>) -> Result<Credentials, Stop> {
        let admitted = self.policy.admit(caller);
        let rule = match admitted {
            Err(Denied::NoRuleForGid(_) | Denied::RootGroup) => trace.gid.by,
            _ => trace.uid.by,
        };
        let asked = format!("{}:{} is admitted", caller.uid, caller.gid);
        if admitted.is_err() && self.question.op.operation() == Operation::Look {
            self.said
                .notes
                .push("what the kernel has cached for others is shown to this caller too".to_owned());
        }
        let admitted = self.rules_say(asked, admitted, Some(rule.to_string()))?;
        for group in &trace.groups {
            let (group, nfs, origin) = (group.pod, group.nfs, group.by);
            self.said.notes.push(match nfs {
                Some(nfs) => format!("group {group} counts as {nfs} ({origin})"),
                None => format!("group {group} does not count: no rule maps it ({origin})"),
            });
        }
        Ok(admitted)
    }

    /// Read-only subtrees; to make or remove something, its directory must be open to changes too.
    pub(super) fn may_change(&mut self, path: &str, scope: ScopeId) -> Result<(), Stop> {
        let scopes = self.policy.scopes();
        let writable = self.policy.writable(scopes.rules(scope));
        self.rules_say(
            format!("{path} may change"),
            writable,
            scopes.held(scope).path.as_ref().map(ToString::to_string),
        )
    }

    /// Without an export: what can be said whatever is there.
    fn on_paper(&mut self, admitted: &Credentials) -> Result<(), Stop> {
        let question = self.question;
        if question.op.is_in_directory() {
            let parent = question.path.rsplit_once('/').map_or("", |(parent, _)| parent);
            let scope = self.policy.scopes().at_path(parent.as_bytes());
            self.may_change(if parent.is_empty() { "/" } else { parent }, scope)?;
        }
        if question.op.changes() {
            self.may_change(&question.path, self.scope)?;
        }
        self.said.notes.push(format!(
            "without --source only the rules were asked; {} is taken to belong to {}:{}",
            if question.op.is_in_directory() { "the directory" } else { "the object" },
            admitted.uid,
            admitted.gid
        ));
        let owner = Owner { uid: admitted.uid, gid: admitted.gid, setgid: self.rules.setgid };
        let who = self.actor(admitted, owner).into_owned();
        if let Some(kind) = question.op.makes() {
            self.would_make(&who, owner, kind);
        }
        self.said.credentials = Some((&who).into());
        if question.op == Op::Chown {
            let (uid, gid) = (self.policy.show_uid(owner.uid), self.policy.show_gid(owner.gid));
            self.ask_kernel_to_give(&question.path, uid, gid)?;
        }
        Ok(())
    }

    pub(super) fn actor<'c>(&'c self, admitted: &'c Credentials, owner: Owner) -> Cow<'c, Credentials> {
        let (object, parent) =
            if self.question.op.is_in_directory() { (None, Some(owner)) } else { (Some(owner), None) };
        self.policy.credentials(self.question.op.operation(), admitted, object, parent, self.rules)
    }

    pub(super) fn would_make(&mut self, who: &Credentials, parent: Owner, kind: FileKind) {
        let (mode, umask) = (self.question.mode, self.question.umask);
        let new = self.policy.new_mode(kind, mode, umask, parent, self.rules);
        let mut permissions = match kind {
            // symlink(2) takes neither a mode nor a umask.
            FileKind::Symlink => Permissions::from_mode(0o777),
            _ => new.permissions.without(new.umask),
        };
        if new.setgid || (parent.setgid && kind == FileKind::Directory) {
            permissions = permissions.with(Permissions::SETGID);
        }
        let gid = if parent.setgid { parent.gid } else { who.gid };
        let time = Timestamp::default();
        self.show(&StoredAttr {
            ino: 0,
            kind,
            permissions,
            nlink: 1,
            uid: who.uid,
            gid,
            rdev: 0,
            size: 0,
            blocks: 0,
            block_size: 0,
            atime: time,
            mtime: time,
            ctime: time,
            btime: None,
        });
    }

    pub(super) fn show(&mut self, stored: &StoredAttr) {
        let shown: ShownAttr = self.policy.present(stored, self.rules);
        self.said.stored = Some(Look::new(stored.uid.get(), stored.gid.get(), stored.permissions));
        self.said.shown = Some(Look::new(shown.uid.get(), shown.gid.get(), shown.permissions));
    }

    pub(super) fn rules_say<T>(
        &mut self,
        asked: String,
        answer: Result<T, Denied>,
        rule: Option<String>,
    ) -> Result<T, Stop> {
        self.said.steps.push(Step { by: "rules", asked, allowed: answer.is_ok() });
        answer.map_err(|denied| Stop::Refused { errno: errno_of(denied), reason: denied.to_string(), rule })
    }

    pub(super) fn say(
        &mut self,
        by: &'static str,
        asked: String,
        allowed: bool,
        refusal: impl FnOnce() -> (Errno, String),
    ) -> Result<(), Stop> {
        self.said.steps.push(Step { by, asked, allowed });
        if allowed {
            return Ok(());
        }
        let (errno, reason) = refusal();
        Err(Stop::Refused { errno, reason, rule: None })
    }
}
