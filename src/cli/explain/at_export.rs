//! What the kernel and the server say at a real export: the path is walked as the mount would walk it, the kernel's check
//! of the shown attributes is computed, and the server is asked by access(2) under the credentials of the operation.

use std::ffi::CString;

use super::decide::Inquiry;
use super::explanation::{Step, Stop};
use super::op::{self, Op};
use super::walk::{Place, join};
use crate::backing::BackingFs;
use crate::policy::dac::{self, Want};
use crate::policy::{Caller, Credentials, Operation, Permissions};
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
        let going = match self.question.op.operation() {
            Operation::Remove => Some(self.step_into(admitted, backing, dir, name)?),
            _ => None,
        };
        if let Some(object) = &going {
            self.ask_kernel_about_sticky(dir, object)?;
        }
        self.may_change(&dir.path, dir.scope)?;
        self.may_change(&join(&dir.path, name), self.scope)?;
        self.ask_server(&who, backing, dir, want)?;
        if let Some(object) = &going {
            self.ask_server_about_sticky(&who, dir, object)?;
        }
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

    fn ask_kernel_about_sticky<N>(&mut self, dir: &Place<N>, object: &Place<N>) -> Result<(), Stop> {
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

    /// The server knows the stored owners, and whom it is asked as: who is root to the kernel may be nobody there.
    fn ask_server_about_sticky<N>(
        &mut self,
        who: &Credentials,
        dir: &Place<N>,
        object: &Place<N>,
    ) -> Result<(), Stop> {
        let (dir_attr, attr) = (&dir.found.attr, &object.found.attr);
        if !dir_attr.permissions.contains(Permissions::STICKY) {
            return Ok(());
        }
        let allowed = who.uid.is_root() || who.uid == attr.uid || who.uid == dir_attr.uid;
        let (here, path) = (&dir.path, &object.path);
        let asked = format!("{}:{} may take {path} out of {here}, stored {}", who.uid, who.gid, attr.uid);
        self.say("server", asked, allowed, || {
            (
                Errno::EPERM,
                format!("{here} is sticky, and neither it nor {path} belongs to {} there", who.uid),
            )
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
            return self.chown(&who, object);
        }
        let Some(want) = self.question.op.want() else { return Ok(()) };
        self.ask_kernel(object, want)?;
        if self.question.op.changes() {
            self.may_change(&object.path, object.scope)?;
        }
        self.ask_server(&who, backing, object, want)?;
        if self.question.op == Op::Chmod {
            self.would_chmod(&who, object);
        }
        Ok(())
    }

    /// Setgid is only for who belongs to the object's group (setattr_copy() of Linux): to the shown one in this kernel, to
    /// the stored one at the server, which drops also what `setgid = true` adds.
    fn would_chmod<N>(&mut self, who: &Credentials, object: &Place<N>) {
        let mut stored = object.found.attr;
        let shown = self.policy.present(&stored, self.rules);
        let caller = self.as_the_kernel_sees();
        let in_group = caller.gid == shown.gid || caller.groups.contains(&shown.gid);
        let mode = match in_group || caller.uid.is_root() {
            true => self.question.mode,
            false => self.question.mode.without(Permissions::SETGID),
        };
        stored.permissions = self.policy.chmod(stored.kind, mode, self.rules);
        let keeps = who.uid.is_root() || who.is_member(stored.gid);
        if !keeps && stored.permissions.contains(Permissions::SETGID) {
            stored.permissions = stored.permissions.without(Permissions::SETGID);
            self.said.notes.push(format!(
                "the server drops setgid: {}:{} is not in the group {}",
                who.uid, who.gid, stored.gid
            ));
        }
        self.show(&stored);
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
    pub(super) fn as_the_kernel_sees(&self) -> Caller<'_> {
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
