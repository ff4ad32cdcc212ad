//! The Controller service: a volume is a directory of a share, made and removed as those whom the rules let.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::capability::Access;
use super::context::VolumeContext;
use super::mounter::Mounter;
use super::node::with_options;
use super::rulebook::{Edition, Purpose, Rulebook};
use super::spec::controller_server::Controller;
use super::spec::controller_service_capability::{Rpc, Type, rpc};
use super::spec::validate_volume_capabilities_response::Confirmed;
use super::spec::volume_content_source::Type as Source;
use super::spec::*;
use super::status::{answer, invalid, required};
use super::volume_id::{VolumeId, directory_name};
use crate::host::protocol::{MakeVolume, OnDelete, Refusal, RemoveVolume, Share};
use crate::host::{Code, InFlight, SubPath};

/// What it can do.
const CAPABILITIES: [rpc::Type; 4] = [
    rpc::Type::CreateDeleteVolume,
    rpc::Type::CloneVolume,
    rpc::Type::ExpandVolume,
    rpc::Type::SingleNodeMultiWriter,
];

/// The Controller service.
#[derive(Debug)]
pub struct ControllerService<M> {
    mounter: Arc<M>,
    rules: Rulebook,
    calls: InFlight,
}

/// A volume that is to be made, and what is answered then.
struct Plan {
    make: MakeVolume,
    volume: Volume,
}

impl<M: Mounter> ControllerService<M> {
    /// The service.
    pub fn new(mounter: Arc<M>, rules: Rulebook) -> Self {
        Self { mounter, rules, calls: InFlight::default() }
    }

    fn plan(&self, request: CreateVolumeRequest) -> Result<Plan, Refusal> {
        required("name", &request.name)?;
        if request.volume_capabilities.is_empty() {
            return Err(invalid("volume_capabilities are missing"));
        }
        if !request.mutable_parameters.is_empty() {
            return Err(invalid("permfs volumes have no mutable parameters"));
        }
        let accesses = request.volume_capabilities.iter().map(|capability| Access::read(Some(capability)));
        let accesses = accesses.collect::<Result<Vec<_>, _>>()?;
        let (required_bytes, limit_bytes) = range(request.capacity_range.as_ref())?;
        let context = VolumeContext::of_parameters(&request.parameters)?;
        let share =
            accesses.first().map_or(Ok(context.share.clone()), |access| with_options(&context, access))?;
        let rules = self.rules.read()?.admit(&context, Purpose::Cluster)?;
        let id = VolumeId {
            share,
            parent: context.sub_dir.clone(),
            name: directory_name(&request.name),
            on_delete: context.on_delete,
            choice: context.choice.clone(),
        };
        let source = request.volume_content_source;
        let copy_of = source.as_ref().map(|source| content(source, &id.share)).transpose()?;
        let volume = Volume {
            capacity_bytes: 0,
            volume_id: id.to_string(),
            volume_context: context.attributes_of(&directory(&id)?),
            content_source: source,
        };
        let on_delete = id.on_delete;
        let make =
            MakeVolume { volume: found_by(id, rules), required_bytes, limit_bytes, copy_of, on_delete };
        Ok(Plan { make, volume })
    }

    /// A volume that permfs made; none where the id is not of one.
    fn known(&self, volume_id: &str) -> Result<Option<(crate::host::protocol::Volume, OnDelete)>, Refusal> {
        required("volume_id", volume_id)?;
        let Ok(id) = volume_id.parse::<VolumeId>() else { return Ok(None) };
        let rules = self.rules.read()?;
        let on_delete = id.on_delete;
        Ok(Some((found_by(id.clone(), allowed(&rules, &id)?), on_delete)))
    }
}

#[tonic::async_trait]
impl<M: Mounter> Controller for ControllerService<M> {
    async fn create_volume(
        &self,
        request: Request<CreateVolumeRequest>,
    ) -> Result<Response<CreateVolumeResponse>, Status> {
        let request = request.into_inner();
        let name = request.name.clone();
        let outcome =
            self.plan(request).and_then(|plan| Ok((self.calls.enter(plan.volume.volume_id.clone())?, plan)));
        let mounter = Arc::clone(&self.mounter);
        answer("CreateVolume", &name, move || {
            let (_turn, Plan { make, volume }) = outcome?;
            let made = mounter.make_volume(make)?;
            let capacity_bytes = i64::try_from(made.capacity_bytes).unwrap_or(0);
            Ok(CreateVolumeResponse { volume: Some(Volume { capacity_bytes, ..volume }) })
        })
        .await
    }

