//! What a chown means under a policy.

use super::{NfsGid, NfsUid};

/// What to do with a chown, decided before the backing is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChownOutcome {
    /// Hand it to the backing. Where the backing then refuses with EPERM or EACCES and `absorb` is set, the request
    /// named what is already shown: it succeeds without effect.
    Pass {
        /// New owner, if one was named.
        uid: Option<NfsUid>,
        /// New group, if one was named.
        gid: Option<NfsGid>,
        /// A refusal by the backing counts as done.
        absorb: bool,
    },
    /// Succeed without a call.
    Nothing,
}
