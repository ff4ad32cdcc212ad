//! A profile as the admin wrote it: typed and with places, nothing resolved yet.

use std::ops::Range;
use std::path::PathBuf;

use toml::de::DeValue;

use super::error::Problem;
use super::table::{At, Table, Value, as_bool, as_list, as_str, as_table, as_word, unexpected};
use super::values::{Ids, as_duration, as_id, as_ids, as_mode, as_names};
use crate::policy::ids::Id;
use crate::policy::{
    Chown, DataPath, Direction, LockScope, NfsGid, NfsUid, OpenPolicy, Permissions, PodGid, PodUid,
};

/// One entry of `uid` or `gid`.
#[derive(Debug, Clone)]
pub(super) struct WrittenRule<P, N> {
    pub(super) pod: At<Ids<P>>,
    pub(super) nfs: At<Ids<N>>,
    pub(super) shown_as: Option<At<P>>,
    pub(super) direction: Direction,
    pub(super) allow_root: bool,
    pub(super) span: Range<usize>,
}

/// `act_as`.
#[derive(Debug, Clone)]
pub(super) enum WrittenActAs {
    Caller,
    Owner,
    Fixed { uid: At<NfsUid>, gid: At<NfsGid>, groups: Vec<At<NfsGid>> },
}

/// `groups`.
#[derive(Debug, Clone)]
pub(super) enum WrittenGroups {
    Process,
    None,
    Fixed(Vec<PodGid>),
}

/// A key of `unmapped`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WrittenUnmapped {
    Deny,
    Nobody,
    Keep,
    As(u32),
}

/// The keys that the profile and a path rule share.
#[derive(Debug, Clone, Default)]
pub(super) struct WrittenRules {
    pub(super) group_write: Option<At<bool>>,
    pub(super) setgid: Option<At<bool>>,
    /// `Some(None)` is `"caller"`.
    pub(super) umask: Option<At<Option<Permissions>>>,
    pub(super) apply_to_all: Option<At<bool>>,
    pub(super) chown: Option<At<Chown>>,
    pub(super) read_only: Option<At<bool>>,
}

/// One `[[profile.X.path]]`.
#[derive(Debug, Clone)]
pub(super) struct WrittenPath<'t> {
    pub(super) names: At<Vec<&'t [u8]>>,
    pub(super) rules: WrittenRules,
    pub(super) span: Range<usize>,
}

/// `cache`.
#[derive(Debug, Clone, Default)]
pub(super) struct WrittenCache {
    pub(super) attr_timeout: Option<At<std::time::Duration>>,
    pub(super) entry_timeout: Option<At<std::time::Duration>>,
    pub(super) negative_timeout: Option<At<std::time::Duration>>,
    pub(super) data: Option<At<DataPath>>,
    pub(super) open: Option<At<OpenPolicy>>,
}

/// A whole `[profile.X]`.
#[derive(Debug, Clone)]
pub(super) struct WrittenProfile<'t> {
    pub(super) uids: Vec<WrittenRule<PodUid, NfsUid>>,
    pub(super) gids: Vec<WrittenRule<PodGid, NfsGid>>,
    pub(super) act_as: At<WrittenActAs>,
    pub(super) groups: WrittenGroups,
    pub(super) unmapped_pod: Option<At<WrittenUnmapped>>,
    pub(super) unmapped_nfs: Option<At<WrittenUnmapped>>,
    pub(super) unmapped_root: Option<At<WrittenUnmapped>>,
    pub(super) rules: WrittenRules,
    pub(super) cache: WrittenCache,
    pub(super) locks: LockScope,
    pub(super) paths: Vec<WrittenPath<'t>>,
    pub(super) allow_root: bool,
    pub(super) namespaces: Option<Vec<String>>,
}

/// `[csi]`: what volume attributes may ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CsiRules {
    /// Where `path` volumes may lie; none by default.
    pub host_paths: Vec<PathBuf>,
    /// Ephemeral volumes in pod specs.
    pub inline_volumes: bool,
    /// `mapUid` and `mapGid` in attributes.
    pub inline_rules: bool,
}

