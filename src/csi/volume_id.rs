//! The id of a volume that permfs made. DeleteVolume gets nothing else, so it says all that finds the volume again.
//!
//! Fields are separated by `#`, and what is not plain in them is escaped as in URLs. The first is the version.

use std::fmt;
use std::fmt::Write;
use std::str::FromStr;

use super::context::{check_export, check_nfs_option, directory};
use crate::host::SubPath;
use crate::host::protocol::{Choice, OnDelete, Refusal, Share};

const VERSION: &str = "permfs-1";
/// The longest name of a volume's directory: its note's name is a little longer, and NAME_MAX is 255.
const MAX_NAME: usize = 200;

/// What finds a volume again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeId {
    /// Where volumes lie.
    pub share: Share,
    /// The directory in which it lies.
    pub parent: SubPath,
    /// Its name there.
    pub name: String,
    /// What becomes of its content.
    pub on_delete: OnDelete,
    /// As whom to work on it.
    pub choice: Choice,
}

/// The name of the directory for a volume that the cluster calls `name`: letters, digits, `.`, `_` and `-`, told apart by
/// a number where others were replaced.
#[must_use]
pub fn directory_name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins && name.chars().all(plain) && name.len() <= MAX_NAME {
        return name.to_owned();
    }
    let kept = name.chars().map(|c| if plain(c) { c } else { '-' }).take(MAX_NAME - 20);
    format!("v-{}-{:016x}", kept.collect::<String>(), fnv(name.as_bytes()))
}

/// FNV-1a: names differ by it for as long as there are volumes, so it must never change.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, place, options) = match &self.share {
            Share::Nfs { export, options } => ("nfs", export.clone(), options.join(",")),
            Share::Path(path) => ("path", path.display().to_string(), String::new()),
        };
        let on_delete = match self.on_delete {
            OnDelete::Delete => "delete",
            OnDelete::Retain => "retain",
            OnDelete::Archive => "archive",
        };
        let Choice { profile, map_uid, map_gid } = &self.choice;
        let fields = [
            kind,
            &place,
            &options,
            &self.parent.to_string(),
            &self.name,
            on_delete,
            profile.as_deref().unwrap_or_default(),
            &map_uid.join(","),
            &map_gid.join(","),
        ];
        f.write_str(VERSION)?;
        fields.iter().try_for_each(|field| write!(f, "#{}", escape(field)))
    }
}

/// The text is no id of a volume that permfs made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotOurs;

impl FromStr for VolumeId {
    type Err = NotOurs;

    fn from_str(text: &str) -> Result<Self, NotOurs> {
        let fields: Option<Vec<_>> = text.split('#').map(unescape).collect();
        let Some([version, kind, place, options, parent, name, on_delete, profile, map_uid, map_gid]) =
            fields.as_ref().and_then(|fields| fields.first_chunk::<10>())
        else {
            return Err(NotOurs);
        };
        if version != VERSION || fields.as_ref().is_some_and(|fields| fields.len() != 10) {
            return Err(NotOurs);
        }
        let list = |text: &str| text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        Ok(Self {
            share: match kind.as_str() {
                "nfs" => nfs(place, list(options)).map_err(|_| NotOurs)?,
                "path" if options.is_empty() => directory(place).map_err(|_| NotOurs)?,
                _ => return Err(NotOurs),
            },
            parent: parent.parse().map_err(|_| NotOurs)?,
            // Only what this could have made.
            name: Some(name.clone()).filter(|name| *name == directory_name(name)).ok_or(NotOurs)?,
            on_delete: match on_delete.as_str() {
                "delete" => OnDelete::Delete,
                "retain" => OnDelete::Retain,
                "archive" => OnDelete::Archive,
                _ => return Err(NotOurs),
            },
            choice: Choice {
                profile: Some(profile.clone()).filter(|name| !name.is_empty()),
                map_uid: list(map_uid),
                map_gid: list(map_gid),
            },
        })
    }
}

