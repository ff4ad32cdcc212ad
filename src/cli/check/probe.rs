//! Finds out how an export treats root, groups and ids, by trying it in a directory of its own, which it removes again.
//! Every call runs under chosen credentials, as a mount's would.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs;
use std::ops::ControlFlow;
use std::sync::Arc;

use nix::fcntl::OFlag;

use crate::backing::{BackingFs, Found};
use crate::policy::{Credentials, FileKind, NewMode, NfsGid, NfsUid, Permissions, StoredAttr};
use crate::sys::{Errno, Name};

/// Objects that are looked at to tell who owns what.
const MAX_SAMPLE: usize = 2000;
/// Of these, in one directory: so that one large directory does not stand for all.
const MAX_SAMPLE_PER_DIRECTORY: usize = 200;
/// Owners that are told.
const MAX_OWNERS: usize = 8;
/// A user that hardly exists on any server: what it may do, it may by its groups.
const STRANGER: u32 = 2_147_483_001;
/// What an NFSv4 client shows where idmapd knows no name: 65534, or as an int -2.
const UNKNOWN_IDS: [u32; 2] = [65534, 4_294_967_294];

/// What a probe found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer<T> {
    Yes(T),
    No(T),
    /// And why.
    Unknown(String),
}

/// What one owner has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Owned {
    pub(super) files: usize,
    pub(super) directories: usize,
    modes: BTreeMap<Permissions, usize>,
}

impl Owned {
    /// The three most frequent modes.
    pub(super) fn modes(&self) -> String {
        let mut modes: Vec<_> = self.modes.iter().collect();
        modes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let modes: Vec<_> = modes.into_iter().take(3).map(|(mode, _)| mode.to_string()).collect();
        modes.join(" ")
    }
}

/// Everything found out.
#[derive(Debug, Clone)]
pub(super) struct Findings {
    pub(super) root: StoredAttr,
    /// Whether uid 0 is squashed, and to whom.
    pub(super) root_user: Answer<u32>,
    /// Whether gid 0 is squashed, and to which.
    pub(super) root_group: Answer<u32>,
    /// Whether a supplementary group gives access.
    pub(super) group_lists: Answer<()>,
    /// A sentence, where ids seem to be mapped already.
    pub(super) idmapped: Option<String>,
    pub(super) looked_at: usize,
    /// Who owns most, first.
    pub(super) owners: Vec<((NfsUid, NfsGid), Owned)>,
}

/// Probes.
///
/// # Errors
/// Where the root cannot be looked at.
pub(super) fn probe<B: BackingFs>(backing: &B) -> Result<Findings, Errno> {
    let root = backing.root()?;
    let owners = survey(backing, &root);
    let looked_at = owners.values().map(|owned| owned.files + owned.directories).sum();
    let mut owners: Vec<_> = owners.into_iter().collect();
    owners.sort_by_key(|(_, owned)| std::cmp::Reverse(owned.files + owned.directories));
    let owner = Credentials::new(root.attr.uid, root.attr.gid, []);
    let site = Site::new(backing, &root, owner);
    let unknown = |errno: &Errno| format!("no probe directory can be made in the export's root: {errno}");
    let findings = Findings {
        root: root.attr,
        root_user: site.as_ref().map_or_else(|e| Answer::Unknown(unknown(e)), Site::root_user),
        root_group: site.as_ref().map_or_else(|e| Answer::Unknown(unknown(e)), Site::root_group),
        group_lists: site.as_ref().map_or_else(|e| Answer::Unknown(unknown(e)), Site::group_lists),
        idmapped: idmapped(backing.features().nfs, owners.iter().map(|(owner, _)| *owner)),
        looked_at,
        owners: owners.into_iter().take(MAX_OWNERS).collect(),
    };
    Ok(findings)
}

/// A directory to try things in. Whatever was made there is removed with it.
struct Site<'a, B: BackingFs> {
    backing: &'a B,
    root: &'a Found<B::Node>,
    owner: Credentials,
    name: CString,
    dir: Found<B::Node>,
}

