//! The model from outside of permfs: how it is made, and as an administrator at the server sees it.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Arc, Mutex};

use super::state::{self, Object, State, guard};
use super::{ModelBacking, ROOT};
use crate::backing::{BackingFeatures, Errno};
use crate::policy::{Credentials, FileKind, NfsGid, NfsUid, Permissions, StoredAttr, Timestamp};

/// An export that is asked for nothing that it need not be.
const FEATURES: BackingFeatures =
    BackingFeatures { nfs: true, local: false, asks_after_changes: false, posix_acl: false, handles: true };

impl Default for ModelBacking {
    /// An export whose root belongs to 2001:2001, mode 755.
    fn default() -> Self {
        let uid = NfsUid::new(2001).expect("a valid id");
        let gid = NfsGid::new(2001).expect("a valid id");
        Self::owned_by(uid, gid, Permissions::from_mode(0o755))
    }
}

impl ModelBacking {
    /// An export with this root.
    #[must_use]
    pub fn owned_by(uid: NfsUid, gid: NfsGid, permissions: Permissions) -> Self {
        let attr = state::new_attr(ROOT, FileKind::Directory, permissions, uid, gid);
        let objects = HashMap::from([(ROOT, Object::new(attr, ROOT))]);
        let state = State {
            objects,
            next: ROOT + 1,
            free: Vec::new(),
            next_open: 1,
            log: Vec::new(),
            now: Timestamp::default(),
            squashed: None,
            asked: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), features: FEATURES }
    }

    /// The same, of a kind for which permfs asks for as little as it does of NFSv4.
    #[must_use]
    pub fn that_asks_after_changes(self) -> Self {
        Self { features: BackingFeatures { asks_after_changes: true, ..self.features }, ..self }
    }

    /// The same, where everybody is taken for this one (`all_squash`, exports(5)).
    #[must_use]
    pub fn that_takes_all_for(self, one: Credentials) -> Self {
        guard(&self.state).squashed = Some(one);
        self
    }

    /// Sets its clock.
    pub fn set_clock(&self, now: Timestamp) {
        guard(&self.state).now = now;
    }

    /// Takes the calls made with credentials so far, oldest first.
    #[must_use]
    pub fn take_log(&self) -> Vec<(&'static str, Credentials)> {
        std::mem::take(&mut guard(&self.state).log)
    }

    /// Attributes by path, as an admin at the server would see them.
    ///
    /// # Errors
    /// ENOENT.
    pub fn at(&self, path: &str) -> Result<StoredAttr, Errno> {
        let state = guard(&self.state);
        let mut ino = ROOT;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let name = CString::new(part).map_err(|_| Errno::EINVAL)?;
            ino = *state.object(ino)?.names.get(&name).ok_or(Errno::ENOENT)?;
        }
        Ok(state.object(ino)?.attr)
    }

    /// How often attributes were asked for that this node did not know already, so far.
    #[must_use]
    pub fn asked(&self) -> u64 {
        guard(&self.state).asked
    }
}
