//! Looking: one container by its id, one generation by its labels, everything of this platform in one list.
//!
//! Nothing here decides. What the engine says becomes *running*, *not there* or *unknown*; "not there" needs an engine
//! that has proved itself.

use std::collections::HashMap;

use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary, ContainerSummaryStateEnum, PortMap,
};
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptionsBuilder};
use covalence_actors::effect::{Inspection, Listed, ListedState, Provisioned};
use covalence_events::workspace::InstanceRef;
use covalence_events::{Generation, WorkspaceId};

use super::engine::observe;
use super::errors::{Class, Failure};
use super::spec::AGENT_PORT;
use super::{DockerBackend, names, tiers};

/// The port's name in the engine's tables.
pub(super) const AGENT_PORT_KEY: &str = "8000/tcp";

/// Whether a container runs, by its own state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Running,
    /// It ended.
    Ended {
        code: &'static str,
        exit_status: Option<i32>,
    },
    /// It was created and never started.
    Created,
    /// Restarting or being removed: says nothing yet.
    Between(&'static str),
}

impl DockerBackend {
    pub(super) async fn look_at(&self, instance: &InstanceRef) -> Inspection {
        match self.inspect_container(&instance.id).await {
            Ok(Some(container)) => self.inspection(&container),
            Ok(None) => Inspection::NotThere {
                code: "not_found",
                detail: "the engine has no such container".to_owned(),
                exit_status: None,
            },
            Err(failure) => Inspection::Unknown(failure.into()),
        }
    }

