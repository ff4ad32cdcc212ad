//! The rules file, read anew whenever somebody asks: a ConfigMap changes under a running plugin, and its times say little.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use super::context::VolumeContext;
use super::status::invalid;
use crate::config::{MAX_FILE_SIZE, Overrides, RulesFile};
use crate::host::Code;
use crate::host::protocol::{Refusal, Rules};

/// Where the rules are.
#[derive(Debug, Clone)]
pub struct Rulebook {
    path: PathBuf,
}

/// The rules of the moment.
#[derive(Debug)]
pub struct Edition {
    file: RulesFile,
    text: String,
}

/// For what a volume is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be shown to a pod, which must be of a namespace that may use the profile.
    Pod,
    /// To be staged, made or removed: who uses it is asked when a pod comes, unless the cluster told already.
    Cluster,
}

impl Rulebook {
    /// The rules in a file that may come and go.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Reads it.
    ///
    /// # Errors
    /// FAILED_PRECONDITION with the line that is wrong.
    pub fn read(&self) -> Result<Edition, Refusal> {
        let refuse = |why: String| Refusal::new(Code::FailedPrecondition, why);
        let name = self.path.display().to_string();
        let mut text = String::new();
        File::open(&self.path)
            // One byte more tells a file that is too large.
            .and_then(|file| file.take(MAX_FILE_SIZE + 1).read_to_string(&mut text))
            .map_err(|error| refuse(format!("cannot read the rules {name}: {error}; see the ConfigMap")))?;
        if u64::try_from(text.len()).is_ok_and(|length| length > MAX_FILE_SIZE) {
            return Err(refuse(format!("the rules {name} are larger than {MAX_FILE_SIZE} bytes")));
        }
        let file = RulesFile::parse(&text, &name).map_err(|error| refuse(error.to_string()))?;
        Ok(Edition { file, text })
    }

    /// Whether all of it could be used.
    ///
    /// # Errors
    /// The first fault.
    pub fn check(&self) -> Result<(), Refusal> {
        let wrong = match self.read()?.file.check_all() {
            Ok(_) => return Ok(()),
            Err(wrong) => wrong,
        };
        let first = wrong.first().map_or_else(|| "the rules are refused".to_owned(), ToString::to_string);
        Err(Refusal::new(Code::FailedPrecondition, first))
    }
}

impl Edition {
    /// The rules for a volume, where they allow it.
    ///
    /// # Errors
    /// PERMISSION_DENIED for what the admin has not allowed, INVALID_ARGUMENT for a profile or rules that are not.
    pub fn admit(&self, context: &VolumeContext, purpose: Purpose) -> Result<Rules, Refusal> {
        let csi = self.file.csi();
        let file = self.file.name();
        let deny = |what: String| Err(Refusal::new(Code::PermissionDenied, what));
        let choice = &context.choice;
        if context.ephemeral && !csi.inline_volumes {
            return deny(format!(
                "volumes in pod specs are not allowed: use a PersistentVolumeClaim, or have [csi] inline_volumes = true \
                 written in {file}"
            ));
        }
        let adds_rules = !choice.map_uid.is_empty() || !choice.map_gid.is_empty();
        if adds_rules && !csi.inline_rules {
            return deny(format!(
                "mapUid and mapGid are not allowed: use a profile, or have [csi] inline_rules = true written in {file}"
            ));
        }
        // Whether there is such a profile, and it is sound by itself: not the volume's fault where it is not.
        let policy = self.file.policy(choice.profile.as_deref(), &Overrides::default());
        let known = choice.profile.as_deref().is_none_or(|name| self.file.profile_names().contains(&name));
        let several = self.file.profile_names();
        let policy = policy.map_err(|error| match (known, &choice.profile) {
            (true, Some(_)) => Refusal::new(Code::FailedPrecondition, error.to_string()),
            // Not what the error says to users of the command line.
            (_, None) if several.len() > 1 => {
                let names = several.join(", ");
                invalid(format!(
                    "the key profile is missing: {file} has several profiles, name one of {names}"
                ))
            }
            _ => invalid(format!("profile: {error}")),
        })?;
        // Whoever writes a PersistentVolume may write a claim's namespace into it.
        let namespace = match purpose {
            Purpose::Pod => context.pod_namespace.as_deref(),
            Purpose::Cluster => context.pod_namespace.as_deref().or(context.claim_namespace.as_deref()),
        };
        self.admit_namespace(policy.name(), namespace, purpose)?;
        if adds_rules {
            let (map_uid, map_gid) = (choice.map_uid.clone(), choice.map_gid.clone());
            let added = Overrides { map_uid, map_gid, fs_group: None };
            let with = self.file.policy(choice.profile.as_deref(), &added);
            with.map_err(|error| invalid(format!("mapUid, mapGid: {error}")))?;
        }
        Ok(Rules { text: self.text.clone(), file: file.to_owned(), host_paths: csi.host_paths.clone() })
    }

    fn admit_namespace(
        &self,
        profile: &str,
        namespace: Option<&str>,
        purpose: Purpose,
    ) -> Result<(), Refusal> {
        let allowed = self.file.namespaces(profile).map_err(|error| invalid(error.to_string()))?;
        let (Some(allowed), namespace) = (allowed, namespace) else { return Ok(()) };
        let sentence = match (namespace, purpose) {
            (Some(namespace), _) if allowed.iter().any(|name| name == namespace) => return Ok(()),
            (None, Purpose::Cluster) => return Ok(()),
            (Some(namespace), _) => format!(
                "the profile {profile} is for the namespaces {}, and this is {}",
                allowed.join(", "),
                namespace.escape_debug()
            ),
            (None, Purpose::Pod) => format!(
                "the profile {profile} is for the namespaces {}, and the cluster does not tell the pod's: set \
                 podInfoOnMount: true in the CSIDriver",
                allowed.join(", ")
            ),
        };
        Err(Refusal::new(Code::PermissionDenied, sentence))
    }
}
