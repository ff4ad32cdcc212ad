//! `[[profile.NAME.path]]`.

use super::draft::Draft;
use super::keys;
use super::profile::Keys;
use super::reader::{Faults, Section, Value};
use super::values;
use crate::policy::conflict::Part;
use crate::policy::{MatchPath, PathRule};

/// Keys of a profile that an admin may try in a path rule. They decide who a caller is, and a caller is the same
/// everywhere.
const PROFILE_ONLY: &[&str] =
    &["uid", "gid", "act_as", "groups", "unmapped", "cache", "locks", "allow_root", "namespaces"];

/// Reads one path rule.
pub(super) fn path_rule(value: &Value<'_>, draft: &mut Draft, faults: &mut Faults) {
    let Some(section) = section(value, faults) else { return };
    let Keys { group_write, setgid, umask, apply_to_all, chown, read_only } = Keys::read(&section, faults);
    let Some(path) = match_path(value, &section, faults) else { return };
    let number = draft.profile.paths.len();
    draft.place(Part::Path(number), section.span_of("match"));
    draft.place(Part::PathApplyTo(number), section.span_of("apply_to"));
    let origin = draft.mark(Part::Path(number)).origin();
    draft.profile.paths.push(PathRule {
        group_write,
        setgid,
        umask,
        apply_to_all,
        chown,
        read_only,
        ..PathRule::new(path, origin)
    });
}

/// The table, with a clearer word for keys that hold for a whole profile only.
fn section<'t>(value: &'t Value<'t>, faults: &mut Faults) -> Option<Section<'t>> {
    if let toml::de::DeValue::Table(table) = value.get_ref()
        && let Some(key) = table.keys().find(|key| PROFILE_ONLY.contains(&key.get_ref().as_ref()))
    {
        let what = format!("{} cannot differ by path", key.get_ref());
        let next = format!("move it to the profile: a path rule has {}", keys::PATH.join(", "));
        return faults.add(key.span(), what, next);
    }
    Section::of("path", value, keys::PATH, faults)
}

fn match_path(rule: &Value<'_>, section: &Section<'_>, faults: &mut Faults) -> Option<MatchPath> {
    let Some(value) = section.get("match") else {
        let next = "add match = \"/dags\"";
        return section.missing("match", rule.span(), "a path rule without match", next, faults);
    };
    let text = values::text("match", value, faults)?;
    match MatchPath::parse(text) {
        Ok(path) => Some(path),
        Err(fault) => {
            let next = "write a path below the mount's root, such as \"/dags\"";
            faults.add(value.span(), format!("match = \"{text}\" {fault}"), next)
        }
    }
}
