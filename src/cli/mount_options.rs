//! The words of `-o`, as mount(8) and /etc/fstab write them.

use std::path::PathBuf;

use super::failure::Failure;
use super::rules::RulesArgs;

/// Words that mean something here. Also what a misspelt word is compared with.
const KNOWN: [&str; 14] = [
    "ro",
    "rw",
    "noexec",
    "watch",
    "config",
    "profile",
    "map_uid",
    "map_gid",
    "context",
    "fsname",
    "max_inodes",
    "nfs",
    "allow_other",
    "default_permissions",
];

/// Words that are true of every permfs mount, or are for mount(8), systemd and the fstab's other readers.
const WITHOUT_EFFECT: [&str; 28] = [
    "allow_other",
    "default_permissions",
    "nosuid",
    "nodev",
    "defaults",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "nofail",
    "_netdev",
    "async",
    // When a read changes the access time, the export's own mount decides.
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "lazytime",
    "nolazytime",
    "silent",
    "loud",
    "nomand",
];

/// Words that cannot be had, and why.
const IMPOSSIBLE: [(&str, &str); 5] = [
    ("suid", "a permfs mount is always nosuid: leave it out"),
    ("dev", "a permfs mount is always nodev: leave it out"),
    ("sync", WRITTEN_BY_THE_EXPORT),
    ("dirsync", WRITTEN_BY_THE_EXPORT),
    ("remount", "a permfs mount cannot be remounted: unmount it and mount it again"),
];

/// FUSE's requests for a truncation, or a change in a directory, do not say it, so the words would promise too much.
const WRITTEN_BY_THE_EXPORT: &str =
    "what is written when is up to the export's own mount: give it there, or as nfs:sync";

/// What `-o` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MountOptions {
    pub(super) read_only: bool,
    pub(super) no_exec: bool,
    /// Follow the rules file.
    pub(super) watch: bool,
    pub(super) config: Option<PathBuf>,
    pub(super) profile: Option<String>,
    pub(super) map_uid: Vec<String>,
    pub(super) map_gid: Vec<String>,
    pub(super) context: Option<String>,
    /// What is told as the source.
    pub(super) shown_source: Option<String>,
    /// Inodes to remember at most.
    pub(super) max_inodes: Option<usize>,
    /// For mount.nfs(8).
    pub(super) nfs: Vec<String>,
}

impl MountOptions {
    /// Reads the lists, later words winning over earlier ones. `sloppy`: what is unknown is left out (mount(8), `-s`).
    pub(super) fn parse(lists: &[String], sloppy: bool) -> Result<Self, Failure> {
        let mut options = Self::default();
        for list in lists {
            // `nfs:vers=4.2,soft`: what permfs does not know, after the first of these in a list, is for NFS as well.
            let mut for_nfs = false;
            for word in split(list) {
                for_nfs |= word.starts_with("nfs:");
                options.take(word, for_nfs, sloppy)?;
            }
        }
        Ok(options)
    }

    fn take(&mut self, word: &str, for_nfs: bool, sloppy: bool) -> Result<(), Failure> {
        let (key, value) = word.split_once('=').map_or((word, None), |(key, value)| (key, Some(value)));
        let needed = || {
            let value = value.map(unquoted).filter(|value| !value.is_empty());
            value.ok_or_else(|| {
                Failure::usage(format!("the mount option `{key}` needs a value: write {key}=VALUE"))
            })
        };
        match key {
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            "noexec" => self.no_exec = true,
            "exec" => self.no_exec = false,
            "watch" => self.watch = true,
            "config" => self.config = Some(needed()?.into()),
            "profile" => self.profile = Some(needed()?.to_owned()),
            "map_uid" => self.map_uid.push(needed()?.to_owned()),
            "map_gid" => self.map_gid.push(needed()?.to_owned()),
            "context" => self.context = Some(needed()?.to_owned()),
            "fsname" => self.shown_source = Some(needed()?.to_owned()),
            "max_inodes" => self.max_inodes = Some(number(key, needed()?)?),
            _ if WITHOUT_EFFECT.contains(&key) => {}
            _ if key.starts_with("x-") || key.starts_with("X-") || key == "comment" => {}
            _ => match word.strip_prefix("nfs:") {
                Some("") => {
                    return Err(Failure::usage(
                        "the mount option `nfs:` needs an option of nfs(5): nfs:vers=4.2",
                    ));
                }
                Some(option) => self.nfs.push(option.to_owned()),
                None if for_nfs => self.nfs.push(word.to_owned()),
                None if sloppy => {}
                None => return Err(unknown(key)),
            },
        }
        Ok(())
    }

    /// These options' rules and the flags', which may not both name a file or a profile.
    pub(super) fn rules(&self, flags: &RulesArgs) -> Result<RulesArgs, Failure> {
        fn one<T: Clone>(flag: Option<&T>, word: Option<&T>, name: &str) -> Result<Option<T>, Failure> {
            match (flag, word) {
                (Some(_), Some(_)) => {
                    Err(Failure::usage(format!("--{name} and -o {name}= are both given: keep one")))
                }
                (flag, word) => Ok(flag.or(word).cloned()),
            }
        }
        Ok(RulesArgs {
            config: one(flags.config.as_ref(), self.config.as_ref(), "config")?,
            profile: one(flags.profile.as_ref(), self.profile.as_ref(), "profile")?,
            map_uid: [flags.map_uid.as_slice(), &self.map_uid].concat(),
            map_gid: [flags.map_gid.as_slice(), &self.map_gid].concat(),
            fs_group: flags.fs_group.clone(),
        })
    }
}

