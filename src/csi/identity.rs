//! Who the plugin is, and whether it is ready.

use std::sync::Arc;
use std::sync::Mutex;

use tonic::{Request, Response, Status};

use super::DRIVER_NAME;
use super::mounter::Mounter;
use super::rulebook::Rulebook;
use super::spec::identity_server::Identity;
use super::spec::plugin_capability::{Service, Type, VolumeExpansion, service, volume_expansion};
use super::spec::{
    GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse, GetPluginInfoRequest, GetPluginInfoResponse,
    PluginCapability, ProbeRequest, ProbeResponse,
};
use super::status::answer;

/// The Identity service.
#[derive(Debug)]
pub struct IdentityService<M> {
    mounter: Arc<M>,
    rules: Rulebook,
    controller: bool,
    /// What stood in the way last time, so that it is logged once and not at every probe.
    trouble: Arc<Mutex<Option<String>>>,
}

impl<M: Mounter> IdentityService<M> {
    /// The service of a plugin that serves the Controller service as well, or not.
    pub fn new(mounter: Arc<M>, rules: Rulebook, controller: bool) -> Self {
        Self { mounter, rules, controller, trouble: Arc::default() }
    }
}

#[tonic::async_trait]
impl<M: Mounter> Identity for IdentityService<M> {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        Ok(Response::new(GetPluginInfoResponse {
            name: DRIVER_NAME.to_owned(),
            vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        let controller = Type::Service(Service { r#type: service::Type::ControllerService.into() });
        let online = VolumeExpansion { r#type: volume_expansion::Type::Online.into() };
        let mut types = Vec::new();
        if self.controller {
            types.push(controller);
            types.push(Type::VolumeExpansion(online));
        }
        let capabilities = types.into_iter().map(|kind| PluginCapability { r#type: Some(kind) }).collect();
        Ok(Response::new(GetPluginCapabilitiesResponse { capabilities }))
    }

    /// Ready where the rules can be used and the host can mount.
    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        let (mounter, rules) = (Arc::clone(&self.mounter), self.rules.clone());
        let trouble = Arc::clone(&self.trouble);
        answer("Probe", "", move || {
            let found = rules.check().and_then(|()| mounter.ready()).err().map(|refusal| refusal.sentence);
            let mut known = trouble.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if *known != found {
                match &found {
                    Some(sentence) => tracing::error!(reason = sentence, "not ready"),
                    None => tracing::info!("ready"),
                }
                known.clone_from(&found);
            }
            Ok(ProbeResponse { ready: Some(found.is_none()) })
        })
        .await
    }
}
