//! A path as JSON has it: bytes that are no text are shown as U+FFFD, where serde refuses the whole path.

use std::path::Path;

use serde::Serializer;

/// For `#[serde(serialize_with)]`.
pub(super) fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}
