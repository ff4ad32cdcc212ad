//! The decision, step by step: the rules, then (with an export at hand) the kernel's check of what is shown and the
//! server's own answer. The rules' part calls the functions that the mount calls.

use std::borrow::Cow;
use std::ffi::CString;

use serde::Serialize;

use super::op::{self, Op};
use crate::backing::{BackingFs, Found};
use crate::fs::errno_of;
use crate::policy::dac::{self, Want};
use crate::policy::{
    Caller, ChownOutcome, Credentials, Denied, Owner, Permissions, PodGid, PodUid, Policy, Rules, ShownAttr,
    StoredAttr, Trace,
};
use crate::sys::{Errno, Name};

/// What is asked.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) uid: PodUid,
    pub(super) gid: PodGid,
    /// The process's supplementary groups.
    pub(super) groups: Vec<PodGid>,
    pub(super) op: Op,
    /// From the mount's root.
    pub(super) path: String,
    /// What a create or chmod asks for.
    pub(super) mode: Permissions,
    pub(super) umask: Permissions,
    /// What a chown names.
    pub(super) owner: (Option<PodUid>, Option<PodGid>),
}

/// One who had a say.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Step {
    /// rules, kernel or server.
    pub(super) by: &'static str,
    /// What was asked.
    pub(super) asked: String,
    pub(super) allowed: bool,
}

/// Owner and mode of an object on one side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Look {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Octal, four digits.
    pub(super) mode: String,
}

/// Whom the server sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Who {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

/// The whole answer; its field names are what `--json` prints.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Explanation {
    pub(super) allowed: bool,
    /// What the caller gets; null where allowed.
    pub(super) errno: Option<String>,
    /// Why not; null where allowed.
    pub(super) reason: Option<String>,
    /// The rule that made the decision: file:line, a flag, or a default.
    pub(super) rule: String,
    pub(super) uid_rule: String,
    pub(super) gid_rule: String,
    /// The path rule that holds; null for the profile's own.
    pub(super) path_rule: Option<String>,
    /// As whom the server is asked; null where nobody is asked.
    pub(super) credentials: Option<Who>,
    /// On the export, after the operation.
    pub(super) stored: Option<Look>,
    /// In the mount, after the operation.
    pub(super) shown: Option<Look>,
    /// Everybody who was asked, in order.
    pub(super) steps: Vec<Step>,
    pub(super) notes: Vec<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswerable {
    #[error(
        "{path} cannot be looked at in the source: {errno}; give a path from the mount's root that exists there"
    )]
    Path { path: String, errno: Errno },
    #[error(
        "the path {0:?} has no name in it for this operation: give the path of what is to be made or removed"
    )]
    NoName(String),
    #[error(
        "the path component {0:?} is not a file name: names have at most 255 bytes, and `..` is not followed"
    )]
    BadName(String),
}

/// Where it ended, if not well.
enum Stop {
    Refused { errno: Errno, reason: String, rule: Option<String> },
    Unanswerable(Unanswerable),
}

impl From<Unanswerable> for Stop {
    fn from(why: Unanswerable) -> Self {
        Self::Unanswerable(why)
    }
}

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
        said: Explanation {
            allowed: true,
            errno: None,
            reason: None,
            rule: trace.uid.by.to_string(),
            uid_rule: trace.uid.by.to_string(),
            gid_rule: trace.gid.by.to_string(),
            path_rule,
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

struct Inquiry<'a> {
    policy: &'a Policy,
    question: &'a Question,
    rules: &'a Rules,
    said: Explanation,
}