/// As from attributes: an id comes from a PersistentVolume, which others than permfs may have written.
fn nfs(export: &str, options: Vec<String>) -> Result<Share, Refusal> {
    check_export(export)?;
    options.iter().try_for_each(|option| check_nfs_option(option))?;
    Ok(Share::Nfs { export: export.to_owned(), options })
}

fn escape(field: &str) -> String {
    let mut escaped = String::with_capacity(field.len());
    for byte in field.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => escaped.push(char::from(byte)),
            b'/' | b'.' | b'-' | b'_' | b':' | b',' | b'=' | b'[' | b']' => escaped.push(char::from(byte)),
            // Writing to a String cannot fail.
            _ => drop(write!(escaped, "%{byte:02X}")),
        }
    }
    escaped
}

fn unescape(field: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(place: &str, parent: &str) -> VolumeId {
        VolumeId {
            share: Share::Nfs { export: place.to_owned(), options: vec!["vers=4.2".to_owned()] },
            parent: parent.parse().unwrap(),
            name: "pvc-1".to_owned(),
            on_delete: OnDelete::Archive,
            choice: Choice { profile: None, map_uid: vec!["1:2".to_owned()], map_gid: vec![] },
        }
    }

    #[test]
    fn an_id_is_read_as_it_was_written() {
        let written = id("nas:/a #b", "x/y%").to_string();
        assert_eq!(written, "permfs-1#nfs#nas:/a%20%23b#vers=4.2#x/y%25#pvc-1#archive##1:2#");
        assert_eq!(written.parse(), Ok(id("nas:/a #b", "x/y%")));
    }

    #[test]
    fn what_permfs_did_not_make_is_no_id() {
        let good = id("nas:/a", "").to_string();
        let long = format!("{good}#more");
        for bad in
            ["", "vol-1", "#########", &long, &good.replace("pvc-1", ".."), &good.replace("nfs", "smb")]
        {
            assert_eq!(bad.parse::<VolumeId>(), Err(NotOurs), "{bad}");
        }
    }

    #[test]
    fn what_attributes_could_not_say_no_id_says() {
        let path = "permfs-1#path#/srv/a##x#pvc-1#delete###";
        assert!(
            path.parse::<VolumeId>().is_ok() && id("[::1]:/a", "").to_string().parse::<VolumeId>().is_ok()
        );
        let nfs = id("nas:/a", "").to_string();
        for bad in [
            &nfs.replace("vers=4.2", "vers=4.2,remount"),
            &nfs.replace("vers=4.2", "a%20b"),
            &nfs.replace("nas:/a", "-o:/a"),
            &nfs.replace("nas:/a", "nas"),
            &nfs.replace("nas:/a", "nas:/a%0A"),
            &path.replace("/srv/a", "/srv/../etc"),
            &path.replace("/srv/a", "srv"),
            &path.replace("/srv/a#", "/srv/a#vers=3"),
        ] {
            assert_eq!(bad.parse::<VolumeId>(), Err(NotOurs), "{bad}");
        }
    }

    #[test]
    fn names_are_kept_where_they_are_plain_and_told_apart_where_not() {
        assert_eq!(directory_name("pvc-0a"), "pvc-0a");
        assert_ne!(directory_name("a/b"), directory_name("a b"));
        assert!(!directory_name(".permfs").starts_with('.'));
        assert!(directory_name(&"x".repeat(4000)).len() <= MAX_NAME + 20);
    }

    proptest! {
        #[test]
        fn any_name_becomes_one_that_is_its_own(name in "\\PC{1,300}") {
            let made = directory_name(&name);
            prop_assert_eq!(directory_name(&made), made);
        }

        #[test]
        fn any_text_is_escaped_and_back(text in "\\PC*") {
            prop_assert_eq!(unescape(&escape(&text)), Some(text));
        }
    }
}
