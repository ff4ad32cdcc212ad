//! The Node service: each call typed, allowed by the rules, and handed to whoever mounts.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::capability::Access;
use super::context::VolumeContext;
use super::mounter::Mounter;
use super::rulebook::{Purpose, Rulebook};
use super::spec::node_server::Node;
use super::spec::node_service_capability::{Rpc, Type, rpc};
use super::spec::volume_usage::Unit;
use super::spec::*;
use super::status::{answer, invalid, required};
use crate::host::protocol::{Amount, Order, Publish, Refusal, Share, Stage, Stats};
use crate::host::{Code, InFlight};

/// What it can do.
const CAPABILITIES: [rpc::Type; 5] = [
    rpc::Type::StageUnstageVolume,
    rpc::Type::GetVolumeStats,
    rpc::Type::VolumeCondition,
    rpc::Type::SingleNodeMultiWriter,
    rpc::Type::VolumeMountGroup,
];

/// The Node service.
#[derive(Debug)]
pub struct NodeService<M> {
    mounter: Arc<M>,
    rules: Rulebook,
    node_id: String,
    /// Where the cluster gives no SELinux context, this one.
    selinux_context: Option<String>,
    calls: InFlight,
}

impl<M: Mounter> NodeService<M> {
    /// The service of the node that the cluster calls `node_id`.
    pub fn new(mounter: Arc<M>, rules: Rulebook, node_id: String, selinux_context: Option<String>) -> Self {
        Self { mounter, rules, node_id, selinux_context, calls: InFlight::default() }
    }

    /// What a call to stage comes to; none for a path, which is mounted already.
    fn staged(&self, request: &NodeStageVolumeRequest) -> Result<Option<Stage>, Refusal> {
        required("volume_id", &request.volume_id)?;
        let staging = absolute("staging_target_path", &request.staging_target_path)?;
        let access = Access::read(request.volume_capability.as_ref())?;
        let context = VolumeContext::of_attributes(&request.volume_context)?;
        let share = with_options(&context, &access)?;
        self.rules.read()?.admit(&context, Purpose::Cluster)?;
        Ok(match share {
            Share::Nfs { export, options } => Some(Stage { staging, export, options }),
            Share::Path(_) => None,
        })
    }

    /// What a call to publish comes to.
    fn ordered(&self, request: NodePublishVolumeRequest) -> Result<Publish, Refusal> {
        required("volume_id", &request.volume_id)?;
        let target = absolute("target_path", &request.target_path)?;
        let access = Access::read(request.volume_capability.as_ref())?;
        let context = VolumeContext::of_attributes(&request.volume_context)?;
        let share = with_options(&context, &access)?;
        let staging = match request.staging_target_path.as_str() {
            _ if context.ephemeral => None,
            "" => {
                let sentence = "staging_target_path is missing: the volume was not staged";
                return Err(Refusal::new(Code::FailedPrecondition, sentence));
            }
            path => Some(absolute("staging_target_path", path)?),
        };
        let rules = self.rules.read()?.admit(&context, Purpose::Pod)?;
        let order = Order {
            volume_id: request.volume_id,
            target,
            staging,
            share,
            directory: context.sub_dir,
            choice: context.choice,
            fs_group: access.fs_group,
            read_only: request.readonly || access.read_only,
            no_exec: access.no_exec,
            context: access.context.or_else(|| self.selinux_context.clone()),
            alone: access.alone,
        };
        Ok(Publish { order, rules })
    }
}

#[tonic::async_trait]
impl<M: Mounter> Node for NodeService<M> {
    async fn node_stage_volume(
        &self,
        request: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        let request = request.into_inner();
        let volume = request.volume_id.clone();
        let outcome = self
            .staged(&request)
            .and_then(|stage| Ok((stage, self.calls.enter(request.staging_target_path)?)));
        let mounter = Arc::clone(&self.mounter);
        answer("NodeStageVolume", &volume, move || {
            let (stage, _turn) = outcome?;
            stage.map_or(Ok(()), |stage| mounter.stage(stage))?;
            Ok(NodeStageVolumeResponse {})
        })
        .await
    }

