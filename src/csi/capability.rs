//! How a volume is to be used: access mode, mount flags, the pod's fsGroup.

use super::context::check_nfs_option;
use super::spec::VolumeCapability;
use super::spec::volume_capability::{AccessType, access_mode::Mode};
use super::status::invalid;
use crate::host::protocol::Refusal;

/// Flags that are true of every permfs mount, or mean nothing to one.
const WITHOUT_EFFECT: [&str; 9] =
    ["rw", "exec", "nosuid", "nodev", "defaults", "relatime", "norelatime", "noatime", "nodiratime"];
/// Flags that cannot be had.
const IMPOSSIBLE: [&str; 2] = ["suid", "dev"];
/// The longest list of flags, in bytes (CSI spec, VolumeCapability).
const MAX_FLAGS: usize = 4096;

/// What is asked of a mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// EROFS for every change.
    pub read_only: bool,
    /// Nothing can be executed from it.
    pub no_exec: bool,
    /// The SELinux context.
    pub context: Option<String>,
    /// Nobody else on the node may have the volume.
    pub alone: bool,
    /// The pod's fsGroup.
    pub fs_group: Option<u32>,
    /// Flags that are not permfs's: options for the NFS mount.
    pub nfs_options: Vec<String>,
}

impl Access {
    /// Reads a capability.
    ///
    /// # Errors
    /// INVALID_ARGUMENT where it is missing, a block volume, or has what cannot be had. Flags may be sensitive: only a
    /// flag's name is repeated.
    pub fn read(capability: Option<&VolumeCapability>) -> Result<Self, Refusal> {
        let capability = capability.ok_or_else(|| invalid("volume_capability is missing"))?;
        let mount = match &capability.access_type {
            Some(AccessType::Mount(mount)) => mount,
            Some(AccessType::Block(_)) => {
                return Err(invalid("permfs has no block volumes: write volumeMode: Filesystem"));
            }
            None => return Err(invalid("volume_capability has no access type")),
        };
        let mode = capability.access_mode.as_ref().map_or(Mode::Unknown, |mode| mode.mode());
        let (read_only, alone) = match mode {
            Mode::Unknown => return Err(invalid("volume_capability has no access mode that permfs knows")),
            Mode::SingleNodeReaderOnly | Mode::MultiNodeReaderOnly => (true, false),
            Mode::SingleNodeSingleWriter => (false, true),
            Mode::SingleNodeWriter
            | Mode::SingleNodeMultiWriter
            | Mode::MultiNodeSingleWriter
            | Mode::MultiNodeMultiWriter => (false, false),
        };
        let fs_group = match mount.volume_mount_group.as_str() {
            "" => None,
            text => Some(group(text)?),
        };
        let mut access = Self { read_only, alone, fs_group, ..Self::default() };
        access.take_flags(&mount.mount_flags)?;
        Ok(access)
    }

    fn take_flags(&mut self, flags: &[String]) -> Result<(), Refusal> {
        if flags.iter().map(String::len).sum::<usize>() > MAX_FLAGS {
            return Err(invalid(format!("the mount flags are longer than {MAX_FLAGS} bytes")));
        }
        for flag in flags.iter().flat_map(|list| split(list)) {
            let (word, value) = flag.split_once('=').unwrap_or((flag, ""));
            match word {
                "ro" => self.read_only = true,
                "noexec" => self.no_exec = true,
                "context" => self.context = Some(context(value)?),
                word if WITHOUT_EFFECT.contains(&word) => {}
                word if IMPOSSIBLE.contains(&word) => {
                    return Err(invalid(format!(
                        "the mount flag {word} cannot be had: permfs is nosuid and nodev"
                    )));
                }
                _ => {
                    check_nfs_option(flag)?;
                    self.nfs_options.push(flag.to_owned());
                }
            }
        }
        Ok(())
    }
}

/// Splits at commas that are not in double quotes: an SELinux context has commas.
fn split(list: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let words = list.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    words.map(str::trim).filter(|word| !word.is_empty())
}

fn group(text: &str) -> Result<u32, Refusal> {
    let number = text.parse().ok().filter(|&gid| gid != u32::MAX);
    number.ok_or_else(|| invalid(format!("volume_mount_group \"{}\" is no gid", text.escape_debug())))
}

/// An SELinux context, as it is or in quotation marks.
pub(super) fn context(text: &str) -> Result<String, Refusal> {
    let bare = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.' | ',' | '-');
    if bare.split(':').count() < 3 || !bare.chars().all(plain) {
        return Err(invalid(
            "the SELinux context is none: write it as system_u:object_r:container_file_t:s0",
        ));
    }
    Ok(bare.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::spec::volume_capability::{AccessMode, BlockVolume, MountVolume};
    use super::*;

    fn capability(mode: Mode, flags: &[&str], group: &str) -> VolumeCapability {
        VolumeCapability {
            access_type: Some(AccessType::Mount(MountVolume {
                fs_type: String::new(),
                mount_flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
                volume_mount_group: group.to_owned(),
            })),
            access_mode: Some(AccessMode { mode: mode.into() }),
        }
    }

    fn read(mode: Mode, flags: &[&str]) -> Result<Access, Refusal> {
        Access::read(Some(&capability(mode, flags, "")))
    }

    #[test]
    fn flags_of_permfs_are_told_from_options_of_nfs() {
        let selinux = "context=\"system_u:object_r:container_file_t:s0:c1,c2\"";
        let access = read(Mode::MultiNodeMultiWriter, &["ro", "noexec,nosuid", "vers=4.2", selinux]).unwrap();
        assert!(access.read_only && access.no_exec && !access.alone);
        assert_eq!(access.context.as_deref(), Some("system_u:object_r:container_file_t:s0:c1,c2"));
        assert_eq!(access.nfs_options, ["vers=4.2"]);
    }

    #[test]
    fn access_modes_say_who_may_write_and_who_is_alone() {
        assert!(read(Mode::MultiNodeReaderOnly, &[]).unwrap().read_only);
        assert!(read(Mode::SingleNodeSingleWriter, &[]).unwrap().alone);
        assert_eq!(read(Mode::SingleNodeWriter, &[]).unwrap(), Access::default());
    }

    #[test]
    fn the_pods_group_is_read_and_nothing_else_is_taken_for_one() {
        let read = |group| Access::read(Some(&capability(Mode::SingleNodeWriter, &[], group)));
        assert_eq!(read("1000").unwrap().fs_group, Some(1000));
        for bad in ["x", "-1", "4294967295", "4294967296"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(Access::read(None).is_err());
        assert!(read(Mode::Unknown, &[]).is_err());
        for flag in ["suid", "dev", "remount", "bg", "context=x", "a b"] {
            assert!(read(Mode::SingleNodeWriter, &[flag]).is_err(), "{flag}");
        }
        let block =
            VolumeCapability { access_type: Some(AccessType::Block(BlockVolume {})), access_mode: None };
        assert!(Access::read(Some(&block)).unwrap_err().sentence.contains("block"));
    }

    #[test]
    fn a_flags_value_is_not_repeated() {
        let refused = read(Mode::SingleNodeWriter, &["bg=hunter2"]).unwrap_err();
        assert!(!refused.sentence.contains("hunter2"));
    }
}
