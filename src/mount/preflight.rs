//! What is checked before anything is done, so that a refusal leaves nothing half done.
//!
//! TARGET is looked up in the mount table before it is touched: a dead mount there would hang or answer ENOTCONN.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::MountFailure;
use super::patience::{SOURCE_PATIENCE, within};
use super::table::MountTable;
use crate::sys::Errno;
use crate::sys::stat::metadata;

/// CAP_SYS_ADMIN, capabilities(7).
const CAP_SYS_ADMIN: u32 = 21;

/// Whether this process may mount.
///
/// # Errors
/// Where it has no CAP_SYS_ADMIN.
pub fn privilege() -> Result<(), MountFailure> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capable = match effective_capabilities(&status) {
        Some(capabilities) => capabilities & (1 << CAP_SYS_ADMIN) != 0,
        None => nix::unistd::geteuid().is_root(),
    };
    if capable { Ok(()) } else { Err(MountFailure::NoPrivilege { uid: nix::unistd::geteuid().as_raw() }) }
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Whether /dev/fuse is there and works.
///
/// # Errors
/// Where it cannot be opened.
pub fn fuse_device() -> Result<(), MountFailure> {
    File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .map(drop)
        .map_err(|error| MountFailure::NoFuseDevice(error.into()))
}

/// What to warn of: kernels that abort a mount whose requests take long (fs.fuse.default_request_timeout and max_request_timeout,
/// Documentation/admin-guide/sysctl/fs.rst), as they do while an NFS server is away.
#[must_use]
pub fn request_timeout() -> Option<String> {
    let seconds =
        |name: &str| fs::read_to_string(format!("/proc/sys/fs/fuse/{name}")).ok()?.trim().parse::<u32>().ok();
    told_timeout(seconds("default_request_timeout"), seconds("max_request_timeout"))
}

fn told_timeout(default: Option<u32>, most: Option<u32>) -> Option<String> {
    let set = |seconds: Option<u32>| seconds.filter(|seconds| *seconds > 0);
    let (name, seconds) = match (set(default), set(most)) {
        (Some(seconds), None) => ("default_request_timeout", seconds),
        (None, Some(seconds)) => ("max_request_timeout", seconds),
        (Some(default), Some(most)) if default < most => ("default_request_timeout", default),
        (Some(_), Some(most)) => ("max_request_timeout", most),
        (None, None) => return None,
    };
    Some(format!(
        "the kernel aborts this mount when a request takes {seconds} s, as when the server is away for so long: set fs.fuse.{name} to 0 before mounting"
    ))
}

/// TARGET, resolved: an existing directory with nothing mounted on it.
///
/// # Errors
/// Where it is not.
pub fn target(path: &Path, table: &MountTable) -> Result<PathBuf, MountFailure> {
    if let Some(entry) = table.find(path) {
        let shown = entry.target.display();
        let next = if entry.is_permfs() {
            format!("unmount it first: `permfs unmount {shown}`")
        } else {
            "choose another target".to_owned()
        };
        let (kind, from) = (entry.kind.clone(), entry.source.clone());
        return Err(MountFailure::TargetBusy { path: entry.target.clone(), kind, from, next });
    }
    let found = fs::canonicalize(path).and_then(|real| Ok((fs::metadata(&real)?, real)));
    match found {
        Ok((metadata, real)) if metadata.is_dir() => Ok(real),
        Ok(_) => Err(MountFailure::TargetNotDirectory(path.to_owned())),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::NotFound => MountFailure::TargetMissing(path.to_owned()),
            io::ErrorKind::NotADirectory => MountFailure::TargetNotDirectory(path.to_owned()),
            _ => MountFailure::TargetUnreachable { path: path.to_owned(), errno: error.into() },
        }),
    }
}

/// SOURCE, resolved: an existing directory that answers.
///
/// # Errors
/// Where it is not.
pub fn source(path: &Path) -> Result<PathBuf, MountFailure> {
    let asked = path.to_owned();
    let look = move || fs::canonicalize(&asked).and_then(|real| Ok((metadata(&real)?.is_dir(), real)));
    let path = path.to_owned();
    match within(SOURCE_PATIENCE, look) {
        None => Err(MountFailure::SourceHangs { path, waited: SOURCE_PATIENCE }),
        Some(Ok((true, real))) => Ok(real),
        Some(Ok((false, _))) => Err(MountFailure::SourceNotDirectory(path)),
        Some(Err(error)) => Err(match error.kind() {
            io::ErrorKind::NotFound => MountFailure::SourceMissing(path),
            io::ErrorKind::NotADirectory => MountFailure::SourceNotDirectory(path),
            _ => MountFailure::SourceUnreachable { path, errno: error.into() },
        }),
    }
}