    /// One container by its full id; none only where the engine itself says so.
    pub(super) async fn inspect_container(
        &self,
        id: &str,
    ) -> Result<Option<ContainerInspectResponse>, Failure> {
        let what = "inspect the container";
        let docker = self.engine.client()?;
        match observe(what, docker.inspect_container(id, None::<InspectContainerOptions>)).await {
            Ok(container) if container.id.as_deref() == Some(id) => {
                self.engine.note_proof();
                Ok(Some(container))
            }
            Ok(_) => Err(Failure::garbage(what, "the answer is about another container")),
            Err(failure) if failure.class == Class::NoSuchContainer => {
                if !failure.detail.contains(id) {
                    return Err(Failure::garbage(what, "the answer names another container"));
                }
                self.engine.prove().await?;
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    fn inspection(&self, container: &ContainerInspectResponse) -> Inspection {
        let what = "inspect the container";
        match inspected_state(container) {
            Some(State::Running) => Inspection::Running(self.provisioned(container)),
            Some(State::Ended { code, exit_status }) => {
                Inspection::NotThere { code, detail: ended_detail(container, exit_status), exit_status }
            }
            // Never answered for an instance that once ran; an engine that says so is not to be trusted with a verdict.
            Some(State::Created) => Inspection::Unknown(between("created").into()),
            Some(State::Between(state)) => Inspection::Unknown(between(state).into()),
            None => Inspection::Unknown(Failure::garbage(what, "the answer has no state").into()),
        }
    }

    /// What runs, from an inspect.
    pub(super) fn provisioned(&self, container: &ContainerInspectResponse) -> Provisioned {
        let labels = container.config.as_ref().and_then(|config| config.labels.as_ref());
        let ports = container.network_settings.as_ref().and_then(|network| network.ports.as_ref());
        let tier = container
            .config
            .as_ref()
            .and_then(|config| config.env.as_ref())
            .and_then(|env| env.iter().find_map(|pair| pair.strip_prefix("TIER=")))
            .and_then(|tier| tier.parse().ok())
            .unwrap_or(0);
        let privileged = container.host_config.as_ref().and_then(|host| host.privileged).unwrap_or(false);
        // What the container was made with counts, not what the operator allows by the time of the look.
        let withheld = tiers::privileges(tier, privileged.then_some(tier)).1;
        Provisioned {
            instance: container.id.clone().map(|id| InstanceRef { id }),
            url: ports
                .and_then(published_port)
                .or_else(|| labels.and_then(labelled_port))
                .map(|port| self.url_of(port))
                .or_else(|| labels.and_then(|labels| names::owner(labels).0).map(internal_url)),
            withheld,
            image: container.config.as_ref().and_then(|config| config.image.clone()),
        }
    }

    /// Where a published port answers, seen from the platform.
    fn url_of(&self, port: u16) -> String {
        let host = self.engine.host().ok().and_then(super::engine::Host::remote_name).unwrap_or("127.0.0.1");
        format!("http://{host}:{port}")
    }

    pub(super) async fn look_for(&self, workspace: WorkspaceId, generation: Generation) -> Inspection {
        let found = match self.containers_of(Some(workspace)).await {
            Ok(found) => found,
            Err(failure) => return Inspection::Unknown(failure.into()),
        };
        let mut ids = found
            .iter()
            .filter(|container| generation_of(container) == Some(generation))
            // A running one first: a leftover beside it says nothing.
            .max_by_key(|container| container.state == Some(ContainerSummaryStateEnum::RUNNING))
            .into_iter()
            .filter_map(|container| Some((container.id.clone()?, container.state)));
        let Some((id, state)) = ids.next() else {
            // An empty list is easily forged by something that is not an engine.
            if let Err(failure) = self.engine.prove().await {
                return Inspection::Unknown(failure.into());
            }
            return Inspection::NotThere {
                code: "not_found",
                detail: "the engine has no container of this generation".to_owned(),
                exit_status: None,
            };
        };
        if state == Some(ContainerSummaryStateEnum::CREATED) {
            // Provisioning it again takes this one away first, so a start that is still under way is not doubled.
            return Inspection::NotThere {
                code: "not_started",
                detail: "the container was created and never started".to_owned(),
                exit_status: None,
            };
        }
        self.look_at(&InstanceRef { id }).await
    }

    /// Containers of this platform, running or not, perhaps of one workspace only. One call.
    pub(super) async fn containers_of(
        &self,
        workspace: Option<WorkspaceId>,
    ) -> Result<Vec<ContainerSummary>, Failure> {
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&names::label_filter(&self.config.instance, workspace))
            .build();
        let docker = self.engine.client()?;
        observe("list containers", docker.list_containers(Some(options))).await
    }

    pub(super) fn listed(&self, container: ContainerSummary) -> Option<Listed> {
        let labels = container.labels.unwrap_or_default();
        let (workspace, generation) = names::owner(&labels);
        let state = listed_state(container.state, container.status.as_deref());
        let port = container
            .ports
            .iter()
            .flatten()
            .find_map(|port| (port.private_port == AGENT_PORT).then_some(port.public_port).flatten());
        let url = (state == ListedState::Running)
            .then(|| port.or_else(|| labelled_port(&labels)).map(|port| self.url_of(port)))
            .flatten();
        Some(Listed {
            workspace,
            generation,
            instance: InstanceRef { id: container.id? },
            name: container
                .names
                .and_then(|names| names.into_iter().next())
                .map(|name| name.trim_start_matches('/').to_owned())
                .unwrap_or_default(),
            state,
            url,
        })
    }
}

/// The address inside the network, for a container whose published port nobody told.
fn internal_url(workspace: WorkspaceId) -> String {
    format!("http://{}:{AGENT_PORT}", names::container(workspace))
}

fn between(state: &str) -> Failure {
    let detail = format!("the container is {state}");
    Failure { code: "between", class: Class::Unknown, detail }
}

/// The generation that a container's labels name.
pub(super) fn generation_of(container: &ContainerSummary) -> Option<Generation> {
    names::owner(container.labels.as_ref()?).1
}

/// The state in an inspect's answer; none where it has none.
pub(super) fn inspected_state(container: &ContainerInspectResponse) -> Option<State> {
    let state = container.state.as_ref()?;
    let exit_status = state.exit_code.and_then(|code| i32::try_from(code).ok());
    Some(match state.status? {
        // A paused container is alive: somebody froze it, and nothing in it has ended.
        ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::PAUSED => State::Running,
        ContainerStateStatusEnum::EXITED => State::Ended { code: "exited", exit_status },
        ContainerStateStatusEnum::DEAD => State::Ended { code: "dead", exit_status },
        ContainerStateStatusEnum::CREATED => State::Created,
        ContainerStateStatusEnum::RESTARTING => State::Between("restarting"),
        ContainerStateStatusEnum::REMOVING => State::Between("being removed"),
        ContainerStateStatusEnum::STOPPING => State::Between("stopping"),
        ContainerStateStatusEnum::EMPTY => return None,
    })
}

fn ended_detail(container: &ContainerInspectResponse, exit_status: Option<i32>) -> String {
    let oom = container.state.as_ref().and_then(|state| state.oom_killed).unwrap_or(false);
    let status = exit_status.map_or_else(|| "unknown".to_owned(), |status| status.to_string());
    let reason = if oom { ", killed for exceeding its memory limit" } else { "" };
    format!("the container exited with status {status}{reason}")
}

fn listed_state(state: Option<ContainerSummaryStateEnum>, status: Option<&str>) -> ListedState {
    match state {
        Some(ContainerSummaryStateEnum::RUNNING) => ListedState::Running,
        Some(ContainerSummaryStateEnum::EXITED | ContainerSummaryStateEnum::DEAD) => {
            ListedState::Stopped { exit_status: status.and_then(exit_status_in) }
        }
        Some(
            ContainerSummaryStateEnum::CREATED
            | ContainerSummaryStateEnum::PAUSED
            | ContainerSummaryStateEnum::RESTARTING
            | ContainerSummaryStateEnum::REMOVING
            | ContainerSummaryStateEnum::STOPPING
            | ContainerSummaryStateEnum::EMPTY,
        )
        | None => ListedState::Between,
    }
}

/// The number in `Exited (137) 3 minutes ago`.
fn exit_status_in(status: &str) -> Option<i32> {
    status.split_once('(')?.1.split_once(')')?.0.parse().ok()
}

/// The host port that the agent's port is published to.
pub(super) fn published_port(ports: &PortMap) -> Option<u16> {
    let bindings = ports.get(AGENT_PORT_KEY)?.as_ref()?;
    bindings.iter().find_map(|binding| binding.host_port.as_ref()?.parse().ok())
}

/// The port of a container on the host's network.
fn labelled_port(labels: &HashMap<String, String>) -> Option<u16> {
    labels.get(names::LABEL_PORT)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_tells_how_a_container_ended() {
        let exited = Some(ContainerSummaryStateEnum::EXITED);
        let stopped = |exit_status| ListedState::Stopped { exit_status };
        assert_eq!(listed_state(exited, Some("Exited (137) 3 minutes ago")), stopped(Some(137)));
        assert_eq!(listed_state(exited, Some("Exited")), stopped(None));
        assert_eq!(listed_state(Some(ContainerSummaryStateEnum::PAUSED), None), ListedState::Between);
        assert_eq!(listed_state(None, None), ListedState::Between);
    }
}
