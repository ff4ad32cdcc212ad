//! Who is who: `uid`, `gid`, `act_as`, `groups` and `unmapped` of a profile.

use std::sync::Arc;

use toml::de::DeValue;

use super::draft::Draft;
use super::keys;
use super::reader::{Faults, Section, Value, describe, suggest_word};
use super::values::{self, IdRange};
use crate::policy::conflict::Part;
use crate::policy::ids::Id;
use crate::policy::profile::UnmappedIds;
use crate::policy::{
    ActAs, Credentials, Direction, Groups, NfsGid, NfsUid, PodGid, PodUid, Rule, Setting, Unmapped,
    UnmappedOwner,
};

const DIRECTIONS: &[(&str, Direction)] =
    &[("both", Direction::Both), ("pod-to-nfs", Direction::PodToNfs), ("nfs-to-pod", Direction::NfsToPod)];

/// Reads who is who.
pub(super) fn read(section: &Section<'_>, draft: &mut Draft, faults: &mut Faults) {
    rules(section, draft, faults);
    draft.place(Part::ActAs, section.span_of("act_as"));
    act_as(section, draft, faults);
    groups(section, draft, faults);
    if let Some(section) = section.table("unmapped", keys::UNMAPPED, faults) {
        unmapped(&section, draft, faults);
    }
}

fn rules(section: &Section<'_>, draft: &mut Draft, faults: &mut Faults) {
    let example = "a list such as [ { pod = 50000, nfs = 2001 } ]";
    for value in section.list("uid", example, faults).unwrap_or_default() {
        if let Some(rule) = rule("uid", value, faults) {
            draft.place(Part::Uid(draft.profile.uid.len()), Some(value.span()));
            draft.profile.uid.push(rule);
        }
    }
    for value in section.list("gid", example, faults).unwrap_or_default() {
        if let Some(rule) = rule("gid", value, faults) {
            draft.place(Part::Gid(draft.profile.gid.len()), Some(value.span()));
            draft.profile.gid.push(rule);
        }
    }
}

fn rule<P: Id, N: Id>(key: &str, value: &Value<'_>, faults: &mut Faults) -> Option<Rule<P, N>> {
    let section = Section::of(&format!("a rule of {key}"), value, keys::RULE, faults)?;
    let pod = side("pod", value, &section, faults);
    let nfs = side("nfs", value, &section, faults);
    let shown_as = section.get("shown_as").map(|value| values::id("shown_as", value, faults));
    let direction = section.word("direction", DIRECTIONS, faults).unwrap_or_default();
    let allow_root = section.boolean("allow_root", faults).unwrap_or(false);
    let (pod, nfs): (IdRange<P>, IdRange<N>) = (pod?, nfs?);
    Some(Rule {
        pod_first: pod.first,
        pod_last: pod.last,
        nfs_first: nfs.first,
        nfs_last: nfs.last,
        // One that cannot be read leaves no rule to be checked further.
        shown_as: shown_as.map_or(Some(None), |read| read.map(Some))?,
        direction,
        allow_root,
        origin: faults.mark(value.span()).origin(),
    })
}

fn side<T: Id>(
    key: &str,
    rule: &Value<'_>,
    section: &Section<'_>,
    faults: &mut Faults,
) -> Option<IdRange<T>> {
    match section.get(key) {
        Some(value) => values::range(key, value, faults),
        None => {
            let next = "write { pod = 50000, nfs = 2001 }";
            section.missing(key, rule.span(), format!("a rule without {key}"), next, faults)
        }
    }
}

fn act_as(section: &Section<'_>, draft: &mut Draft, faults: &mut Faults) {
    let Some(value) = section.get("act_as") else { return };
    let read = match value.get_ref() {
        DeValue::String(text) if text == "caller" => Some(ActAs::Caller),
        DeValue::String(text) if text == "owner" => Some(ActAs::Owner),
        DeValue::Table(_) => fixed(value, faults).map(ActAs::Fixed),
        other => {
            let next = match other {
                DeValue::String(text) => suggest_word(text, &["caller", "owner"]),
                _ => "write \"caller\", \"owner\", or { uid = 2001, gid = 2001 }".to_owned(),
            };
            faults.add(value.span(), format!("act_as is {}", describe(other)), next)
        }
    };
    if let Some(act_as) = read {
        draft.profile.act_as = Setting { value: act_as, origin: faults.mark(value.span()).origin() };
    }
}

