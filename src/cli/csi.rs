//! `permfs csi`: the CSI plugin.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::Outcome;
use super::failure::Failure;
use crate::csi::{Endpoint, Options, ScrapeAddress, serve};

/// Serve Kubernetes as a CSI plugin; the mounts are the mount host's.
#[derive(Debug, Args)]
pub(super) struct Csi {
    /// Where to listen: unix:///csi/csi.sock.
    #[arg(long, value_name = "SOCKET")]
    endpoint: Endpoint,
    /// What the cluster calls this node.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    node_id: String,
    /// The rules file; read anew at every call.
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// Where the mount host listens (`permfs host --socket`).
    #[arg(long, value_name = "PATH")]
    host_socket: PathBuf,
    /// Serve the controller's calls; both without this and --node.
    #[arg(long)]
    controller: bool,
    /// Serve the node's calls.
    #[arg(long)]
    node: bool,
    /// The SELinux context of volumes for which Kubernetes gives none.
    #[arg(long, value_name = "CONTEXT")]
    selinux_context: Option<String>,
    /// Tell Prometheus of the node's volumes at http://ADDRESS/metrics; `:9810` is every address.
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<ScrapeAddress>,
}

impl Csi {
    pub(super) fn run(self) -> Outcome {
        let Self { endpoint, node_id, config, host_socket, controller, node, selinux_context, metrics } =
            self;
        let both = !controller && !node;
        let (controller, node) = (controller || both, node || both);
        let options =
            Options { endpoint, node_id, config, host_socket, controller, node, selinux_context, metrics };
        serve(options).map_err(|error| Failure::failed(error.to_string()))?;
        Ok(ExitCode::SUCCESS)
    }
}
