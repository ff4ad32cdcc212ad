//! The walk to what a path names, as the kernel makes it for a pod in the mount: name by name, and through symlinks. Each
//! directory on the way must let the caller pass, at the kernel and at the server.
//!
//! Not here: `fs.protected_symlinks` (proc(5)), which differs from node to node, and other mounts below this one.

use std::borrow::Cow;
use std::ffi::CString;

use super::decide::Inquiry;
use super::explanation::{Stop, Unanswerable};
use crate::backing::{BackingFs, Found};
use crate::policy::dac::Want;
use crate::policy::{Credentials, FileKind, Operation, ScopeId};
use crate::sys::{Errno, Name};

/// The most symlinks on one way; one more is ELOOP (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// An object and where it lies.
pub(super) struct Place<N> {
    pub(super) found: Found<N>,
    /// From the mount's root, through no symlink.
    pub(super) path: String,
    pub(super) scope: ScopeId,
}

/// A walk under way.
struct Walk<N> {
    /// The mount's root, and the directories from there to where it is.
    trail: Vec<Place<N>>,
    /// The names still to be walked, the next one last.
    ahead: Vec<CString>,
    /// Symlinks so far.
    links: usize,
}

impl Inquiry<'_> {
    /// The object that the path names. The rules asked from here on are those that hold there.
    pub(super) fn walk_to_object<B: BackingFs>(
        &mut self,
        admitted: &Credentials,
        backing: &B,
    ) -> Result<Place<B::Node>, Stop> {
        let mut walk = self.begin(backing)?;
        while let Some(name) = walk.ahead.pop() {
            let follow = !walk.ahead.is_empty() || self.question.op.follows();
            self.step(admitted, backing, &mut walk, &name, follow)?;
        }
        let object = walk.trail.pop().ok_or_else(|| self.cannot(&self.question.path, Errno::ENOENT))?;
        self.arrive(object.path.clone(), object.scope);
        Ok(object)
    }

    /// The directory that has, or is to have, the name with which the path ends, and the name.
    pub(super) fn walk_to_name<B: BackingFs>(
        &mut self,
        admitted: &Credentials,
        backing: &B,
    ) -> Result<(Place<B::Node>, CString), Stop> {
        let mut walk = self.begin(backing)?;
        loop {
            while walk.ahead.len() > 1 {
                let Some(name) = walk.ahead.pop() else { break };
                self.step(admitted, backing, &mut walk, &name, true)?;
            }
            let last = walk.ahead.pop().filter(|name| name.as_bytes() != b"..");
            let (Some(name), Some(dir)) = (last, walk.trail.last()) else {
                return Err(Unanswerable::NoName(self.question.path.clone()).into());
            };
            if self.question.op.follows()
                && let Some(link) = self.symlink_at(admitted, backing, dir, &name)?
            {
                self.follow(admitted, backing, &mut walk, &link)?;
                continue;
            }
            let scope = self.policy.scopes().child(dir.scope, name.as_bytes());
            self.arrive(join(&dir.path, &name), scope);
            let dir = walk.trail.pop().ok_or_else(|| self.cannot("/", Errno::ENOENT))?;
            return Ok((dir, name));
        }
    }

    /// One lookup: the kernel checks that the directory may be passed, then the server is asked.
    pub(super) fn step_into<B: BackingFs>(
        &mut self,
        admitted: &Credentials,
        backing: &B,
        dir: &Place<B::Node>,
        name: &CString,
    ) -> Result<Place<B::Node>, Stop> {
        self.pass(dir)?;
        let who = self.looker(admitted, dir).into_owned();
        let name_in = Name::new(name).map_err(|_| Unanswerable::BadName(name.to_string_lossy().into()))?;
        match backing.lookup(&who, &dir.found.node, name_in) {
            Ok(found) => {
                let scope = self.policy.scopes().child(dir.scope, name.as_bytes());
                Ok(Place { found, path: join(&dir.path, name), scope })
            }
            Err(errno @ (Errno::EACCES | Errno::EPERM)) => {
                self.said.credentials = Some((&who).into());
                Err(self.server_refuses(&who, &format!("look up a name in {}", dir.path), errno))
            }
            Err(errno) => Err(self.cannot(&join(&dir.path, name), errno)),
        }
    }

    fn begin<B: BackingFs>(&self, backing: &B) -> Result<Walk<B::Node>, Stop> {
        let mut ahead = names(self.question.path.as_bytes());
        ahead.reverse();
        let found = backing.root().map_err(|errno| self.cannot("/", errno))?;
        let root = Place { found, path: "/".to_owned(), scope: ScopeId::ROOT };
        Ok(Walk { trail: vec![root], ahead, links: 0 })
    }

    fn step<B: BackingFs>(
        &mut self,
        admitted: &Credentials,
        backing: &B,
        walk: &mut Walk<B::Node>,
        name: &CString,
        follow: bool,
    ) -> Result<(), Stop> {
        let Some(dir) = walk.trail.last() else { return Err(self.cannot("/", Errno::ENOENT)) };
        if name.as_bytes() == b".." {
            self.pass(dir)?;
            walk.trail.pop();
            if walk.trail.is_empty() {
                return Err(Unanswerable::AboveTheRoot(self.question.path.clone()).into());
            }
            return Ok(());
        }
        let next = self.step_into(admitted, backing, dir, name)?;
        if follow && next.found.attr.kind == FileKind::Symlink {
            return self.follow(admitted, backing, walk, &next);
        }
        walk.trail.push(next);
        Ok(())
    }

    /// What stands there, if it is a symlink; a name that is free is none.
    fn symlink_at<B: BackingFs>(
        &mut self,
        admitted: &Credentials,
        backing: &B,
        dir: &Place<B::Node>,
        name: &CString,
    ) -> Result<Option<Place<B::Node>>, Stop> {
        match self.step_into(admitted, backing, dir, name) {
            Ok(place) => Ok((place.found.attr.kind == FileKind::Symlink).then_some(place)),
            Err(Stop::Unanswerable(Unanswerable::Path { errno: Errno::ENOENT, .. })) => Ok(None),
            Err(stop) => Err(stop),
        }
    }

    /// Puts a symlink's target ahead: it goes on from the directory that has the link.
    fn follow<B: BackingFs>(
        &mut self,
        admitted: &Credentials,
        backing: &B,
        walk: &mut Walk<B::Node>,
        link: &Place<B::Node>,
    ) -> Result<(), Stop> {
        walk.links += 1;
        if walk.links > MAX_LINKS {
            return Err(self.cannot(&link.path, Errno::ELOOP));
        }
        let who = self.looker(admitted, link).into_owned();
        let target = match backing.readlink(&who, &link.found.node) {
            Ok(target) => target,
            Err(errno @ (Errno::EACCES | Errno::EPERM)) => {
                self.said.credentials = Some((&who).into());
                return Err(self.server_refuses(&who, &format!("read the symlink {}", link.path), errno));
            }
            Err(errno) => return Err(self.cannot(&link.path, errno)),
        };
        let shown = String::from_utf8_lossy(&target).into_owned();
        if target.starts_with(b"/") {
            return Err(Unanswerable::LeavesTheMount { link: link.path.clone(), target: shown }.into());
        }
        self.said.notes.push(format!("{} is a symlink to {shown}", link.path));
        walk.ahead.extend(names(&target).into_iter().rev());
        Ok(())
    }

    /// Only a directory is passed, and only by who may search it.
    fn pass<N>(&mut self, dir: &Place<N>) -> Result<(), Stop> {
        if dir.found.attr.kind != FileKind::Directory {
            return Err(self.cannot(&dir.path, Errno::ENOTDIR));
        }
        self.ask_kernel(dir, Want::Access { read: false, write: false, execute: true })
    }

    fn looker<'c, N>(&self, admitted: &'c Credentials, at: &Place<N>) -> Cow<'c, Credentials> {
        let rules = self.policy.scopes().rules(at.scope);
        self.policy.credentials(Operation::Look, admitted, Some(at.found.attr.owner()), None, rules)
    }

    /// From here on the rules are those of the place, and the answer says which place that is.
    fn arrive(&mut self, path: String, scope: ScopeId) {
        let held = self.policy.scopes().held(scope);
        (self.rules, self.scope) = (&held.rules, scope);
        self.said.path_rule = held.path.as_ref().map(ToString::to_string);
        self.said.path = path;
    }

    fn cannot(&self, path: &str, errno: Errno) -> Stop {
        Unanswerable::Path { path: path.to_owned(), errno }.into()
    }
}

/// Refuses a path that is asked about with what is no name in it. `..` is none: where it leads depends on the symlinks before
/// it, and the rules hold for names.
pub(super) fn check(path: &str) -> Result<(), Unanswerable> {
    match names(path.as_bytes()).iter().find(|name| Name::new(name).is_err()) {
        Some(bad) => Err(Unanswerable::BadName(bad.to_string_lossy().into())),
        None => Ok(()),
    }
}

/// The names in a path; `.` and a second slash mean nothing.
fn names(path: &[u8]) -> Vec<CString> {
    let names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    // No argument and no symlink's target has a NUL in it, so none is left out.
    names.filter_map(|name| CString::new(name).ok()).collect()
}

pub(super) fn join(here: &str, name: &CString) -> String {
    format!("{}/{}", here.trim_end_matches('/'), name.to_string_lossy())
}