pub(super) fn profile<'t>(value: Value<'t>, name: &str) -> Result<WrittenProfile<'t>, Problem> {
    let mut table = as_table(value, &format!("[profile.{name}]"))?;
    let act_as = table.read("act_as", act_as)?;
    let mut unmapped = table.table("unmapped")?;
    let mut key = |key, word| {
        let Some(table) = unmapped.as_mut() else { return Ok(None) };
        table.read(key, |value| unmapped_id(value, word))
    };
    let profile = WrittenProfile {
        uids: rules(&mut table, "uid")?,
        gids: rules(&mut table, "gid")?,
        act_as: act_as.unwrap_or_else(|| At { value: WrittenActAs::Caller, span: table.span.clone() }),
        groups: table.read("groups", groups)?.map_or(WrittenGroups::Process, |at| at.value),
        unmapped_pod: key("pod", ("deny", WrittenUnmapped::Deny))?,
        unmapped_nfs: key("nfs", ("nobody", WrittenUnmapped::Nobody))?,
        unmapped_root: key("root", ("deny", WrittenUnmapped::Deny))?,
        rules: permissions(&mut table)?,
        cache: cache(&mut table)?,
        locks: locks(&mut table)?,
        paths: paths(&mut table)?,
        allow_root: table.read("allow_root", as_bool)?.is_some_and(|at| at.value),
        namespaces: table.read("namespaces", strings)?.map(|at| at.value),
    };
    unmapped.map_or(Ok(()), Table::end)?;
    table.end()?;
    Ok(profile)
}

pub(super) fn csi(value: Value<'_>) -> Result<CsiRules, Problem> {
    let mut table = as_table(value, "[csi]")?;
    let host_paths = table.read("host_paths", |value| {
        as_list(value)?
            .into_iter()
            .map(|value| match as_str(value.clone(), "an absolute path")? {
                path if path.starts_with('/') && !path.split('/').any(|name| name == "..") => Ok(path.into()),
                path => Err(Problem::new(
                    &value.span,
                    format!("\"{path}\" is no absolute path without `..`"),
                    "write one, e.g. \"/srv/exports\"",
                )),
            })
            .collect()
    })?;
    let csi = CsiRules {
        host_paths: host_paths.map(|at| at.value).unwrap_or_default(),
        inline_volumes: table.read("inline_volumes", as_bool)?.is_some_and(|at| at.value),
        inline_rules: table.read("inline_rules", as_bool)?.is_some_and(|at| at.value),
    };
    table.end()?;
    Ok(csi)
}

fn rules<P: Id, N: Id>(table: &mut Table<'_>, key: &'static str) -> Result<Vec<WrittenRule<P, N>>, Problem> {
    let list = table.read(key, as_list)?.map(|at| at.value).unwrap_or_default();
    list.into_iter().map(|value| rule(value, key)).collect()
}

fn rule<P: Id, N: Id>(value: Value<'_>, key: &str) -> Result<WrittenRule<P, N>, Problem> {
    let span = value.span.clone();
    let mut table = as_table(value, &format!("a {key} rule"))?;
    let missing = |side: &str| {
        let message = format!("this {key} rule does not say which {side} id it is about");
        Problem::new(&span, message, "write { pod = 50000, nfs = 2001 }")
    };
    let rule = WrittenRule {
        pod: table.read("pod", as_ids)?.ok_or_else(|| missing("pod"))?,
        nfs: table.read("nfs", as_ids)?.ok_or_else(|| missing("nfs"))?,
        shown_as: table.read("shown_as", as_id)?,
        direction: table.read("direction", direction)?.map_or(Direction::Both, |at| at.value),
        allow_root: table.read("allow_root", as_bool)?.is_some_and(|at| at.value),
        span: span.clone(),
    };
    table.end()?;
    Ok(rule)
}

fn direction(value: Value<'_>) -> Result<Direction, Problem> {
    as_word(
        value,
        &[
            ("both", Direction::Both),
            ("pod-to-nfs", Direction::PodToNfs),
            ("nfs-to-pod", Direction::NfsToPod),
        ],
    )
}

fn act_as(value: Value<'_>) -> Result<WrittenActAs, Problem> {
    if !matches!(value.value, DeValue::Table(_)) {
        let owner =
            as_word(value.clone(), &[("caller", false), ("owner", true)]).map_err(|mut problem| {
                problem.help += "; or a fixed identity, e.g. { uid = 2001, gid = 2001 }";
                problem
            })?;
        return Ok(if owner { WrittenActAs::Owner } else { WrittenActAs::Caller });
    }
    let span = value.span.clone();
    let mut table = as_table(value, "act_as")?;
    let missing =
        |what| Problem::new(&span, format!("act_as names no {what}"), "write { uid = 2001, gid = 2001 }");
    let fixed = WrittenActAs::Fixed {
        uid: table.read("uid", as_id)?.ok_or_else(|| missing("uid"))?,
        gid: table.read("gid", as_id)?.ok_or_else(|| missing("gid"))?,
        groups: table.read("groups", ids)?.map(|at| at.value).unwrap_or_default(),
    };
    table.end()?;
    Ok(fixed)
}

fn ids<I: Id>(value: Value<'_>) -> Result<Vec<At<I>>, Problem> {
    let read = |value: Value<'_>| {
        let span = value.span.clone();
        Ok(At { value: as_id(value)?, span })
    };
    as_list(value)?.into_iter().map(read).collect()
}

