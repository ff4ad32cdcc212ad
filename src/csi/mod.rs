//! The CSI plugin: gRPC in, the mount host's socket out.
//!
//! It says who may have what (the rules file, read anew at every call, and what the cluster tells of the pod), and keeps
//! nothing: it makes no mounts, and can be stopped and started at any moment. Each call is typed before anything is done:
//! [`context`] (volumeAttributes and parameters), [`capability`] (access modes, mount flags, fsGroup), [`volume_id`].
//!
//! The only room that names tonic and tokio.

pub mod capability;
pub mod context;
mod controller;
mod identity;
mod metrics;
pub mod mounter;
mod node;
mod renewal;
pub mod rulebook;
mod scrape;
pub mod server;
pub mod spec;
mod status;
pub mod volume_id;

pub use controller::ControllerService;
pub use identity::IdentityService;
pub use mounter::Mounter;
pub use node::NodeService;
pub use rulebook::Rulebook;
pub use scrape::ScrapeAddress;
pub use server::{Endpoint, Options, serve};

/// The name by which clusters know the driver.
pub const DRIVER_NAME: &str = "permfs.csi.io";