fn number(key: &str, value: &str) -> Result<usize, Failure> {
    value.parse().ok().filter(|number| *number > 0).ok_or_else(|| {
        Failure::usage(format!(
            "the mount option `{key}` is a number from 1 on, not `{value}`: write {key}=1000000"
        ))
    })
}

fn unknown(key: &str) -> Failure {
    if let Some((_, why)) = IMPOSSIBLE.iter().find(|(word, _)| *word == key) {
        return Failure::usage(format!("the mount option `{key}` cannot be had: {why}"));
    }
    // Half of a word's letters must be right: any two words of two letters are within two changes.
    let closest = KNOWN
        .iter()
        .map(|known| (strsim::damerau_levenshtein(key, known), known))
        .filter(|(distance, known)| *distance <= 2 && *distance < known.len().div_ceil(2))
        .min();
    Failure::usage(match closest {
        Some((_, known)) => format!("unknown mount option `{key}`: did you mean `{known}`?"),
        None => format!(
            "unknown mount option `{key}`: permfs knows ro, noexec, watch, config=, profile=, map_uid=, map_gid=, context=, max_inodes= and nfs:OPTION"
        ),
    })
}

/// Splits at commas that are not inside double quotes: an SELinux context may contain them.
fn split(list: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    list.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
    .map(str::trim)
    .filter(|word| !word.is_empty())
}

fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &str) -> Result<MountOptions, String> {
        MountOptions::parse(&[list.to_owned()], false).map_err(|failure| match failure {
            Failure::Sentence { text, .. } => text,
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn an_fstab_line_is_understood() {
        let options = parse(
            "rw,_netdev,nofail,x-systemd.requires=nas.mount,config=/etc/permfs/rules.toml,profile=airflow,nfs:vers=4.2",
        );
        let expected = MountOptions {
            config: Some("/etc/permfs/rules.toml".into()),
            profile: Some("airflow".to_owned()),
            nfs: vec!["vers=4.2".to_owned()],
            ..MountOptions::default()
        };
        assert_eq!(options, Ok(expected));
    }

    #[test]
    fn nfs_options_may_be_marked_one_by_one_or_from_the_first_on() {
        assert_eq!(parse("nfs:soft,nfs:timeo=10,ro").unwrap().nfs, ["soft", "timeo=10"]);
        let from_the_first = parse("ro,nfs:soft,timeo=10").unwrap();
        assert_eq!(from_the_first.nfs, ["soft", "timeo=10"]);
        assert!(from_the_first.read_only);
    }

    #[test]
    fn a_context_may_contain_commas() {
        let options = parse("context=\"system_u:object_r:container_file_t:s0:c1,c2\",ro").unwrap();
        assert_eq!(options.context.unwrap(), "system_u:object_r:container_file_t:s0:c1,c2");
        assert!(options.read_only);
    }

    #[test]
    fn an_unknown_word_is_refused_with_the_one_that_was_meant() {
        assert_eq!(parse("profle=x").unwrap_err(), "unknown mount option `profle`: did you mean `profile`?");
        assert!(parse("frobnicate").unwrap_err().contains("permfs knows ro"));
        assert!(parse("suid").unwrap_err().contains("always nosuid"));
        assert!(parse("max_inodes=many").unwrap_err().contains("write max_inodes=1000000"));
        assert_eq!(parse("max_inodes=5").unwrap().max_inodes, Some(5));
        assert!(parse("profile").unwrap_err().contains("write profile=VALUE"));
    }

    #[test]
    fn what_an_fstab_says_of_times_has_no_effect_and_what_it_says_of_syncing_is_refused() {
        let times = parse("noatime,nodiratime,strictatime,lazytime,relatime,diratime,nolazytime");
        assert_eq!(times, Ok(MountOptions::default()));
        assert!(parse("sync").unwrap_err().contains("nfs:sync"));
        assert!(parse("dirsync").unwrap_err().contains("the export's own mount"));
        assert_eq!(parse("nfs:sync").unwrap().nfs, ["sync"]);
    }

    #[test]
    fn two_letters_are_not_taken_for_two_others() {
        for word in ["bg", "fg", "x"] {
            assert!(!parse(word).unwrap_err().contains("did you mean"), "{word}");
        }
    }

    #[test]
    fn an_unknown_word_is_left_out_where_mount_is_sloppy() {
        assert_eq!(MountOptions::parse(&["frobnicate".to_owned()], true).unwrap(), MountOptions::default());
    }

    #[test]
    fn one_file_is_named_once() {
        let flags = RulesArgs { config: Some("a".into()), ..RulesArgs::default() };
        assert!(parse("config=b").unwrap().rules(&flags).is_err());
        assert_eq!(parse("profile=p").unwrap().rules(&flags).unwrap().profile.as_deref(), Some("p"));
    }
}
