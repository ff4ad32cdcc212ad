//! Who takes part: permfs, and what people use in its place, each with the fastest flags that change no result, and names
//! and attributes believed for one second, which is permfs's default.
//!
//! Only permfs and bindfs translate ids. The others show the export as it is, and are worked in as its owner: what they
//! need not do is their advantage.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Gid, Uid};
use permfs::bench::{Identity, Target};

use super::export::{self, Export, OWNER};
use super::options::{self, Options};

/// The rules of the README: the pod's 50000:0 is the export's 2001:2001.
const RULES: &str = r#"
version = 1
[profile.airflow]
uid = [ { pod = 50000, nfs = 2001 } ]
gid = [ { pod = 0, nfs = 2001 } ]
[profile.airflow.permissions]
group_write = true
setgid = true
[profile.airflow.cache]
data = "DATA"
[profile.airflow.locks]
scope = "SCOPE"
"#;
/// Whom the pod runs as.
const POD: (u32, u32) = (50_000, 0);

/// One that takes part.
pub struct Candidate {
    pub name: &'static str,
    pub how: String,
    pub path: PathBuf,
    work_as: (u32, u32),
}

impl Candidate {
    pub fn target(&self) -> Target {
        Target {
            path: self.path.clone(),
            work_as: Some(identity(self.work_as)),
            may_fail: !self.name.starts_with("permfs"),
        }
    }

    pub fn identity(&self) -> Identity {
        identity(self.work_as)
    }
}

pub fn identity((uid, gid): (u32, u32)) -> Identity {
    Identity { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid) }
}

/// Mounts all that can be, permfs first, and tells who is missing.
pub fn mount_all(
    export: &mut Export,
    source: &Path,
    options: &Options,
) -> Result<(Vec<Candidate>, Vec<String>), String> {
    let mut candidates = vec![permfs(export, source, "permfs", ("auto", "server"))?];
    let mut missing = Vec::new();
    for (name, settings) in [("permfs-page", ("page", "server")), ("permfs-node", ("auto", "node"))] {
        if options.wants(name) {
            candidates.push(permfs(export, source, name, settings)?);
        }
    }
    let peers: [(&'static str, Mounter); 3] =
        [("bindfs", bindfs), ("mergerfs", mergerfs), ("fuse-overlayfs", fuse_overlayfs)];
    for (name, mount) in peers.into_iter().filter(|(name, _)| options.wants(name)) {
        let at = export.new_directory(name)?;
        match mount(export, source, &at) {
            Ok((how, work_as)) => {
                export.has_mounted(&at);
                candidates.push(Candidate { name, how, path: at, work_as });
            }
            Err(why) => missing.push(format!("{name} takes no part: {why}")),
        }
    }
    Ok((candidates, missing))
}

type Mounter = fn(&Export, &Path, &Path) -> Result<(String, (u32, u32)), String>;

/// permfs on `source`, with `cache.data` and `locks.scope` as given.
pub fn permfs(
    export: &mut Export,
    source: &Path,
    name: &'static str,
    (data, scope): (&str, &str),
) -> Result<Candidate, String> {
    let (at, rules) = (export.new_directory(name)?, export.file(&format!("{name}.toml")));
    options::write(&rules, &RULES.replace("DATA", data).replace("SCOPE", scope))?;
    export::run(program().arg("mount").args([source, &at]).arg("--config").arg(&rules))?;
    export.has_mounted(&at);
    let how = format!("cache.data = \"{data}\", locks.scope = \"{scope}\"");
    Ok(Candidate { name, how, path: at, work_as: POD })
}

/// The program under test; `PERMFS_TEST_BINARY` names another one, e.g. an installed one.
fn program() -> Command {
    Command::new(
        std::env::var_os("PERMFS_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_permfs").into()),
    )
}

fn bindfs(_: &Export, source: &Path, at: &Path) -> Result<(String, (u32, u32)), String> {
    let words = ["--multithreaded", "--map=2001/50000:@2001/@0"];
    let fuse = "attr_timeout=1,entry_timeout=1,negative_timeout=1,auto_cache,max_read=1048576";
    export::run(Command::new("bindfs").args(words).args(["-o", fuse]).args([source, at]))?;
    Ok((format!("{} -o {fuse}", words.join(" ")), POD))
}

fn mergerfs(_: &Export, source: &Path, at: &Path) -> Result<(String, (u32, u32)), String> {
    let fuse = "allow_other,use_ino,minfreespace=0,category.create=ff,func.getattr=ff,cache.files=auto-full,cache.attr=1,\
        cache.entry=1,cache.negative_entry=1,cache.readdir=true,cache.symlinks=true,security_capability=false,\
        async_read=true,fuse_msg_size=256";
    export::run(Command::new("mergerfs").args(["-o", fuse]).args([source, at]))?;
    Ok((format!("-o {fuse}"), OWNER))
}

fn fuse_overlayfs(export: &Export, source: &Path, at: &Path) -> Result<(String, (u32, u32)), String> {
    let (lower, work) = (export.on_disk("lower", (0, 0))?, export.on_disk("work", (0, 0))?);
    let fuse = "allow_other,timeout=1,fast_ino_check=1";
    let layers =
        format!("lowerdir={},upperdir={},workdir={}", lower.display(), source.display(), work.display());
    export::run(Command::new("fuse-overlayfs").args(["-o", &format!("{fuse},{layers}")]).arg(at))?;
    Ok((format!("-o {fuse}, an empty lower layer"), OWNER))
}
