//! POSIX ACLs as the kernel passes them in extended attributes (linux/posix_acl_xattr.h), with their ids translated.

use super::Errno;
use super::visit::errno_of;
use crate::policy::{NfsGid, NfsUid, PodGid, PodUid, Policy};

/// POSIX_ACL_XATTR_VERSION.
const VERSION: u32 = 2;
const HEADER: usize = 4;
/// le16 tag, le16 permissions, le32 id.
const ENTRY: usize = 8;
/// ACL_USER and ACL_GROUP: the tags whose id means something.
const USER: u16 = 0x02;
const GROUP: u16 = 0x08;

/// Whether an extended attribute is a POSIX ACL.
pub(super) fn is_acl(name: &[u8]) -> bool {
    matches!(name, b"system.posix_acl_access" | b"system.posix_acl_default")
}

/// Translates a stored ACL into what is shown. Like all showing it does not fail: an id without a rule is shown as an
/// owner without a rule is. What is no ACL is left alone.
pub(super) fn show(policy: &Policy, acl: &mut [u8]) {
    // Never Err: `raw` of a valid id is valid, and 4294967295 is left alone.
    let _ = translate(acl, |tag, raw| {
        Ok(match tag {
            USER => NfsUid::new(raw).map_or(raw, |uid| policy.show_uid(uid).get()),
            _ => NfsGid::new(raw).map_or(raw, |gid| policy.show_gid(gid).get()),
        })
    });
}

/// Translates an ACL that a pod sets into what is stored.
///
/// # Errors
/// EOVERFLOW where it names somebody that no rule maps, EINVAL where it is no ACL.
pub(super) fn store(policy: &Policy, acl: &mut [u8]) -> Result<(), Errno> {
    translate(acl, |tag, raw| match tag {
        USER => {
            let uid = PodUid::new(raw).ok_or(Errno::EINVAL)?;
            policy.owner_named(uid).map(NfsUid::get).map_err(errno_of)
        }
        _ => {
            let gid = PodGid::new(raw).ok_or(Errno::EINVAL)?;
            policy.group_named(gid).map(NfsGid::get).map_err(errno_of)
        }
    })
}

fn translate(acl: &mut [u8], id: impl Fn(u16, u32) -> Result<u32, Errno>) -> Result<(), Errno> {
    let (header, entries) = acl.split_first_chunk_mut::<HEADER>().ok_or(Errno::EINVAL)?;
    if u32::from_le_bytes(*header) != VERSION || entries.len() % ENTRY != 0 {
        return Err(Errno::EINVAL);
    }
    for entry in entries.chunks_exact_mut(ENTRY) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        if matches!(tag, USER | GROUP) {
            let raw = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            entry[4..].copy_from_slice(&id(tag, raw)?.to_le_bytes());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(permissions.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn only_the_ids_of_named_users_and_groups_change() {
        let before =
            [(0x01, 7, u32::MAX), (USER, 6, 50000), (0x04, 5, u32::MAX), (GROUP, 4, 7), (0x10, 7, u32::MAX)];
        let after =
            [(0x01, 7, u32::MAX), (USER, 6, 50001), (0x04, 5, u32::MAX), (GROUP, 4, 8), (0x10, 7, u32::MAX)];
        let mut bytes = acl(&before);
        translate(&mut bytes, |_, id| Ok(id + 1)).unwrap();
        assert_eq!(bytes, acl(&after));
    }

    #[test]
    fn what_is_no_acl_is_refused() {
        for bad in [&b""[..], &b"\x02\0\0"[..], &b"\x03\0\0\0"[..], &b"\x02\0\0\0\x01"[..]] {
            assert_eq!(translate(&mut bad.to_vec(), |_, id| Ok(id)), Err(Errno::EINVAL), "{bad:?}");
        }
    }
}
