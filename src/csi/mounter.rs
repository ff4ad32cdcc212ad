//! The seam between what is decided and what is done: the mount host, or a test's stand-in.
//!
//! Calls block; they are made on threads that may (tokio's blocking pool), never on the runtime's own.

use std::path::PathBuf;

use crate::host::Client;
use crate::host::protocol::{Made, MakeVolume, Publish, Refusal, RemoveVolume, Stage, Stats, Volume};

/// Who does it.
pub trait Mounter: Send + Sync + 'static {
    /// Whether it can mount.
    fn ready(&self) -> Result<(), Refusal>;
    /// Mounts an export.
    fn stage(&self, stage: Stage) -> Result<(), Refusal>;
    /// Undoes it.
    fn unstage(&self, staging: PathBuf) -> Result<(), Refusal>;
    /// Shows a volume.
    fn publish(&self, publish: Publish) -> Result<(), Refusal>;
    /// Undoes it.
    fn unpublish(&self, target: PathBuf) -> Result<(), Refusal>;
    /// How a volume fares.
    fn stats(&self, volume_id: String, path: PathBuf) -> Result<Stats, Refusal>;
    /// Makes a volume.
    fn make_volume(&self, make: MakeVolume) -> Result<Made, Refusal>;
    /// Removes a volume.
    fn remove_volume(&self, remove: RemoveVolume) -> Result<(), Refusal>;
    /// What a volume was made with; NOT_FOUND where it is not.
    fn find_volume(&self, volume: Volume) -> Result<Made, Refusal>;
}

impl Mounter for Client {
    fn ready(&self) -> Result<(), Refusal> {
        self.ready()
    }
    fn stage(&self, stage: Stage) -> Result<(), Refusal> {
        self.stage(stage)
    }
    fn unstage(&self, staging: PathBuf) -> Result<(), Refusal> {
        self.unstage(staging)
    }
    fn publish(&self, publish: Publish) -> Result<(), Refusal> {
        self.publish(publish)
    }
    fn unpublish(&self, target: PathBuf) -> Result<(), Refusal> {
        self.unpublish(target)
    }
    fn stats(&self, volume_id: String, path: PathBuf) -> Result<Stats, Refusal> {
        self.stats(volume_id, path)
    }
    fn make_volume(&self, make: MakeVolume) -> Result<Made, Refusal> {
        self.make_volume(make)
    }
    fn remove_volume(&self, remove: RemoveVolume) -> Result<(), Refusal> {
        self.remove_volume(remove)
    }
    fn find_volume(&self, volume: Volume) -> Result<Made, Refusal> {
        self.find_volume(volume)
    }
}