    async fn node_unstage_volume(
        &self,
        request: Request<NodeUnstageVolumeRequest>,
    ) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        let NodeUnstageVolumeRequest { volume_id, staging_target_path } = request.into_inner();
        let outcome = required("volume_id", &volume_id)
            .and_then(|_| absolute("staging_target_path", &staging_target_path))
            .and_then(|staging| Ok((staging, self.calls.enter(staging_target_path)?)));
        let mounter = Arc::clone(&self.mounter);
        answer("NodeUnstageVolume", &volume_id, move || {
            let (staging, _turn) = outcome?;
            mounter.unstage(staging)?;
            Ok(NodeUnstageVolumeResponse {})
        })
        .await
    }

    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let request = request.into_inner();
        let (volume, target) = (request.volume_id.clone(), request.target_path.clone());
        let outcome = self.ordered(request).and_then(|publish| Ok((publish, self.calls.enter(target)?)));
        let mounter = Arc::clone(&self.mounter);
        answer("NodePublishVolume", &volume, move || {
            let (publish, _turn) = outcome?;
            mounter.publish(publish)?;
            Ok(NodePublishVolumeResponse {})
        })
        .await
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let NodeUnpublishVolumeRequest { volume_id, target_path } = request.into_inner();
        let outcome = required("volume_id", &volume_id)
            .and_then(|_| absolute("target_path", &target_path))
            .and_then(|target| Ok((target, self.calls.enter(target_path)?)));
        let mounter = Arc::clone(&self.mounter);
        answer("NodeUnpublishVolume", &volume_id, move || {
            let (target, _turn) = outcome?;
            mounter.unpublish(target)?;
            Ok(NodeUnpublishVolumeResponse {})
        })
        .await
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<NodeGetVolumeStatsRequest>,
    ) -> Result<Response<NodeGetVolumeStatsResponse>, Status> {
        let NodeGetVolumeStatsRequest { volume_id, volume_path, .. } = request.into_inner();
        let outcome = required("volume_id", &volume_id)
            .and_then(|_| required("volume_path", &volume_path))
            .map(PathBuf::from);
        let (mounter, volume) = (Arc::clone(&self.mounter), volume_id.clone());
        answer("NodeGetVolumeStats", &volume, move || Ok(told(mounter.stats(volume_id, outcome?)?))).await
    }

    /// A directory of an export has no size of its own: there is nothing to grow.
    async fn node_expand_volume(
        &self,
        request: Request<NodeExpandVolumeRequest>,
    ) -> Result<Response<NodeExpandVolumeResponse>, Status> {
        let NodeExpandVolumeRequest { volume_id, volume_path, capacity_range } = request.into_inner();
        let outcome = required("volume_id", &volume_id)
            .and_then(|_| required("volume_path", &volume_path))
            .map(PathBuf::from);
        let (mounter, volume) = (Arc::clone(&self.mounter), volume_id.clone());
        answer("NodeExpandVolume", &volume, move || {
            // NOT_FOUND where it is not published.
            mounter.stats(volume_id, outcome?)?;
            let capacity_bytes = capacity_range.map_or(0, |range| range.required_bytes);
            Ok(NodeExpandVolumeResponse { capacity_bytes })
        })
        .await
    }

    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let capability =
            |kind: rpc::Type| NodeServiceCapability { r#type: Some(Type::Rpc(Rpc { r#type: kind.into() })) };
        let capabilities = CAPABILITIES.map(capability).to_vec();
        Ok(Response::new(NodeGetCapabilitiesResponse { capabilities }))
    }

    async fn node_get_info(
        &self,
        _: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        // No limit: the host's own is far above what a node's pods ask for.
        Ok(Response::new(NodeGetInfoResponse { node_id: self.node_id.clone(), max_volumes_per_node: 0 }))
    }
}

/// The share with the mount flags that are NFS's.
pub(super) fn with_options(context: &VolumeContext, access: &Access) -> Result<Share, Refusal> {
    match context.share.clone() {
        Share::Nfs { export, mut options } => {
            options.extend(access.nfs_options.iter().cloned());
            Ok(Share::Nfs { export, options })
        }
        path @ Share::Path(_) if access.nfs_options.is_empty() => Ok(path),
        Share::Path(_) => {
            let flags = access.nfs_options.iter().filter_map(|flag| flag.split('=').next());
            let flags = flags.collect::<Vec<_>>().join(", ");
            Err(invalid(format!("the mount flags {flags} mean nothing for a volume with path")))
        }
    }
}

fn absolute(name: &str, path: &str) -> Result<PathBuf, Refusal> {
    required(name, path)?;
    let plain =
        |path: &Path| path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let given = Path::new(path);
    if !given.is_absolute() || !plain(given) || path.contains('\0') {
        return Err(invalid(format!("{name} \"{}\" is no absolute path", path.escape_debug())));
    }
    Ok(given.components().collect())
}

fn told(stats: Stats) -> NodeGetVolumeStatsResponse {
    let amount = |amount: Amount, unit: Unit| VolumeUsage {
        available: signed(amount.available),
        total: signed(amount.total),
        used: signed(amount.used),
        unit: unit.into(),
    };
    let usage = stats
        .usage
        .map(|usage| vec![amount(usage.bytes, Unit::Bytes), amount(usage.inodes, Unit::Inodes)])
        .unwrap_or_default();
    let abnormal = stats.trouble.is_some();
    let message = stats.trouble.unwrap_or_else(|| "the volume is served".to_owned());
    NodeGetVolumeStatsResponse { usage, volume_condition: Some(VolumeCondition { abnormal, message }) }
}

/// Some servers tell sizes that no signed number holds.
fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}
