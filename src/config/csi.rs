//! What the CSI driver may do: `[csi]`, and who may use a profile.

use std::path::{Component, Path, PathBuf};

use super::keys;
use super::reader::{Faults, Section};
use super::values;

/// `[csi]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Csi {
    /// Where `path` volumes may lie; none by default.
    pub host_paths: Vec<PathBuf>,
    /// Whether pod specs may have ephemeral volumes.
    pub inline_volumes: bool,
    /// Whether `mapUid` and `mapGid` may stand in volume attributes.
    pub inline_rules: bool,
}

/// The longest name of a namespace (RFC 1123 label).
const MAX_NAMESPACE: usize = 63;

impl Csi {
    pub(super) fn read(file: &Section<'_>, faults: &mut Faults) -> Self {
        let Some(section) = file.table("csi", keys::CSI, faults) else { return Self::default() };
        let paths =
            section.list("host_paths", "a list such as [\"/srv/exports\"]", faults).unwrap_or_default();
        let mut host_paths = Vec::new();
        for value in paths {
            let Some(text) = values::text("host_paths", value, faults) else { continue };
            let path = Path::new(text);
            let plain =
                path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
            if path.is_absolute() && plain && !text.contains('\0') {
                host_paths.push(path.to_owned());
            } else {
                let what = format!("host_paths has \"{text}\"");
                faults.add::<()>(value.span(), what, "write an absolute path without \"..\"");
            }
        }
        Self {
            host_paths,
            inline_volumes: section.boolean("inline_volumes", faults).unwrap_or(false),
            inline_rules: section.boolean("inline_rules", faults).unwrap_or(false),
        }
    }
}

/// A profile's `namespaces`; none: everyone may use it.
pub(super) fn namespaces(profile: &Section<'_>, faults: &mut Faults) -> Option<Vec<String>> {
    let list = profile.list("namespaces", "a list such as [\"airflow\"]", faults)?;
    let mut names = Vec::new();
    for value in list {
        let Some(name) = values::text("namespaces", value, faults) else { continue };
        if is_namespace(name) {
            names.push(name.to_owned());
        } else {
            let next = "write lower-case letters, digits and \"-\", at most 63";
            faults.add::<()>(value.span(), format!("\"{name}\" is no namespace"), next);
        }
    }
    Some(names)
}

fn is_namespace(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_NAMESPACE).contains(&name.len())
        && name.bytes().all(plain)
        && !name.starts_with('-')
        && !name.ends_with('-')
}
