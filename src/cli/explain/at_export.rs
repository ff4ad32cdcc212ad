//! What the kernel and the server say at a real export: the path is walked as the mount would walk it, the kernel's check
//! of the shown attributes is computed, and the server is asked by access(2) under the credentials of the operation.

use std::ffi::CString;

use super::decide::Inquiry;
use super::explanation::{Step, Stop};
use super::op::{self, Op};
use super::walk::{Place, join};
use crate::backing::{BackingFs, Found};
use crate::policy::dac::{self, Want};
use crate::policy::{Caller, ChownOutcome, Credentials, Operation};
use crate::sys::Errno;

impl Inquiry<'_> {
    /// What is judged is where the path leads.
    pub(super) fn at_the_export<B: BackingFs>(
        &mut self,
        admitted: &Credentials,
        backing: &B,
    ) -> Result<(), Stop> {
        if self.question.op.is_in_directory() {
            let (dir, name) = self.walk_to_name(admitted, backing)?;
            return self.in_directory(admitted, backing, &dir, &name);
        }
        let object = self.walk_to_object(admitted, backing)?;
        self.at_object(admitted, backing, &object)
    }

    fn in_directory<B: BackingFs>(
        &mut self,
        admitted: &Credentials,
        backing: &B,
        dir: &Place<B::Node>,
        name: &CString,
    ) -> Result<(), Stop> {
        let owner = dir.found.attr.owner();
        let mut who = self.actor(admitted, owner).into_owned();
        self.said.credentials = Some((&who).into());
        let want = Want::Access { read: false, write: true, execute: true };
        self.ask_kernel(dir, want)?;
        if self.question.op.operation() == Operation::Remove {
            self.ask_about_sticky(admitted, backing, dir, name)?;
        }
        self.may_change(&dir.path, dir.scope)?;
        self.may_change(&join(&dir.path, name), self.scope)?;
        self.ask_server(&who, backing, dir, want)?;
        let adopted = self.policy.group_to_adopt(&who, owner, self.rules);
        if let (Operation::Create, Some(group)) = (self.question.op.operation(), adopted) {
            who = who.with_gid_first(group);
            self.said.credentials = Some((&who).into());
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
        dir: &Place<B::Node>,
        name: &CString,
    ) -> Result<(), Stop> {
        let object = self.step_into(admitted, backing, dir, name)?;
        let rules = self.rules;
        let shown =
            (self.policy.present(&dir.found.attr, rules), self.policy.present(&object.found.attr, rules));
        let verdict = dac::may_remove(&self.as_the_kernel_sees(), &shown.0, &shown.1);
        let here = &dir.path;
        let asked = format!("{} may be taken out of {here}", object.path);
        self.say("kernel", asked, verdict.allowed, || {
            (Errno::EPERM, format!("{here} is sticky, and neither it nor the object belongs to the caller"))
        })
    }

    fn at_object<B: BackingFs>(
        &mut self,
        admitted: &Credentials,
        backing: &B,
        object: &Place<B::Node>,
    ) -> Result<(), Stop> {
        let who = self.actor(admitted, object.found.attr.owner()).into_owned();
        self.said.credentials = Some((&who).into());
        self.show(&object.found.attr);
        if self.question.op == Op::Chown {
            self.may_change(&object.path, object.scope)?;
            return self.chown(&who, &object.found, &object.path);
        }
        let Some(want) = self.question.op.want() else { return Ok(()) };
        self.ask_kernel(object, want)?;
        if self.question.op.changes() {
            self.may_change(&object.path, object.scope)?;
        }
        self.ask_server(&who, backing, object, want)?;
        if self.question.op == Op::Chmod {
            let mut stored = object.found.attr;
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

    pub(super) fn ask_kernel<N>(&mut self, at: &Place<N>, want: Want) -> Result<(), Stop> {
        let here = &at.path;
        let shown = self.policy.present(&at.found.attr, self.policy.scopes().rules(at.scope));
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

    /// The kernel knows all groups of a process, whatever the profile's `groups` counts.
    fn as_the_kernel_sees(&self) -> Caller<'_> {
        Caller { uid: self.question.uid, gid: self.question.gid, groups: &self.question.groups }
    }

    fn ask_server<B: BackingFs>(
        &mut self,
        who: &Credentials,
        backing: &B,
        object: &Place<B::Node>,
        want: Want,
    ) -> Result<(), Stop> {
        let (here, object) = (&object.path, &object.found);
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

    pub(super) fn server_refuses(&mut self, who: &Credentials, asked: &str, errno: Errno) -> Stop {
        let asked = format!("{}:{} may {asked}", who.uid, who.gid);
        self.said.steps.push(Step { by: "server", asked, allowed: false });
        let reason = format!("the export's server refuses {}:{}", who.uid, who.gid);
        Stop::Refused { errno, reason, rule: None }
    }
}