/// Neither lies in the other. By identity, not by name, so that a bind mount of either is seen through.
///
/// # Errors
/// Where one does.
pub fn apart(source_dir: &Path, target: &Path) -> Result<(), MountFailure> {
    let identity = |path: &Path| metadata(path).map(|found| identity_of(&found));
    let (Ok(source_id), Ok(target_id)) = (identity(source_dir), identity(target)) else { return Ok(()) };
    if source_id == target_id {
        return Err(MountFailure::SamePlace(target.to_owned()));
    }
    let lies_in =
        |path: &Path, id| path.ancestors().skip(1).any(|dir| identity(dir).is_ok_and(|found| found == id));
    let (source_dir, target) = (source_dir.to_owned(), target.to_owned());
    if lies_in(&source_dir, target_id) {
        return Err(MountFailure::SourceInsideTarget { source_dir, target });
    }
    if lies_in(&target, source_id) {
        return Err(MountFailure::TargetInsideSource { source_dir, target });
    }
    Ok(())
}

fn identity_of(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// Whether the fresh mount answers: a stat of TARGET through the kernel.
///
/// # Errors
/// Where it does not, or with an error.
pub fn answers(target: &Path) -> Result<(), MountFailure> {
    let asked = target.to_owned();
    let target = target.to_owned();
    match within(super::patience::READY_PATIENCE, move || fs::metadata(asked)) {
        Some(Ok(_)) => Ok(()),
        Some(Err(error)) => Err(MountFailure::AnswersWrongly { target, errno: Errno::from(error) }),
        None => Err(MountFailure::NeverAnswered { target, waited: super::patience::READY_PATIENCE }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_aborts_mounts_is_told_of_once_and_by_the_setting_that_counts() {
        assert_eq!(told_timeout(None, None), None);
        assert_eq!(told_timeout(Some(0), Some(0)), None);
        let told = |default, most| told_timeout(Some(default), Some(most)).unwrap();
        assert!(told(60, 0).contains("60 s") && told(60, 0).contains("fs.fuse.default_request_timeout"));
        assert!(told(0, 90).contains("fs.fuse.max_request_timeout"));
        assert!(told(60, 30).contains("30 s") && told(30, 60).contains("30 s"));
    }

    #[test]
    fn capabilities_are_read_as_the_kernel_writes_them() {
        assert_eq!(effective_capabilities("Name:\tx\nCapEff:\t0000000000200000\n"), Some(1 << CAP_SYS_ADMIN));
        assert_eq!(effective_capabilities("nothing"), None);
    }

    #[test]
    fn a_target_must_be_an_existing_directory() {
        let dir = tempfile::tempdir().unwrap();
        let table = MountTable::default();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(target(dir.path(), &table).is_ok());
        assert!(matches!(target(&file, &table), Err(MountFailure::TargetNotDirectory(_))));
        assert!(matches!(target(&file.join("x"), &table), Err(MountFailure::TargetNotDirectory(_))));
        assert!(matches!(target(&dir.path().join("x"), &table), Err(MountFailure::TargetMissing(_))));
        assert!(matches!(
            target(Path::new("/proc"), &MountTable::read().unwrap()),
            Err(MountFailure::TargetBusy { .. })
        ));
    }

    #[test]
    fn source_and_target_may_not_lie_in_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("a/b"));
        let sibling = dir.path().join("ab");
        fs::create_dir_all(&b).unwrap();
        fs::create_dir(&sibling).unwrap();
        assert!(matches!(apart(&a, &b), Err(MountFailure::TargetInsideSource { .. })));
        assert!(matches!(apart(&b, &a), Err(MountFailure::SourceInsideTarget { .. })));
        assert!(matches!(apart(&a, &a), Err(MountFailure::SamePlace(_))));
        assert!(apart(&a, &sibling).is_ok());
    }
}