impl<'a, B: BackingFs> Site<'a, B> {
    fn new(backing: &'a B, root: &'a Found<B::Node>, owner: Credentials) -> Result<Self, Errno> {
        let name =
            CString::new(format!(".permfs-check-{}", std::process::id())).map_err(|_| Errno::EINVAL)?;
        let dir = Name::new(&name)?;
        backing.mkdir(&owner, &root.node, dir, mode(0o700))?;
        let made = backing.lookup(&owner, &root.node, dir);
        let made = match made {
            Ok(made) => made,
            Err(errno) => {
                let _ = backing.rmdir(&owner, &root.node, dir);
                return Err(errno);
            }
        };
        let site = Self { backing, root, owner, name, dir: made };
        // Not setgid, or new objects would say nothing about their maker's group.
        backing.chmod(&site.owner, &site.dir.node, Permissions::from_mode(0o777))?;
        Ok(site)
    }

    /// Who a file made by root belongs to.
    fn root_user(&self) -> Answer<u32> {
        match self.make(c"by-root", &Credentials::new(NfsUid::ROOT, NfsGid::ROOT, [])) {
            Ok(attr) if attr.uid.is_root() => Answer::No(0),
            Ok(attr) => Answer::Yes(attr.uid.get()),
            Err(errno) => {
                Answer::Unknown(format!("root cannot make a file in a directory of mode 777: {errno}"))
            }
        }
    }

    /// Which group a file has that was made under group 0.
    fn root_group(&self) -> Answer<u32> {
        match self.make(c"by-group-0", &Credentials::new(self.owner.uid, NfsGid::ROOT, [])) {
            Ok(attr) if attr.gid.is_root() => Answer::No(0),
            Ok(attr) => Answer::Yes(attr.gid.get()),
            Err(errno) => {
                Answer::Unknown(format!("group 0 cannot make a file in a directory of mode 777: {errno}"))
            }
        }
    }

    /// Whether somebody whom only a supplementary group lets in gets in.
    fn group_lists(&self) -> Answer<()> {
        let group = self.owner.gid;
        let (Some(uid), Some(gid)) = (NfsUid::new(STRANGER), NfsGid::new(STRANGER)) else {
            return Answer::Unknown("no stranger".to_owned());
        };
        if group.is_root() {
            return Answer::Unknown(
                "the export's root belongs to group 0, which root_squash squashes".to_owned(),
            );
        }
        let stranger = Credentials::new(uid, gid, [group]);
        match self.enter_by_group(&stranger) {
            Ok(()) => Answer::Yes(()),
            Err(Errno::EACCES | Errno::EPERM) => Answer::No(()),
            Err(errno) => Answer::Unknown(errno.to_string()),
        }
    }

    fn enter_by_group(&self, stranger: &Credentials) -> Result<(), Errno> {
        let name = Name::new(c"for-the-group")?;
        self.backing.mkdir(&self.owner, &self.dir.node, name, mode(0o770))?;
        let entered = self.backing.lookup(&self.owner, &self.dir.node, name).and_then(|inner| {
            let made = Name::new(c"made")?;
            self.backing.mkdir(stranger, &inner.node, made, mode(0o700))?;
            self.backing.rmdir(stranger, &inner.node, made)
        });
        self.backing.rmdir(&self.owner, &self.dir.node, name)?;
        entered
    }

    fn make(&self, name: &std::ffi::CStr, who: &Credentials) -> Result<StoredAttr, Errno> {
        let name = Name::new(name)?;
        let flags = OFlag::O_WRONLY | OFlag::O_EXCL;
        let file = self.backing.create(who, &self.dir.node, name, flags, mode(0o600))?;
        let found = self.backing.identify(&file).map(|found| found.attr);
        drop(file);
        // The directory is the owner's: they may remove whatever is in it.
        self.backing.unlink(&self.owner, &self.dir.node, name)?;
        found
    }
}

impl<B: BackingFs> Drop for Site<'_, B> {
    fn drop(&mut self) {
        let removed =
            Name::new(&self.name).and_then(|name| self.backing.rmdir(&self.owner, &self.root.node, name));
        if let Err(error) = removed {
            tracing::error!(name = ?self.name, %error, "the probe directory is left behind: remove it");
        }
    }
}

fn mode(bits: u32) -> NewMode {
    NewMode { permissions: Permissions::from_mode(bits), umask: Permissions::NONE, setgid: false }
}

