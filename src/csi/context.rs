//! volumeAttributes of a PV or a pod, and parameters of a StorageClass: the same typed keys in all three places.

use std::collections::HashMap;
use std::path::{Component, Path};

use super::status::invalid;
use crate::host::SubPath;
use crate::host::protocol::{Choice, OnDelete, Refusal, Share};

/// The keys, as users write them.
pub const KEYS: [&str; 9] =
    ["server", "share", "path", "subDir", "profile", "nfsMountOptions", "onDelete", "mapUid", "mapGid"];
/// What the cluster adds, by how it begins.
const CLUSTERS: [&str; 2] = ["csi.storage.k8s.io/", "storage.kubernetes.io/"];
const EPHEMERAL: &str = "csi.storage.k8s.io/ephemeral";
const POD_NAMESPACE: &str = "csi.storage.k8s.io/pod.namespace";
const CLAIM_NAMESPACE: &str = "csi.storage.k8s.io/pvc/namespace";
/// What subDir of a StorageClass may name, and the key under which the cluster tells it (`--extra-create-metadata`).
const TEMPLATES: [(&str, &str); 3] = [
    ("${pvc.metadata.namespace}", CLAIM_NAMESPACE),
    ("${pvc.metadata.name}", "csi.storage.k8s.io/pvc/name"),
    ("${pv.metadata.name}", "csi.storage.k8s.io/pv/name"),
];
/// NFS options that mean something else than how to mount this export.
const NO_NFS_OPTIONS: [&str; 6] = ["bg", "remount", "bind", "rbind", "suid", "dev"];
/// The longest host name (RFC 1035).
const MAX_SERVER: usize = 253;

/// A volume as its attributes describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeContext {
    /// Where it lies.
    pub share: Share,
    /// The directory of the share that is shown; for a StorageClass the one in which volumes are made.
    pub sub_dir: SubPath,
    /// Under which rules.
    pub choice: Choice,
    /// What becomes of the content of a deleted volume.
    pub on_delete: OnDelete,
    /// The namespace of the pod: the kubelet's word.
    pub pod_namespace: Option<String>,
    /// The namespace of the claim: the provisioner's word, which stands in the PersistentVolume as well.
    pub claim_namespace: Option<String>,
    /// Whether it stands in a pod's spec and ends with the pod.
    pub ephemeral: bool,
}

impl VolumeContext {
    /// Reads volumeAttributes.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for an unknown key, a bad value, or no share.
    pub fn of_attributes(attributes: &HashMap<String, String>) -> Result<Self, Refusal> {
        Self::read(attributes, attributes.get("subDir").cloned())
    }

    /// Reads the parameters of a StorageClass: as attributes, but that subDir may be a template.
    ///
    /// # Errors
    /// As [`Self::of_attributes`].
    pub fn of_parameters(parameters: &HashMap<String, String>) -> Result<Self, Refusal> {
        let Some(template) = parameters.get("subDir") else { return Self::read(parameters, None) };
        let mut sub_dir = template.clone();
        for (name, key) in TEMPLATES {
            if !sub_dir.contains(name) {
                continue;
            }
            let Some(value) = parameters.get(key).filter(|value| !value.contains('/')) else {
                let next = "start csi-provisioner with --extra-create-metadata";
                return Err(invalid(format!("subDir has {name}, which the cluster does not tell: {next}")));
            };
            sub_dir = sub_dir.replace(name, value);
        }
        if sub_dir.contains("${") {
            let known = TEMPLATES.map(|(name, _)| name).join(", ");
            return Err(invalid(format!("subDir \"{template}\" names something else than {known}")));
        }
        Self::read(parameters, Some(sub_dir))
    }

    /// The attributes that describe the same again, for a volume `name` that was made in it.
    #[must_use]
    pub fn attributes_of(&self, directory: &SubPath) -> HashMap<String, String> {
        let mut attributes = HashMap::new();
        let mut set = |key: &str, value: String| {
            if !value.is_empty() {
                attributes.insert(key.to_owned(), value);
            }
        };
        match &self.share {
            Share::Path(path) => set("path", path.display().to_string()),
            Share::Nfs { export, options } => {
                let (server, share) = export.split_once(":/").unwrap_or((export, ""));
                set("server", server.to_owned());
                set("share", format!("/{share}"));
                set("nfsMountOptions", options.join(","));
            }
        }
        set("subDir", directory.to_string());
        set("profile", self.choice.profile.clone().unwrap_or_default());
        set("mapUid", self.choice.map_uid.join(","));
        set("mapGid", self.choice.map_gid.join(","));
        attributes
    }

