//! Every key a rules file may have. The reader asks for no other, and the commented example shows each.

pub(super) const FILE: &[&str] = &["version", "profile", "csi"];
pub(super) const CSI: &[&str] = &["host_paths", "inline_volumes", "inline_rules"];
pub(super) const PROFILE: &[&str] = &[
    "uid",
    "gid",
    "allow_root",
    "act_as",
    "groups",
    "unmapped",
    "permissions",
    "cache",
    "locks",
    "path",
    "namespaces",
];
pub(super) const RULE: &[&str] = &["pod", "nfs", "shown_as", "direction", "allow_root"];
pub(super) const ACT_AS: &[&str] = &["uid", "gid", "groups"];
pub(super) const UNMAPPED: &[&str] = &["pod", "nfs", "root"];
pub(super) const PERMISSIONS: &[&str] = &["group_write", "setgid", "umask", "apply_to", "chown", "read_only"];
pub(super) const CACHE: &[&str] = &["attr_timeout", "entry_timeout", "negative_timeout", "data", "open"];
pub(super) const LOCKS: &[&str] = &["scope"];
pub(super) const PATH: &[&str] =
    &["match", "read_only", "group_write", "setgid", "umask", "apply_to", "chown"];

/// All tables, by how they are written, with their keys: what documentation is checked against.
pub const TABLES: &[(&str, &[&str])] = &[
    ("", FILE),
    ("csi", CSI),
    ("profile.NAME", PROFILE),
    ("profile.NAME.uid[]", RULE),
    ("profile.NAME.gid[]", RULE),
    ("profile.NAME.act_as", ACT_AS),
    ("profile.NAME.unmapped", UNMAPPED),
    ("profile.NAME.permissions", PERMISSIONS),
    ("profile.NAME.cache", CACHE),
    ("profile.NAME.locks", LOCKS),
    ("profile.NAME.path[]", PATH),
];