    async fn delete_volume(
        &self,
        request: Request<DeleteVolumeRequest>,
    ) -> Result<Response<DeleteVolumeResponse>, Status> {
        let DeleteVolumeRequest { volume_id } = request.into_inner();
        let outcome =
            self.known(&volume_id).and_then(|known| Ok((self.calls.enter(volume_id.clone())?, known)));
        let mounter = Arc::clone(&self.mounter);
        answer("DeleteVolume", &volume_id, move || {
            let (_turn, known) = outcome?;
            // What permfs did not make is not there.
            if let Some((volume, on_delete)) = known {
                mounter.remove_volume(RemoveVolume { volume, on_delete })?;
            }
            Ok(DeleteVolumeResponse {})
        })
        .await
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<ValidateVolumeCapabilitiesResponse>, Status> {
        let request = request.into_inner();
        let volume_id = request.volume_id.clone();
        let outcome = self.known(&volume_id);
        let mounter = Arc::clone(&self.mounter);
        answer("ValidateVolumeCapabilities", &volume_id, move || {
            let known = outcome?;
            if request.volume_capabilities.is_empty() {
                return Err(invalid("volume_capabilities are missing"));
            }
            let Some((volume, _)) = known else {
                return Err(Refusal::new(Code::NotFound, "there is no such volume"));
            };
            mounter.find_volume(volume)?;
            let unusable = request
                .volume_capabilities
                .iter()
                .find_map(|capability| Access::read(Some(capability)).err());
            Ok(match unusable {
                Some(refusal) => {
                    ValidateVolumeCapabilitiesResponse { confirmed: None, message: refusal.sentence }
                }
                None => ValidateVolumeCapabilitiesResponse {
                    confirmed: Some(Confirmed {
                        volume_context: request.volume_context,
                        volume_capabilities: request.volume_capabilities,
                        parameters: request.parameters,
                    }),
                    message: String::new(),
                },
            })
        })
        .await
    }

    async fn controller_get_capabilities(
        &self,
        _: Request<ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<ControllerGetCapabilitiesResponse>, Status> {
        let capability = |kind: rpc::Type| ControllerServiceCapability {
            r#type: Some(Type::Rpc(Rpc { r#type: kind.into() })),
        };
        let capabilities = CAPABILITIES.map(capability).to_vec();
        Ok(Response::new(ControllerGetCapabilitiesResponse { capabilities }))
    }

    /// A directory of an export has no size of its own: it is as large as was asked for, and the log says so. Of a volume that
    /// permfs made it is known whether it is there.
    async fn controller_expand_volume(
        &self,
        request: Request<ControllerExpandVolumeRequest>,
    ) -> Result<Response<ControllerExpandVolumeResponse>, Status> {
        let ControllerExpandVolumeRequest { volume_id, capacity_range } = request.into_inner();
        let volume = volume_id.clone();
        let outcome = self.known(&volume_id);
        let mounter = Arc::clone(&self.mounter);
        answer("ControllerExpandVolume", &volume, move || {
            let known = outcome?;
            if capacity_range.is_none() {
                return Err(invalid("capacity_range is missing"));
            }
            let (required, limit) = range(capacity_range.as_ref())?;
            if let Some((volume, _)) = known {
                mounter.find_volume(volume)?;
            }
            let capacity = if required > 0 { required } else { limit };
            tracing::info!(
                volume = volume_id,
                capacity,
                "the export's own space is the limit; nothing was expanded"
            );
            let capacity_bytes = i64::try_from(capacity).unwrap_or(i64::MAX);
            Ok(ControllerExpandVolumeResponse { capacity_bytes, node_expansion_required: false })
        })
        .await
    }
}

fn found_by(id: VolumeId, rules: crate::host::protocol::Rules) -> crate::host::protocol::Volume {
    let VolumeId { share, parent, name, choice, .. } = id;
    crate::host::protocol::Volume { share, parent, name, choice, rules }
}

/// The rules, where they still allow a volume that was made under them.
fn allowed(rules: &Edition, id: &VolumeId) -> Result<crate::host::protocol::Rules, Refusal> {
    let context = VolumeContext {
        share: id.share.clone(),
        sub_dir: id.parent.clone(),
        choice: id.choice.clone(),
        on_delete: id.on_delete,
        pod_namespace: None,
        claim_namespace: None,
        ephemeral: false,
    };
    rules.admit(&context, Purpose::Cluster)
}

fn directory(id: &VolumeId) -> Result<SubPath, Refusal> {
    id.parent.join(&id.name).map_err(|bad| invalid(format!("subDir: {bad}")))
}

/// The directory to copy: of the same share, since that is what is at hand.
fn content(source: &VolumeContentSource, share: &Share) -> Result<SubPath, Refusal> {
    let volume_id = match &source.r#type {
        Some(Source::Volume(volume)) => &volume.volume_id,
        Some(Source::Snapshot(_)) => return Err(invalid("permfs has no snapshots: copy a volume instead")),
        None => return Err(invalid("volume_content_source names neither a volume nor a snapshot")),
    };
    let Ok(id) = volume_id.parse::<VolumeId>() else {
        let sentence = "the volume to copy is none that permfs made";
        return Err(Refusal::new(Code::NotFound, sentence));
    };
    let same = match (&id.share, share) {
        (Share::Nfs { export: one, .. }, Share::Nfs { export: other, .. }) => one == other,
        (one, other) => one == other,
    };
    if !same {
        return Err(invalid("a volume is copied within its own server and share only"));
    }
    directory(&id)
}

/// Bytes: the least and the most, 0 for any.
fn range(range: Option<&CapacityRange>) -> Result<(u64, u64), Refusal> {
    let Some(&CapacityRange { required_bytes, limit_bytes }) = range else { return Ok((0, 0)) };
    match (u64::try_from(required_bytes), u64::try_from(limit_bytes)) {
        (Ok(required), Ok(limit)) if limit == 0 || required <= limit => Ok((required, limit)),
        _ => Err(invalid(format!("capacity_range from {required_bytes} to {limit_bytes} bytes is none"))),
    }
}