    fn read(attributes: &HashMap<String, String>, sub_dir: Option<String>) -> Result<Self, Refusal> {
        for key in attributes.keys() {
            let known = KEYS.contains(&key.as_str()) || CLUSTERS.iter().any(|start| key.starts_with(start));
            if !known {
                let key = key.escape_debug();
                return Err(invalid(format!("the key \"{key}\" is unknown: there are {}", KEYS.join(", "))));
            }
        }
        let given = |key: &str| attributes.get(key).map(String::as_str).filter(|value| !value.is_empty());
        let list = |key: &str| list(key, given(key).unwrap_or_default());
        let sub_dir = sub_dir.unwrap_or_default();
        Ok(Self {
            share: share(given("server"), given("share"), given("path"), list("nfsMountOptions")?)?,
            sub_dir: sub_dir.parse().map_err(|bad| invalid(format!("subDir: {bad}")))?,
            choice: Choice {
                profile: given("profile").map(str::to_owned),
                map_uid: list("mapUid")?,
                map_gid: list("mapGid")?,
            },
            on_delete: on_delete(given("onDelete"))?,
            pod_namespace: given(POD_NAMESPACE).map(str::to_owned),
            claim_namespace: given(CLAIM_NAMESPACE).map(str::to_owned),
            ephemeral: given(EPHEMERAL) == Some("true"),
        })
    }
}

fn share(
    server: Option<&str>,
    share: Option<&str>,
    path: Option<&str>,
    options: Vec<String>,
) -> Result<Share, Refusal> {
    match (server, share, path) {
        (Some(server), Some(share), None) => {
            for option in &options {
                check_nfs_option(option)?;
            }
            Ok(Share::Nfs { export: export(server, share)?, options })
        }
        (None, None, Some(_)) if !options.is_empty() => {
            Err(invalid("nfsMountOptions is for volumes with server and share; a path is mounted already"))
        }
        (None, None, Some(path)) => directory(path),
        (None, None, None) => {
            Err(invalid("server and share, or path, are missing: say where the volume lies"))
        }
        (Some(_), None, None) => Err(invalid("share is missing: name the server's export, such as /srv/nfs")),
        (None, Some(_), None) => Err(invalid("server is missing: name the NFS server")),
        (_, _, Some(_)) => Err(invalid("path stands beside server or share: keep one of both")),
    }
}

/// `server:/share`, as [`export`] makes it of two attributes.
///
/// # Errors
/// Where it is not.
pub(super) fn check_export(text: &str) -> Result<(), Refusal> {
    let (server, path) =
        text.split_once(":/").ok_or_else(|| invalid("the export is not written as server:/share"))?;
    match export(server, &format!("/{path}"))? {
        same if same == text => Ok(()),
        _ => Err(invalid("the export is not written as permfs writes it")),
    }
}

fn export(server: &str, share: &str) -> Result<String, Refusal> {
    let bare = server.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(server);
    // The first character keeps it from being taken for an option of mount.nfs.
    let begins = bare.starts_with(|c: char| c.is_ascii_alphanumeric() || c == ':');
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if !begins || !bare.chars().all(plain) || bare.len() > MAX_SERVER {
        let server = server.escape_debug();
        return Err(invalid(format!("server \"{server}\" is no host name and no address")));
    }
    if !share.starts_with('/') || share.chars().any(char::is_control) {
        let share = share.escape_debug();
        return Err(invalid(format!("share \"{share}\" is no path on the server: write it as /srv/nfs")));
    }
    Ok(if bare.contains(':') { format!("[{bare}]:{share}") } else { format!("{bare}:{share}") })
}

/// A `path` attribute.
pub(super) fn directory(path: &str) -> Result<Share, Refusal> {
    let directory = Path::new(path);
    let plain = directory.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    // Components hide a `.` in the middle.
    let dots = path.split('/').any(|name| name == "." || name == "..");
    if !directory.is_absolute() || !plain || dots || path.chars().any(char::is_control) {
        let path = path.escape_debug();
        return Err(invalid(format!("path \"{path}\" is no absolute path without \".\" and \"..\"")));
    }
    Ok(Share::Path(directory.components().collect()))
}

/// Refuses what is no option of nfs(5) for a mount like this.
pub(super) fn check_nfs_option(option: &str) -> Result<(), Refusal> {
    let word = option.split('=').next().unwrap_or_default();
    let strange = |c: char| c.is_control() || c.is_whitespace() || c == ',';
    if word.is_empty() || option.contains(strange) || NO_NFS_OPTIONS.contains(&word) {
        return Err(invalid(format!("\"{}\" is no option for an NFS mount", word.escape_debug())));
    }
    Ok(())
}

fn list(key: &str, text: &str) -> Result<Vec<String>, Refusal> {
    let words: Vec<_> = text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    match words.iter().find(|word| word.chars().any(char::is_control)) {
        Some(word) => Err(invalid(format!("{key} has \"{}\"", word.escape_debug()))),
        None => Ok(words.into_iter().map(str::to_owned).collect()),
    }
}

