//! Where an object lies below SOURCE, by what the kernel says of its descriptor.
//!
//! The kernel tells the path by which its own cache reaches the object (proc_pid_fd(5)). A file that was found by its handle may
//! be in no directory there, and is then told as `/` or by its bare name: that is no path below SOURCE, and nothing is
//! known. Directories are always connected up to their root (exportfs_decode_fh).

use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStringExt;

use nix::fcntl::readlink;

use crate::sys::proc_fd::ProcFdPath;

/// What follows the path of an object that has no name any more. A file may be called so: then its path is not known.
const DELETED: &[u8] = b" (deleted)";

/// The names from `root` to `node`, slashes between them; none for `root` itself, and where it is not known.
pub(super) fn below(root: BorrowedFd<'_>, node: BorrowedFd<'_>) -> Option<Vec<u8>> {
    let (root, path) = (path_of(root)?, path_of(node)?);
    if path.ends_with(DELETED) || root.ends_with(DELETED) {
        return None;
    }
    let root = root.strip_suffix(b"/").unwrap_or(&root);
    let below = path.strip_prefix(root)?.strip_prefix(b"/")?;
    (!below.is_empty()).then(|| below.to_owned())
}

fn path_of(fd: BorrowedFd<'_>) -> Option<Vec<u8>> {
    readlink(ProcFdPath::new(fd).as_c_str()).ok().map(OsString::into_vec)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_path_is_known_below_the_root_until_its_name_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/f"), "").unwrap();
        let open = |path: &str| File::open(dir.path().join(path)).unwrap();
        let (root, file) = (open("a"), open("a/b/f"));
        assert_eq!(below(root.as_fd(), file.as_fd()).unwrap(), b"b/f");
        assert_eq!(below(root.as_fd(), open("a/b").as_fd()).unwrap(), b"b");
        assert_eq!(below(root.as_fd(), root.as_fd()), None);
        assert_eq!(below(root.as_fd(), open("").as_fd()), None);
        fs::remove_file(dir.path().join("a/b/f")).unwrap();
        assert_eq!(below(root.as_fd(), file.as_fd()), None);
        assert_eq!(
            below(File::open("/").unwrap().as_fd(), File::open("/etc").unwrap().as_fd()).unwrap(),
            b"etc"
        );
    }
}
