//! The calling thread as somebody: where [`Credentials`] become the thread's identity.

use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};

use crate::policy::{Credentials, NewMode, NfsUid, Permissions};
use crate::sys::capabilities::{self, Capabilities};
use crate::sys::{Errno, credentials, proc_fd, umask};

/// Gives the thread an identity (root's) and a umask (none) of its own, whatever it inherited, and the shorter way to
/// its descriptors' paths.
pub(super) fn enter_thread() -> Result<(), Errno> {
    credentials::reset()?;
    umask::assume(Mode::empty())?;
    proc_fd::enter_thread()
}

/// As [`act_as`], for finding and opening what is there: spares root two calls (see [`credentials::assume_to_look`]).
pub(super) fn act_to_look(who: &Credentials) -> Result<(), Errno> {
    let groups = who.groups.iter().map(|group| Gid::from_raw(group.get()));
    credentials::assume_to_look(Uid::from_raw(who.uid.get()), Gid::from_raw(who.gid.get()), groups)
}

/// The calling thread is `who` from here on.
pub(super) fn act_as(who: &Credentials) -> Result<(), Errno> {
    let groups = who.groups.iter().map(|group| Gid::from_raw(group.get()));
    credentials::assume(Uid::from_raw(who.uid.get()), Gid::from_raw(who.gid.get()), groups)
}

/// As [`act_as`], and without the capability that a thread keeps for passthrough: it would open `trusted.*` to a user.
pub(super) fn act_without_administration(who: &Credentials) -> Result<(), Errno> {
    act_as(who)?;
    if who.uid.is_root() { Ok(()) } else { capabilities::lower_administration() }
}

/// Does `call` as `who` without what root alone has over a file's content: CAP_FSETID, which would keep suid on what others write
/// with these credentials, and, where the file system is `local`, the blocks reserved for root and the way past quotas.
///
/// Those go by the uid as well as by CAP_SYS_RESOURCE (ext4_has_free_clusters, fs/ext4/balloc.c), so root is nobody there. A local
/// file system asks for no other right once a file is open; elsewhere the server asks who it was.
pub(super) fn as_common_writer<T>(
    who: &Credentials,
    local: bool,
    call: impl FnOnce() -> T,
) -> Result<T, Errno> {
    match (who.uid.is_root(), local) {
        // No user has either.
        (false, _) => act_to_look(who)?,
        (true, true) => act_to_look(&Credentials { uid: NfsUid::NOBODY, ..who.clone() })?,
        (true, false) => {
            act_to_look(who)?;
            capabilities::lower_for_now(Capabilities::FSETID)?;
        }
    }
    Ok(call())
}

/// The calling thread is root from here on.
pub(super) fn act_as_root() -> Result<(), Errno> {
    credentials::assume(Uid::from_raw(0), Gid::from_raw(0), std::iter::empty())
}

/// The calling thread is `who` and has the umask of `mode` from here on; what is left is the mode to ask for.
///
/// The umask goes to the kernel, and is not applied here, because a default ACL of the directory overrules it.
pub(super) fn make_as(who: &Credentials, mode: NewMode) -> Result<Mode, Errno> {
    // Only for setgid does the kernel ask whether the maker may keep it (mode_strip_sgid, fs/inode.c).
    if mode.permissions.contains(Permissions::SETGID) {
        act_as(who)?
    } else {
        act_to_look(who)?
    }
    umask::assume(mode_of(mode.umask))?;
    Ok(mode_of(mode.permissions))
}

/// Permissions as a system call takes them.
pub(super) fn mode_of(permissions: Permissions) -> Mode {
    // All twelve bits are known to nix.
    Mode::from_bits_truncate(permissions.bits())
}
