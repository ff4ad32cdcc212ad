//! The plugin's process: its socket, its services, and a quiet end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::transport::server::Router;

use super::mounter::Mounter;
use super::scrape::{self, ScrapeAddress};
use super::spec::controller_server::ControllerServer;
use super::spec::identity_server::IdentityServer;
use super::spec::node_server::NodeServer;
use super::{ControllerService, IdentityService, NodeService, Rulebook, capability, renewal};
use crate::host::{self, Client};

/// The most calls that may block at once; more wait for their turn. More than a node has pods, as in the host.
const MAX_BLOCKING: usize = 512;
/// The most calls at once on one connection: kubelet has one.
const MAX_CALLS_PER_CONNECTION: usize = 512;
/// How long calls under way may take to end once the plugin is to stop. What they began goes on in the host.
const PARTING_PATIENCE: Duration = Duration::from_secs(10);
/// Sidecars need not be root: their group may be given the socket.
const SOCKET_MODE: u32 = 0o660;

/// What a plugin is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// What the cluster calls the node.
    pub node_id: String,
    /// The rules file.
    pub config: PathBuf,
    /// Where the mount host listens.
    pub host_socket: PathBuf,
    /// Whether to serve the Controller service.
    pub controller: bool,
    /// Whether to serve the Node service.
    pub node: bool,
    /// The SELinux context of volumes for which the cluster gives none.
    pub selinux_context: Option<String>,
    /// Where Prometheus may ask.
    pub metrics: Option<ScrapeAddress>,
}

/// `unix:///csi/csi.sock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(PathBuf);

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:"));
        match path.map(Path::new) {
            Some(path) if path.is_absolute() => Ok(Self(path.to_owned())),
            _ => Err(format!("\"{text}\" is no unix socket: write unix:///csi/csi.sock")),
        }
    }
}

/// Why there is no plugin.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The socket cannot be used.
    #[error("cannot listen at {}: {error}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another plugin is there.
    #[error("a plugin listens at {} already: end it first", .0.display())]
    Taken(PathBuf),
    /// The metrics' address cannot be used.
    #[error("cannot tell metrics at {address}: {error}")]
    Metrics {
        /// The address.
        address: ScrapeAddress,
        /// Why.
        error: io::Error,
    },
    /// An option is wrong.
    #[error("{0}")]
    Option(String),
    /// The runtime, or the transport.
    #[error("the plugin's server failed: {0}")]
    Server(String),
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// What stands in the way.
pub fn serve(options: Options) -> Result<(), PluginError> {
    let failed = |error: io::Error| PluginError::Server(error.to_string());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(MAX_BLOCKING)
        .enable_all()
        .build()
        .map_err(failed)?;
    let served = runtime.block_on(run(options));
    // A call that hangs is the host's to end.
    runtime.shutdown_background();
    served
}

async fn run(options: Options) -> Result<(), PluginError> {
    let Options { endpoint: Endpoint(path), node_id, config, host_socket, controller, node, .. } = options;
    let (selinux_context, metrics) = (options.selinux_context, options.metrics);
    let selinux_context = selinux_context.as_deref().map(capability::context).transpose();
    let selinux_context = selinux_context.map_err(|refusal| PluginError::Option(refusal.sentence))?;
    let failed = |error: io::Error| PluginError::Server(error.to_string());
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate()).map_err(failed)?, signal(SignalKind::interrupt()).map_err(failed)?);
    let (asked_to_stop, stop) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        let _ = asked_to_stop.send(true);
    });
    let until_stop = || {
        let mut stop = stop.clone();
        // An error: the sender is gone, and so is the plugin.
        async move { drop(stop.wait_for(|stop| *stop).await) }
    };
    let (host, rules) = (Client::new(host_socket), Rulebook::new(config.clone()));
    if let Some(address) = metrics {
        let told = scrape::answer(&address, rules.clone(), host.clone()).await;
        told.map_err(|error| PluginError::Metrics { address, error })?;
    }
    let listener = listen(&path)?;
    if node {
        renewal::follow(config, host.clone()).map_err(failed)?;
    }
    let mounter = Arc::new(host);
    let services = Services { controller, node: node.then_some((node_id, selinux_context)) };
    tracing::info!(socket = %path.display(), controller, node, "the CSI plugin serves");
    let until_left = async {
        until_stop().await;
        // While this plugin still answers: then nobody else has taken the place, and what stands there is its own.
        let _ = fs::remove_file(&path);
    };
    let serving = router(mounter, rules, services)
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), until_left);
    let parting = async {
        until_stop().await;
        tokio::time::sleep(PARTING_PATIENCE).await;
    };
    let outcome = tokio::select! {
        outcome = serving => outcome.map_err(|error| PluginError::Server(error.to_string())),
        () = parting => Ok(()),
    };
    tracing::info!("the CSI plugin ends; the mounts stay");
    outcome
}

/// Which services there are beside Identity.
#[derive(Debug, Clone)]
pub struct Services {
    /// Whether Controller is.
    pub controller: bool,
    /// The node's id, and its SELinux context, where Node is.
    pub node: Option<(String, Option<String>)>,
}

/// All services of a plugin.
pub fn router<M: Mounter>(mounter: Arc<M>, rules: Rulebook, services: Services) -> Router {
    let identity = IdentityService::new(Arc::clone(&mounter), rules.clone(), services.controller);
    let controller = services.controller.then(|| ControllerService::new(Arc::clone(&mounter), rules.clone()));
    let node = services
        .node
        .map(|(node_id, selinux_context)| NodeService::new(mounter, rules, node_id, selinux_context));
    Server::builder()
        .concurrency_limit_per_connection(MAX_CALLS_PER_CONNECTION)
        .add_service(IdentityServer::new(identity))
        .add_optional_service(controller.map(ControllerServer::new))
        .add_optional_service(node.map(NodeServer::new))
}

/// Takes the socket's place, where nobody answers behind it.
fn listen(path: &Path) -> Result<UnixListener, PluginError> {
    let failed = |error| PluginError::Socket { path: path.to_owned(), error };
    let listener = host::listen(path, SOCKET_MODE).map_err(failed)?;
    let listener = listener.ok_or_else(|| PluginError::Taken(path.to_owned()))?;
    listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_unix_socket_with_an_absolute_path() {
        for good in ["unix:///csi/csi.sock", "unix:/csi/csi.sock"] {
            assert_eq!(good.parse(), Ok(Endpoint("/csi/csi.sock".into())));
        }
        for bad in ["/csi/csi.sock", "tcp://0.0.0.0:1", "unix://csi.sock", ""] {
            assert!(bad.parse::<Endpoint>().unwrap_err().contains("unix:///csi/csi.sock"));
        }
    }
}
