//! What plugin and host say to each other: plain data, one JSON object a line ([`super::wire`]).
//!
//! A host serves plugins of its own version of the protocol; fields may be added, a change of meaning is a new version.
//! Secrets of CSI requests have no place here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::SubPath;

/// The version of the protocol.
pub const VERSION: u32 = 1;

/// A call.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Whether the host can mount.
    Ready,
    /// Mount an export for all volumes on it.
    Stage(Stage),
    /// Undo it.
    Unstage {
        /// Where it was staged.
        staging: PathBuf,
    },
    /// Show a volume to a pod.
    Publish(Box<Publish>),
    /// Undo it.
    Unpublish {
        /// Where it was shown.
        target: PathBuf,
    },
    /// Have all published volumes follow a changed rules file.
    Renew {
        /// Its content, right or wrong.
        text: String,
    },
    /// How all published volumes are served.
    Survey,
    /// Space, inodes and condition of a published volume.
    Stats {
        /// The volume that is asked about.
        volume_id: String,
        /// Where it is published or staged.
        path: PathBuf,
    },
    /// Make a volume: a subdirectory of a share.
    MakeVolume(Box<MakeVolume>),
    /// Remove a volume.
    RemoveVolume(Box<RemoveVolume>),
    /// Whether a volume exists.
    FindVolume(Box<Volume>),
    /// Leave the node's volumes to the host of another container, which asks from this mount namespace.
    StandUp {
        /// By its inode number.
        namespace: Option<u64>,
    },
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done.
    Done,
    /// To [`Request::Survey`].
    Survey(Survey),
    /// To [`Request::Stats`].
    Stats(Stats),
    /// To [`Request::MakeVolume`] and [`Request::FindVolume`].
    Volume(Made),
    /// It is not done.
    Refused(Refusal),
}

/// The published volumes of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// How many there are.
    pub published: usize,
    /// Those that could be asked in time, by target.
    pub asked: Vec<Service>,
}

/// How a published volume is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// The volume, as the cluster calls it.
    pub volume_id: String,
    /// Where it is shown.
    pub target: PathBuf,
    /// Whether its process answers.
    pub serving: bool,
    /// What its process has counted, by name; empty where it does not answer.
    pub counters: BTreeMap<String, u64>,
    /// Requests by operation.
    pub requests: BTreeMap<String, u64>,
}

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{sentence}")]
pub struct Refusal {
    /// The kind.
    pub code: Code,
    /// For whoever reads the pod's events: what, with which value, and the next step.
    pub sentence: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: Code, sentence: impl Into<String>) -> Self {
        Self { code, sentence: sentence.into() }
    }
}

/// The kinds of refusals, as CSI's errors are called (gRPC status codes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The call itself is wrong.
    InvalidArgument,
    /// There is no such volume.
    NotFound,
    /// It is there, but otherwise than asked for.
    AlreadyExists,
    /// The rules do not allow it.
    PermissionDenied,
    /// Something must be put in order first.
    FailedPrecondition,
    /// The same is being done right now.
    Aborted,
    /// Too much at once.
    ResourceExhausted,
    /// The host or a server does not answer.
    Unavailable,
    /// It took too long.
    DeadlineExceeded,
    /// Something failed.
    Internal,
}

/// Where volumes lie.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// An NFS export.
    Nfs {
        /// `server:/export`, as mount.nfs(8) takes it.
        export: String,
        /// Options for mount.nfs(8).
        options: Vec<String>,
    },
    /// A directory of the node.
    Path(PathBuf),
}

/// The rules as the admin wrote them, and what else the plugin found to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// The file's content.
    pub text: String,
    /// The file as errors call it.
    pub file: String,
    /// Where [`Share::Path`] may lie.
    pub host_paths: Vec<PathBuf>,
}

/// Which of the rules hold for a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The profile; a file with a single one needs no name.
    pub profile: Option<String>,
    /// Further rules for users, POD:NFS.
    pub map_uid: Vec<String>,
    /// Further rules for groups, POD:NFS.
    pub map_gid: Vec<String>,
}

/// See [`Request::Stage`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Where to mount it; made where it is absent.
    pub staging: PathBuf,
    /// `server:/export`.
    pub export: String,
    /// Options for mount.nfs(8).
    pub options: Vec<String>,
}

/// See [`Request::Publish`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// What to show where.
    pub order: Order,
    /// The rules of the moment.
    pub rules: Rules,
}

/// What a published volume is: two calls with equal orders ask for the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The volume, as the cluster calls it.
    pub volume_id: String,
    /// Where to show it; made where it is absent.
    pub target: PathBuf,
    /// Where its export is staged; none for an ephemeral volume, whose export is mounted for it alone.
    pub staging: Option<PathBuf>,
    /// Where it lies.
    pub share: Share,
    /// The directory of the share that is shown.
    pub directory: SubPath,
    /// Under which rules.
    pub choice: Choice,
    /// The pod's fsGroup.
    pub fs_group: Option<u32>,
    /// EROFS for every change.
    pub read_only: bool,
    /// Nothing can be executed from it.
    pub no_exec: bool,
    /// The SELinux context of everything in it.
    pub context: Option<String>,
    /// Nobody else on this node may have the volume at the same time.
    pub alone: bool,
}

/// A volume that was made, or is to be: a directory `name` in the directory `parent` of a share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Where volumes lie.
    pub share: Share,
    /// The directory in which it lies; made where it is absent.
    pub parent: SubPath,
    /// Its name there.
    pub name: String,
    /// As whom to work on it.
    pub choice: Choice,
    /// The rules of the moment.
    pub rules: Rules,
}

/// See [`Request::MakeVolume`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MakeVolume {
    /// The volume.
    pub volume: Volume,
    /// The least it should hold, in bytes; 0 for any. Kept, and not enforced: a directory has no size.
    pub required_bytes: u64,
    /// The most it may hold; 0 for any.
    pub limit_bytes: u64,
    /// The directory of the same share whose content it starts with.
    pub copy_of: Option<SubPath>,
    /// What becomes of its content when it is deleted. Kept, so that another wish under the same name is noticed.
    pub on_delete: OnDelete,
}

/// What a volume was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// In bytes; 0 where nobody said.
    pub capacity_bytes: u64,
}

/// See [`Request::RemoveVolume`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveVolume {
    /// The volume.
    pub volume: Volume,
    /// What becomes of its content.
    pub on_delete: OnDelete,
}

/// What becomes of a deleted volume's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDelete {
    /// It is removed.
    #[default]
    Delete,
    /// It stays where it is.
    Retain,
    /// It stays, under the name archived-NAME-SECONDS.
    Archive,
}

/// How a volume fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Space in bytes and inodes; none where the server does not answer.
    pub usage: Option<Usage>,
    /// What is wrong with it.
    pub trouble: Option<String>,
}

/// statfs(2) of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes.
    pub bytes: Amount,
    /// Inodes.
    pub inodes: Amount,
}

/// How much of something there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// In all.
    pub total: u64,
    /// In use.
    pub used: u64,
    /// To be had by unprivileged users.
    pub available: u64,
}