impl Inquiry<'_> {
    fn conduct<B: BackingFs>(
        &mut self,
        caller: &Caller<'_>,
        trace: &Trace<'_>,
        backing: Option<&B>,
    ) -> Result<(), Stop> {
        let admitted = self.admit(caller, trace)?;
        if self.question.op.changes() {
            let writable = self.policy.writable(self.rules);
            let rule = self.said.path_rule.clone();
            self.rules_say(format!("{} may change", self.question.path), writable, rule)?;
        }
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
        let asked = format!("{}:{} is a caller", caller.uid, caller.gid);
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

    /// Without an export: what can be said whatever is there.
    fn on_paper(&mut self, admitted: &Credentials) -> Result<(), Stop> {
        let question = self.question;
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
        self.said.credentials = Some(who_is(&who));
        Ok(())
    }

    fn at_the_export<B: BackingFs>(&mut self, admitted: &Credentials, backing: &B) -> Result<(), Stop> {
        let names = names(&self.question.path)?;
        let (parents, last) = match names.split_last() {
            Some((last, parents)) => (parents, Some(last)),
            None => (&[] as &[CString], None),
        };
        let failed = |errno| Unanswerable::Path { path: self.question.path.clone(), errno };
        let mut at = backing.root().map_err(failed)?;
        let mut here = String::from("/");
        for name in parents {
            at = self.step_into(admitted, backing, &at, &here, name)?;
            here = join(&here, name);
        }
        if self.question.op.is_in_directory() {
            let Some(last) = last else {
                return Err(Unanswerable::NoName(self.question.path.clone()).into());
            };
            return self.in_directory(admitted, backing, &at, &here, last);
        }
        if let Some(last) = last {
            at = self.step_into(admitted, backing, &at, &here, last)?;
            here = join(&here, last);
        }
        self.at_object(admitted, backing, &at, &here)
    }

    /// One lookup: the kernel checks that the directory may be passed, then the server is asked.
    fn step_into<B: BackingFs>(
        &mut self,
        admitted: &Credentials,
        backing: &B,
        dir: &Found<B::Node>,
        here: &str,
        name: &CString,
    ) -> Result<Found<B::Node>, Stop> {
        let pass = Want::Access { read: false, write: false, execute: true };
        self.ask_kernel(&dir.attr, here, pass)?;
        let who = self.policy.credentials(
            crate::policy::Operation::Look,
            admitted,
            Some(dir.attr.owner()),
            None,
            self.policy.scopes().rules(self.policy.scopes().at_path(here.as_bytes())),
        );
        let name_in = Name::new(name).map_err(|_| Unanswerable::BadName(name.to_string_lossy().into()))?;
        match backing.lookup(&who, &dir.node, name_in) {
            Ok(found) => Ok(found),
            Err(errno @ (Errno::EACCES | Errno::EPERM)) => {
                self.said.credentials = Some(who_is(&who));
                Err(self.server_refuses(&who, &format!("look up a name in {here}"), errno))
            }
            Err(errno) => Err(Unanswerable::Path { path: join(here, name), errno }.into()),
        }
    }

    fn in_directory<B: BackingFs>(
        &mut self,
        admitted: &Credentials,
        backing: &B,
        dir: &Found<B::Node>,
        here: &str,
        name: &CString,
    ) -> Result<(), Stop> {
        let owner = dir.attr.owner();
        let mut who = self.actor(admitted, owner).into_owned();
        self.said.credentials = Some(who_is(&who));
        let want = Want::Access { read: false, write: true, execute: true };
        self.ask_kernel(&dir.attr, here, want)?;
        if self.question.op.operation() == crate::policy::Operation::Remove {
            self.ask_about_sticky(admitted, backing, dir, here, name)?;
        }
        self.ask_server(&who, backing, dir, here, want)?;
        if let Some(group) = self.policy.group_to_adopt(&who, owner, self.rules) {
            who = who.with_gid_first(group);
            self.said.credentials = Some(who_is(&who));
            self.said
                .notes
                .push(format!("setgid = true: the new object takes the directory's group {group}"));
        }
        if let Some(kind) = self.question.op.makes() {
            self.would_make(&who, owner, kind);
        }
        Ok(())
    }

    fn ask_about_sticky<B: BackingFs>(
        &mut self,
        admitted: &Credentials,
        backing: &B,
        dir: &Found<B::Node>,
        here: &str,
        name: &CString,
    ) -> Result<(), Stop> {
        let object = self.step_into(admitted, backing, dir, here, name)?;
        let rules = self.rules;
        let shown = (self.policy.present(&dir.attr, rules), self.policy.present(&object.attr, rules));
        let verdict = dac::may_remove(&self.as_the_kernel_sees(), &shown.0, &shown.1);
        let asked = format!("{} may be taken out of {here}", join(here, name));
        self.say("kernel", asked, verdict.allowed, || {
            (Errno::EPERM, format!("{here} is sticky, and neither it nor the object belongs to the caller"))
        })
    }

    fn at_object<B: BackingFs>(
        &mut self,
        admitted: &Credentials,
        backing: &B,
        object: &Found<B::Node>,
        here: &str,
    ) -> Result<(), Stop> {
        let who = self.actor(admitted, object.attr.owner()).into_owned();
        self.said.credentials = Some(who_is(&who));
        self.show(&object.attr);
        if self.question.op == Op::Chown {
            return self.chown(&who, object, here);
        }
        let Some(want) = self.question.op.want() else { return Ok(()) };
        self.ask_kernel(&object.attr, here, want)?;
        self.ask_server(&who, backing, object, here, want)?;
        if self.question.op == Op::Chmod {
            let mut stored = object.attr;
            stored.permissions = self.policy.chmod(stored.kind, self.question.mode, self.rules);
            self.show(&stored);
        }
        Ok(())
    }

    fn chown<N>(&mut self, who: &Credentials, object: &Found<N>, here: &str) -> Result<(), Stop> {
        let shown = self.policy.present(&object.attr, self.rules);
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

    fn actor<'c>(&'c self, admitted: &'c Credentials, owner: Owner) -> Cow<'c, Credentials> {
        let (object, parent) =
            if self.question.op.is_in_directory() { (None, Some(owner)) } else { (Some(owner), None) };
        self.policy.credentials(self.question.op.operation(), admitted, object, parent, self.rules)
    }

    fn would_make(&mut self, who: &Credentials, parent: Owner, kind: crate::policy::FileKind) {
        let (mode, umask) = (self.question.mode, self.question.umask);
        let new = self.policy.new_mode(kind, mode, umask, parent, self.rules);
        let mut permissions = new.permissions.without(new.umask);
        if new.setgid || (parent.setgid && kind == crate::policy::FileKind::Directory) {
            permissions = permissions.with(Permissions::SETGID);
        }
        let gid = if parent.setgid { parent.gid } else { who.gid };
        let time = crate::policy::Timestamp::default();
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

    fn show(&mut self, stored: &StoredAttr) {
        let shown: ShownAttr = self.policy.present(stored, self.rules);
        self.said.stored = Some(look(stored.uid.get(), stored.gid.get(), stored.permissions));
        self.said.shown = Some(look(shown.uid.get(), shown.gid.get(), shown.permissions));
    }

    /// The kernel knows all groups of a process, whatever the profile's `groups` counts.
    fn as_the_kernel_sees(&self) -> Caller<'_> {
        Caller { uid: self.question.uid, gid: self.question.gid, groups: &self.question.groups }
    }

    fn ask_kernel(&mut self, stored: &StoredAttr, here: &str, want: Want) -> Result<(), Stop> {
        let rules = self.policy.scopes().rules(self.policy.scopes().at_path(here.as_bytes()));
        let shown = self.policy.present(stored, rules);
        let verdict = dac::may(&self.as_the_kernel_sees(), &shown, want);
        let (uid, gid) = (self.question.uid, self.question.gid);
        let asked = format!(
            "{uid}:{gid} may {} {here}, shown {}:{} {}",
            op::name(want),
            shown.uid,
            shown.gid,
            shown.permissions
        );
        let errno = if want == Want::OwnerOnly { Errno::EPERM } else { Errno::EACCES };
        self.say("kernel", asked, verdict.allowed, || {
            (errno, format!("the shown owner and mode of {here} do not allow it"))
        })
    }

    fn ask_server<B: BackingFs>(
        &mut self,
        who: &Credentials,
        backing: &B,
        object: &Found<B::Node>,
        here: &str,
        want: Want,
    ) -> Result<(), Stop> {
        let asked = format!(
            "{} {here}, stored {}:{} {}",
            op::name(want),
            object.attr.uid,
            object.attr.gid,
            object.attr.permissions
        );
        let answer = match op::mask(want) {
            Some(mask) => backing.access(who, &object.node, mask),
            None if who.uid == object.attr.uid || who.uid.is_root() => Ok(()),
            None => Err(Errno::EPERM),
        };
        match answer {
            Err(Errno::EACCES) if self.rules.apply_to_all => {
                self.said.notes.push(format!(
                    "apply_to = \"all\": the stored mode of {here} is brought up to the shown one first"
                ));
                Ok(())
            }
            Err(errno) => Err(self.server_refuses(who, &asked, errno)),
            Ok(()) => self.say("server", format!("{}:{} may {asked}", who.uid, who.gid), true, || {
                (Errno::EACCES, String::new())
            }),
        }
    }

    fn server_refuses(&mut self, who: &Credentials, asked: &str, errno: Errno) -> Stop {
        let asked = format!("{}:{} may {asked}", who.uid, who.gid);
        self.said.steps.push(Step { by: "server", asked, allowed: false });
        let reason = format!("the export's server refuses {}:{}", who.uid, who.gid);
        Stop::Refused { errno, reason, rule: None }
    }

    fn rules_say<T>(
        &mut self,
        asked: String,
        answer: Result<T, Denied>,
        rule: Option<String>,
    ) -> Result<T, Stop> {
        self.said.steps.push(Step { by: "rules", asked, allowed: answer.is_ok() });
        answer.map_err(|denied| Stop::Refused { errno: errno_of(denied), reason: denied.to_string(), rule })
    }

    fn say(
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

fn look(uid: u32, gid: u32, permissions: Permissions) -> Look {
    Look { uid, gid, mode: permissions.to_string() }
}

fn who_is(who: &Credentials) -> Who {
    Who {
        uid: who.uid.get(),
        gid: who.gid.get(),
        groups: who.groups.iter().map(|group| group.get()).collect(),
    }
}

fn names(path: &str) -> Result<Vec<CString>, Unanswerable> {
    let names = path.split('/').filter(|name| !name.is_empty() && *name != ".");
    names.map(|name| CString::new(name).map_err(|_| Unanswerable::BadName(name.to_owned()))).collect()
}

fn join(here: &str, name: &CString) -> String {
    format!("{}/{}", here.trim_end_matches('/'), name.to_string_lossy())
}
