//! What the work stands on: rules as an admin writes them, small and large, and a filesystem over an export in memory.

use std::ffi::CString;
use std::fmt::Write;
use std::sync::Arc;

use nix::fcntl::OFlag;
use permfs::backing::model::ModelBacking;
use permfs::config::{Overrides, RulesFile};
use permfs::fs::{CallerId, Filesystem, Name, NodeId, Pid};
use permfs::policy::{Permissions, PodGid, PodUid, Policy};

/// The rules of the README's first example: one user, one group, held modes, and a directory that is read-only.
pub const AIRFLOW: &str = "
version = 1
[profile.airflow]
uid = [ { pod = 50000, nfs = 2001 } ]
gid = [ { pod = 0, nfs = 2001 } ]
[profile.airflow.permissions]
group_write = true
setgid = true
[[profile.airflow.path]]
match = \"/frozen\"
read_only = true
";

/// Users and groups of the large set, each with a rule of its own.
pub const MANY_IDS: u32 = 1_000;
/// Path rules of the large set.
pub const MANY_PATHS: u32 = 100;

pub fn policy(rules: &str) -> Policy {
    let rules = RulesFile::parse(rules, "bench.toml").unwrap();
    rules.policy(None, &Overrides::default()).unwrap()
}

/// A rule for each of many ids, and for each of many directories. Users 50000.. are 2001.., groups 1000.. are 7000..
pub fn large() -> String {
    let list = |pod: u32, nfs: u32| -> String {
        (0..MANY_IDS).map(|id| format!("{{ pod = {}, nfs = {} }},", pod + id, nfs + id)).collect()
    };
    let (uids, gids) = (list(50_000, 2_001), list(1_000, 7_000));
    let mut text = format!("version = 1\n[profile.large]\nuid = [ {uids} ]\ngid = [ {gids} ]\n");
    for number in 0..MANY_PATHS {
        writeln!(text, "[[profile.large.path]]\nmatch = \"/a/b/dir-{number:03}\"\nread_only = true").unwrap();
    }
    text
}

/// A pod's process that the small rules admit.
pub fn pod() -> CallerId {
    CallerId { uid: PodUid::new(50_000), gid: PodGid::new(0), pid: Pid(0) }
}

pub fn mode(bits: u32) -> Permissions {
    Permissions::from_mode(bits)
}

pub fn cstring(text: impl Into<Vec<u8>>) -> CString {
    CString::new(text).unwrap()
}

pub fn name(text: &CString) -> Name<'_> {
    Name::new(text).unwrap()
}

/// A filesystem under the small rules, and a directory in it.
pub struct Stage {
    pub fs: Arc<Filesystem<ModelBacking>>,
    pub dir: NodeId,
}

impl Stage {
    pub fn new() -> Self {
        let fs = Filesystem::new(ModelBacking::default(), Arc::new(policy(AIRFLOW))).unwrap();
        let directory = cstring("work");
        let dir = fs.mkdir(pod(), NodeId::ROOT, name(&directory), mode(0o777), mode(0o022)).unwrap().node;
        Self { fs: Arc::new(fs), dir }
    }

    /// So many names, none of them there.
    pub fn names(count: u32) -> Vec<CString> {
        (0..count).map(|number| cstring(format!("file-{number:05}"))).collect()
    }

    /// So many names, each of an empty file that the kernel knows.
    pub fn files(&self, count: u32) -> Vec<(CString, NodeId)> {
        Self::names(count)
            .into_iter()
            .map(|file| {
                let flags = OFlag::O_RDWR | OFlag::O_CREAT;
                let made = self.fs.create(pod(), self.dir, name(&file), flags, mode(0o666), mode(0o022));
                let (entry, opened) = made.unwrap();
                self.fs.release(opened.handle);
                (file, entry.node)
            })
            .collect()
    }
}
