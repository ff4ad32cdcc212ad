//! Values of options, refused with the reason where they are none.

use crate::policy::{Permissions, PodGid, PodUid};

/// The largest number that is an id: 4294967295 means "no id" to the kernel.
const NO_ID: &str = "ids go from 0 to 4294967294 (4294967295 means \"no id\" to the kernel)";

fn id<T>(text: &str, new: impl FnOnce(u32) -> Option<T>) -> Result<T, String> {
    text.parse().ok().and_then(new).ok_or_else(|| NO_ID.to_owned())
}

/// A pod uid.
pub(super) fn pod_uid(text: &str) -> Result<PodUid, String> {
    id(text, PodUid::new)
}

/// A pod gid.
pub(super) fn pod_gid(text: &str) -> Result<PodGid, String> {
    id(text, PodGid::new)
}

/// `UID:GID`, both in pod ids.
pub(super) fn owner(text: &str) -> Result<(PodUid, PodGid), String> {
    let (uid, gid) = text.split_once(':').ok_or("write UID:GID")?;
    Ok((pod_uid(uid)?, pod_gid(gid)?))
}

/// Octal permission bits.
pub(super) fn permissions(text: &str) -> Result<Permissions, String> {
    match u32::from_str_radix(text, 8) {
        Ok(bits) if bits <= 0o7777 => Ok(Permissions::from_mode(bits)),
        _ => Err("modes are octal, from 0 to 7777".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_none_are_refused() {
        assert!(pod_uid("4294967294").is_ok());
        for bad in ["4294967295", "4294967296", "-1", "", "root"] {
            assert!(pod_uid(bad).is_err() && pod_gid(bad).is_err(), "{bad}");
        }
        assert_eq!(permissions("0640").map(Permissions::bits), Ok(0o640));
        for bad in ["8", "10000", "", "rw"] {
            assert!(permissions(bad).is_err(), "{bad}");
        }
        assert!(owner("1").is_err() && owner("1:2").is_ok());
    }
}