fn on_delete(word: Option<&str>) -> Result<OnDelete, Refusal> {
    match word {
        None | Some("delete") => Ok(OnDelete::Delete),
        Some("retain") => Ok(OnDelete::Retain),
        Some("archive") => Ok(OnDelete::Archive),
        Some(other) => {
            let other = other.escape_debug();
            Err(invalid(format!("onDelete \"{other}\" is unknown: write delete, retain or archive")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn read(pairs: &[(&str, &str)]) -> Result<VolumeContext, Refusal> {
        VolumeContext::of_attributes(&map(pairs))
    }

    #[test]
    fn an_export_is_read_with_all_its_keys() {
        let context = read(&[
            ("server", "nas.example"),
            ("share", "/srv/nfs"),
            ("subDir", "a/b"),
            ("profile", "airflow"),
            ("nfsMountOptions", "vers=4.2, hard"),
            ("onDelete", "archive"),
            ("mapUid", "1:2,3-4:5-6"),
            ("csi.storage.k8s.io/pod.namespace", "team"),
            ("csi.storage.k8s.io/ephemeral", "true"),
            ("storage.kubernetes.io/csiProvisionerIdentity", "x"),
        ])
        .unwrap();
        let options = vec!["vers=4.2".to_owned(), "hard".to_owned()];
        assert_eq!(context.share, Share::Nfs { export: "nas.example:/srv/nfs".into(), options });
        assert_eq!(context.sub_dir.to_string(), "a/b");
        assert_eq!(context.choice.map_uid, ["1:2", "3-4:5-6"]);
        assert_eq!((context.on_delete, context.ephemeral), (OnDelete::Archive, true));
        assert_eq!(context.pod_namespace.as_deref(), Some("team"));
    }

    #[test]
    fn an_address_of_ipv6_is_put_in_brackets() {
        for server in ["fe80::1", "[fe80::1]"] {
            let context = read(&[("server", server), ("share", "/x")]).unwrap();
            assert_eq!(context.share.to_string(), "[fe80::1]:/x");
        }
    }

    #[test]
    fn an_unknown_key_is_answered_with_those_there_are() {
        let refused = read(&[("path", "/x"), ("subdir", "y")]).unwrap_err();
        assert!(refused.sentence.contains("\"subdir\"") && refused.sentence.contains("nfsMountOptions"));
    }

    #[test]
    fn what_makes_no_volume_is_refused() {
        for pairs in [
            &[][..],
            &[("server", "nas")],
            &[("share", "/x")],
            &[("server", "nas"), ("share", "/x"), ("path", "/y")],
            &[("server", "-o"), ("share", "/x")],
            &[("server", "a b"), ("share", "/x")],
            &[("server", "nas"), ("share", "x")],
            &[("path", "x")],
            &[("path", "/x/../y")],
            &[("path", "/x/./y")],
            &[("path", "/x"), ("subDir", "../y")],
            &[("path", "/x"), ("nfsMountOptions", "hard")],
            &[("path", "/x"), ("onDelete", "keep")],
            &[("server", "nas"), ("share", "/x"), ("nfsMountOptions", "remount")],
        ] {
            assert_eq!(read(pairs).unwrap_err().code, crate::host::Code::InvalidArgument, "{pairs:?}");
        }
    }

    #[test]
    fn a_storage_class_may_name_the_claim() {
        let pairs = [("path", "/x"), ("subDir", "${pvc.metadata.namespace}/${pvc.metadata.name}")];
        let told = [("csi.storage.k8s.io/pvc/namespace", "team"), ("csi.storage.k8s.io/pvc/name", "logs")];
        let context = VolumeContext::of_parameters(&map(&[pairs, told].concat())).unwrap();
        assert_eq!(context.sub_dir.to_string(), "team/logs");
        assert!(
            VolumeContext::of_parameters(&map(&pairs))
                .unwrap_err()
                .sentence
                .contains("--extra-create-metadata")
        );
        let unknown = map(&[("path", "/x"), ("subDir", "${pod.name}")]);
        assert!(
            VolumeContext::of_parameters(&unknown).unwrap_err().sentence.contains("${pvc.metadata.name}")
        );
    }

    #[test]
    fn what_a_made_volume_is_told_by_reads_as_the_same() {
        let context =
            read(&[("server", "fe80::1"), ("share", "/x"), ("mapGid", "1:2"), ("profile", "p")]).unwrap();
        let directory: SubPath = "a/b".parse().unwrap();
        let again = VolumeContext::of_attributes(&context.attributes_of(&directory)).unwrap();
        assert_eq!(again, VolumeContext { sub_dir: directory, ..context });
    }
}