fn fixed(value: &Value<'_>, faults: &mut Faults) -> Option<Credentials> {
    let section = Section::of("act_as", value, keys::ACT_AS, faults)?;
    let mut part = |key: &str| match section.get(key) {
        Some(value) => Some(value),
        None => {
            let next = "write { uid = 2001, gid = 2001 }";
            section.missing(key, value.span(), format!("act_as without {key}"), next, faults)
        }
    };
    let (uid, gid) = (part("uid"), part("gid"));
    let uid = uid.and_then(|value| values::id::<NfsUid>("act_as.uid", value, faults));
    let gid = gid.and_then(|value| values::id::<NfsGid>("act_as.gid", value, faults));
    let list = section.list("groups", "a list of nfs gids such as [3001]", faults).unwrap_or_default();
    let mut groups: Vec<NfsGid> =
        list.iter().filter_map(|value| values::id("act_as.groups", value, faults)).collect();
    let (uid, gid) = (uid?, gid?);
    groups.retain(|&group| group != gid);
    groups.sort_unstable();
    groups.dedup();
    if groups.len() > MAX_FIXED_GROUPS {
        let what = format!("act_as has {} groups", groups.len());
        return faults.add(value.span(), what, "name at most 16: more do not travel over NFS");
    }
    Some(Credentials { uid, gid, groups: Arc::from(groups) })
}

/// How many groups AUTH_SYS carries (RFC 5531, appendix A).
const MAX_FIXED_GROUPS: usize = 16;

fn groups(section: &Section<'_>, draft: &mut Draft, faults: &mut Faults) {
    let Some(value) = section.get("groups") else { return };
    let read = match value.get_ref() {
        DeValue::String(text) if text == "process" => Some(Groups::Process),
        DeValue::String(text) if text == "none" => Some(Groups::None),
        DeValue::Array(list) => {
            let gids: Vec<Option<PodGid>> =
                list.iter().map(|value| values::id("groups", value, faults)).collect();
            gids.into_iter().collect::<Option<Vec<_>>>().map(Groups::These)
        }
        other => {
            let next = match other {
                DeValue::String(text) => suggest_word(text, &["process", "none"]),
                _ => "write \"process\", \"none\", or a list of pod gids".to_owned(),
            };
            faults.add(value.span(), format!("groups is {}", describe(other)), next)
        }
    };
    if let Some(groups) = read {
        draft.profile.groups = Setting { value: groups, origin: faults.mark(value.span()).origin() };
    }
}

fn unmapped(section: &Section<'_>, draft: &mut Draft, faults: &mut Faults) {
    let UnmappedIds { pod, nfs, root } = &mut draft.profile.unmapped;
    for (key, setting) in [("pod", pod), ("root", root)] {
        let Some(value) = section.get(key) else { continue };
        let read = match value.get_ref() {
            DeValue::String(text) if text == "deny" => Some((Unmapped::Deny, Unmapped::Deny)),
            DeValue::String(text) if text == "keep" => Some((Unmapped::Keep, Unmapped::Keep)),
            _ => number::<NfsUid, NfsGid>(key, value, &["deny", "keep"], faults)
                .map(|(uid, gid)| (Unmapped::As(uid), Unmapped::As(gid))),
        };
        if let Some(value_read) = read {
            *setting = Setting { value: value_read, origin: faults.mark(value.span()).origin() };
        }
    }
    if let Some(value) = section.get("nfs") {
        let read = match value.get_ref() {
            DeValue::String(text) if text == "keep" => Some((UnmappedOwner::Keep, UnmappedOwner::Keep)),
            DeValue::String(text) if text == "nobody" => {
                Some((UnmappedOwner::As(PodUid::NOBODY), UnmappedOwner::As(PodGid::NOBODY)))
            }
            _ => number::<PodUid, PodGid>("nfs", value, &["nobody", "keep"], faults)
                .map(|(uid, gid)| (UnmappedOwner::As(uid), UnmappedOwner::As(gid))),
        };
        if let Some(value_read) = read {
            *nfs = Setting { value: value_read, origin: faults.mark(value.span()).origin() };
        }
    }
    draft.place(Part::UnmappedPod, section.span_of("pod"));
    draft.place(Part::UnmappedNfs, section.span_of("nfs"));
    draft.place(Part::UnmappedRoot, section.span_of("root"));
}

/// One number for a uid and a gid.
fn number<U: Id, G: Id>(key: &str, value: &Value<'_>, words: &[&str], faults: &mut Faults) -> Option<(U, G)> {
    let key = format!("unmapped.{key}");
    match value.get_ref() {
        DeValue::String(text) if !text.bytes().all(|byte| byte.is_ascii_digit()) => {
            let what = format!("{key} = \"{text}\" is not known");
            faults.add(value.span(), what, suggest_word(text, words))
        }
        _ => {
            let uid: U = values::id(&key, value, faults)?;
            G::new(uid.get()).map(|gid| (uid, gid))
        }
    }
}