fn strings(value: Value<'_>) -> Result<Vec<String>, Problem> {
    as_list(value)?.into_iter().map(|value| as_str(value, "a string").map(str::to_owned)).collect()
}

fn groups(value: Value<'_>) -> Result<WrittenGroups, Problem> {
    if matches!(value.value, DeValue::Array(_)) {
        let groups: Vec<At<PodGid>> = ids(value)?;
        return Ok(WrittenGroups::Fixed(groups.into_iter().map(|at| at.value).collect()));
    }
    let process = as_word(value, &[("process", true), ("none", false)]).map_err(|mut problem| {
        problem.help += "; or a list of pod gids, e.g. [0, 1000]";
        problem
    })?;
    Ok(if process { WrittenGroups::Process } else { WrittenGroups::None })
}

fn unmapped_id(value: Value<'_>, word: (&str, WrittenUnmapped)) -> Result<WrittenUnmapped, Problem> {
    match value.value {
        DeValue::Integer(_) => as_id::<PodUid>(value).map(|id| WrittenUnmapped::As(id.get())),
        DeValue::String(_) => {
            as_word(value, &[word, ("keep", WrittenUnmapped::Keep)]).map_err(|mut problem| {
                problem.help += ", or an id";
                problem
            })
        }
        _ => Err(unexpected(&value, &format!("\"{}\", \"keep\" or an id", word.0))),
    }
}

fn permissions(profile: &mut Table<'_>) -> Result<WrittenRules, Problem> {
    let Some(mut table) = profile.table("permissions")? else { return Ok(WrittenRules::default()) };
    let rules = shared_rules(&mut table)?;
    table.end()?;
    Ok(rules)
}

fn shared_rules(table: &mut Table<'_>) -> Result<WrittenRules, Problem> {
    Ok(WrittenRules {
        group_write: table.read("group_write", as_bool)?,
        setgid: table.read("setgid", as_bool)?,
        umask: table.read("umask", |value| match value.value {
            DeValue::String(text) if text == "caller" => Ok(None),
            _ => as_mode(value).map(Some),
        })?,
        apply_to_all: table.read("apply_to", |value| as_word(value, &[("new", false), ("all", true)]))?,
        chown: table.read("chown", |value| {
            as_word(
                value,
                &[
                    ("absorb", Chown::Absorb),
                    ("deny", Chown::Deny),
                    ("pass", Chown::Pass),
                    ("ignore", Chown::Ignore),
                ],
            )
        })?,
        read_only: table.read("read_only", as_bool)?,
    })
}

fn cache(profile: &mut Table<'_>) -> Result<WrittenCache, Problem> {
    let Some(mut table) = profile.table("cache")? else { return Ok(WrittenCache::default()) };
    let cache = WrittenCache {
        attr_timeout: table.read("attr_timeout", as_duration)?,
        entry_timeout: table.read("entry_timeout", as_duration)?,
        negative_timeout: table.read("negative_timeout", as_duration)?,
        data: table.read("data", |value| {
            as_word(
                value,
                &[
                    ("auto", DataPath::Auto),
                    ("passthrough", DataPath::Passthrough),
                    ("page", DataPath::Page),
                    ("none", DataPath::None),
                ],
            )
        })?,
        open: table.read("open", |value| {
            as_word(value, &[("revalidate", OpenPolicy::Revalidate), ("trust", OpenPolicy::Trust)])
        })?,
    };
    table.end()?;
    Ok(cache)
}

fn locks(profile: &mut Table<'_>) -> Result<LockScope, Problem> {
    let Some(mut table) = profile.table("locks")? else { return Ok(LockScope::default()) };
    let scope = table
        .read("scope", |value| as_word(value, &[("server", LockScope::Server), ("node", LockScope::Node)]))?;
    table.end()?;
    Ok(scope.map(|at| at.value).unwrap_or_default())
}

fn paths<'t>(profile: &mut Table<'t>) -> Result<Vec<WrittenPath<'t>>, Problem> {
    let list = profile.read("path", as_list)?.map(|at| at.value).unwrap_or_default();
    list.into_iter().map(path).collect()
}

fn path(value: Value<'_>) -> Result<WrittenPath<'_>, Problem> {
    let span = value.span.clone();
    let mut table = as_table(value, "a path rule")?;
    let names = table.read("match", as_names)?.ok_or_else(|| {
        Problem::new(&span, "this path rule does not say which path it is about", "write match = \"/dags\"")
    })?;
    let rules = shared_rules(&mut table)?;
    table.end()?;
    Ok(WrittenPath { names, rules, span })
}
