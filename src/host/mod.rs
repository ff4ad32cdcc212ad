//! The mount host: the process on a node that mounts for the CSI plugin, so that the plugin may come and go.
//!
//! It stages exports, starts one daemon process per published volume (`permfs mount` of its own binary), and takes them
//! down again; it makes and removes volumes on exports, under the credentials that the rules give. What is mounted is said
//! by the kernel's mount table, who serves it by the daemons themselves (`mount/`), and what was asked for by the
//! [`ledger`]: a host that is started again finds all of it.
//!
//! The plugin reaches it by a socket ([`protocol`], [`client`]). The host decides nothing about who may have what: that is
//! the plugin's (`csi/`), which sends the rules along. Every call ends: whatever touches an export runs on a thread that can
//! be left behind.

pub mod client;
mod crew;
mod daemon;
mod hands;
pub mod in_flight;
mod ledger;
mod notice;
mod orphans;
pub mod protocol;
mod publish;
mod renew;
pub mod server;
mod share;
mod socket;
mod stage;
mod stats;
pub mod sub_path;
mod succession;
mod survey;
mod unpublish;
mod volumes;
mod walk;
mod wire;

pub use client::Client;
pub use in_flight::InFlight;
pub use notice::is_settled;
pub use protocol::{Code, Refusal};
pub use socket::listen;
pub use sub_path::SubPath;
