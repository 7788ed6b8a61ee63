//! The workspaces' network, and the address at which they reach this machine.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use bollard::models::NetworkCreateRequest;
use bollard::query_parameters::{InspectNetworkOptions, ListNetworksOptionsBuilder};
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
        // An engine that never had a container on its bridge names the subnet and no gateway.
        Ok(configs.into_iter().find_map(|config| {
            let named = config.gateway.and_then(|gateway| gateway.parse().ok());
            named.or_else(|| own_address_in(&config.subnet?).map(IpAddr::V4))
        }))
    }

    /// The id of the workspaces' network, which is created if it is missing.
    ///
    /// The engine lets two of one name exist, and refuses the name from then on. So the id is used everywhere, the oldest
    /// counts, and who made a younger one beside it takes that away again.
    pub(super) async fn ensure_network(&self) -> Result<String, Failure> {
        // First starts come side by side; each would make one, and while there are two the engine refuses the name.
        let _alone = self.network.lock().await;
        if let Some(id) = self.oldest_network().await? {
            return Ok(id);
        }
        let docker = self.engine.client()?;
        let request = NetworkCreateRequest {
            name: self.config.network.clone(),
            labels: Some([(names::LABEL_MANAGED.to_owned(), "true".to_owned())].into()),
            ..NetworkCreateRequest::default()
        };
        let what = "create the network";
        let created = match mutate(what, docker.create_network(request)).await {
            Ok(created) => Some(created.id),
            // It may be there all the same: newer engines refuse a second one, and an answer can be lost.
            Err(failure) if matches!(failure.class, Class::Conflict | Class::Unknown) => None,
            Err(failure) => return Err(failure),
        };
        let oldest = self.oldest_network().await?.ok_or_else(|| Failure::garbage(what, "it is not there"))?;
        if let Some(ours) = created.filter(|ours| *ours != oldest) {
            mutate("remove the second network", docker.remove_network(&ours)).await?;
        }
        Ok(oldest)
    }

    async fn oldest_network(&self) -> Result<Option<String>, Failure> {
        let name = self.config.network.as_str();
        let filters = HashMap::from([("name", vec![name])]);
        let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
        let docker = self.engine.client()?;
        let found = observe("look for the network", docker.list_networks(Some(options))).await?;
        // The engine's filter takes a part of a name for the name.
        let ours = found.into_iter().filter(|network| network.name.as_deref() == Some(name));
        Ok(ours.filter_map(|network| Some((network.created?, network.id?))).min().map(|(_, id)| id))
    }
}

/// This machine's own address in a subnet such as `172.17.0.0/16`; none if it has none there.
fn own_address_in(subnet: &str) -> Option<Ipv4Addr> {
    let (base, bits) = subnet.split_once('/')?;
    let base = u32::from(base.parse::<Ipv4Addr>().ok()?);
    let mask = u32::MAX.checked_shl(32 - bits.parse::<u32>().ok().filter(|bits| (1..=30).contains(bits))?)?;
    // The kernel chooses the source address by its routes when a datagram socket is connected; nothing is sent.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::from(base | 1), 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(own) if u32::from(own) & mask == base & mask => Some(own),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_ours_is_found_by_its_subnet() {
        assert_eq!(own_address_in("127.0.0.0/8"), Some(Ipv4Addr::LOCALHOST));
        for absent in ["203.0.113.0/24", "127.0.0.0", "127.0.0.0/0", "x/8", "fd00::/8"] {
            assert_eq!(own_address_in(absent), None, "{absent}");
        }
    }
}
