//! The workspaces' network, and the address at which they reach this machine.

use std::net::IpAddr;

use bollard::models::NetworkCreateRequest;
use bollard::query_parameters::InspectNetworkOptions;
use covalence_actors::effect::BackendError;

use super::engine::{Host, mutate, observe};
use super::errors::{Class, Failure};
use super::{DockerBackend, names};

/// The engine's default bridge: `host.docker.internal` of every container resolves to its gateway.
const DEFAULT_BRIDGE: &str = "bridge";

impl DockerBackend {
    /// The address of this machine that containers know as `host.docker.internal`; none where the engine runs elsewhere
    /// or has no default bridge, in which case the operator says how workspaces reach the platform.
    ///
    /// # Errors
    /// The engine did not say.
    pub async fn bridge_gateway(&self) -> Result<Option<IpAddr>, BackendError> {
        if !matches!(self.engine.host()?, Host::Unix(_)) {
            return Ok(None);
        }
        let docker = self.engine.client()?;
        let call = docker.inspect_network(DEFAULT_BRIDGE, None::<InspectNetworkOptions>);
        let network = match observe("look at the engine's bridge", call).await {
            Ok(network) => network,
            Err(failure) if failure.class == Class::NoSuchThing => return Ok(None),
            Err(failure) => return Err(failure.into()),
        };
        let configs = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
        Ok(configs.into_iter().find_map(|config| config.gateway?.parse().ok()))
    }

    /// Creates the workspaces' network if it is missing.
    pub(super) async fn ensure_network(&self) -> Result<(), Failure> {
        let docker = self.engine.client()?;
        let name = self.config.network.as_str();
        let call = docker.inspect_network(name, None::<InspectNetworkOptions>);
        match observe("look for the network", call).await {
            Ok(_) => return Ok(()),
            Err(failure) if failure.class == Class::NoSuchThing => {}
            Err(failure) => return Err(failure),
        }
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            labels: Some([(names::LABEL_MANAGED.to_owned(), "true".to_owned())].into()),
            ..NetworkCreateRequest::default()
        };
        match mutate("create the network", docker.create_network(request)).await {
            // Another platform on this engine, or another start of ours, was quicker.
            Err(failure) if failure.class != Class::Conflict => Err(failure),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}