/// Counts owners and modes, breadth first, entering each directory as its owner.
fn survey<B: BackingFs>(backing: &B, root: &Found<B::Node>) -> BTreeMap<(NfsUid, NfsGid), Owned> {
    let mut owners = BTreeMap::new();
    let mut left = MAX_SAMPLE;
    count(&mut owners, &root.attr);
    let mut level = children(backing, &root.node, &root.attr, &mut left);
    while !level.is_empty() {
        let mut next = Vec::new();
        for found in &level {
            count(&mut owners, &found.attr);
            if found.attr.kind == FileKind::Directory {
                next.extend(children(backing, &found.node, &found.attr, &mut left));
            }
        }
        level = next;
    }
    owners
}

fn count(owners: &mut BTreeMap<(NfsUid, NfsGid), Owned>, attr: &StoredAttr) {
    let owned = owners.entry((attr.uid, attr.gid)).or_default();
    match attr.kind {
        FileKind::Directory => owned.directories += 1,
        _ => owned.files += 1,
    }
    *owned.modes.entry(attr.permissions).or_default() += 1;
}

/// The first entries of a directory, as far as `left` goes; none where even its owner may not look.
fn children<B: BackingFs>(
    backing: &B,
    dir: &B::Node,
    attr: &StoredAttr,
    left: &mut usize,
) -> Vec<Found<B::Node>> {
    let who = Credentials { uid: attr.uid, gid: attr.gid, groups: Arc::from([]) };
    let mut names = BTreeSet::new();
    let Ok(open) = backing.opendir(&who, dir) else { return Vec::new() };
    let most = MAX_SAMPLE_PER_DIRECTORY.min(*left);
    let mut from = 0;
    loop {
        let before = from;
        let read = backing.read_dir(&open, from, &mut |entry| {
            from = entry.next;
            if names.len() >= most {
                return ControlFlow::Break(());
            }
            if entry.name != c"." && entry.name != c".." {
                names.insert(entry.name.to_owned());
            }
            ControlFlow::Continue(())
        });
        if read.is_err() || from == before || names.len() >= most {
            break;
        }
    }
    let found = names.iter().filter_map(|name| backing.lookup(&who, dir, Name::new(name).ok()?).ok());
    let found: Vec<_> = found.collect();
    *left -= found.len().min(*left);
    found
}

/// Whether the ids that this node sees are idmapd's guesses instead of the server's numbers.
fn idmapped(nfs: bool, mut owners: impl Iterator<Item = (NfsUid, NfsGid)>) -> Option<String> {
    let unknown = |id: u32| UNKNOWN_IDS.contains(&id);
    let all_unknown = owners.all(|(uid, gid)| unknown(uid.get()) && unknown(gid.get()));
    let parameter = fs::read_to_string("/sys/module/nfs/parameters/nfs4_disable_idmapping").ok();
    let by_name = parameter.is_some_and(|value| value.trim() == "N");
    if nfs && all_unknown {
        return Some(
            "every owner is 65534: idmapd maps NFSv4 owners by name and knows none; set nfs4_disable_idmapping=Y for \
             the nfs module, and `echo Y > /sys/module/nfsd/parameters/nfs4_disable_idmapping` on the server"
                .to_owned(),
        );
    }
    (nfs && by_name).then(|| {
        "NFSv4 owners travel as names (nfs4_disable_idmapping=N): the numbers here are this node's, not the server's"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backing::model::ModelBacking;

    #[test]
    fn a_probe_tells_what_it_found_and_leaves_nothing_behind() {
        let backing = ModelBacking::default();
        let found = probe(&backing).unwrap();
        assert_eq!(found.root_user, Answer::No(0));
        assert_eq!(found.root_group, Answer::No(0));
        assert_eq!(found.group_lists, Answer::Yes(()));
        assert_eq!(found.looked_at, 1);
        assert_eq!(backing.at("/").unwrap().nlink, 2);
    }

    #[test]
    fn owners_that_are_all_unknown_point_to_idmapd() {
        let nobody = [(NfsUid::NOBODY, NfsGid::NOBODY)];
        assert!(idmapped(true, nobody.into_iter()).unwrap().contains("nfs4_disable_idmapping"));
        assert_eq!(idmapped(false, nobody.into_iter()), None);
    }
}
