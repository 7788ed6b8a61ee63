//! Starting one generation: leftovers away, pre-flight, create, fill, start, learn the address.
//!
//! Idempotent by (workspace, generation). A step whose outcome the engine did not tell is settled by looking before
//! anything is issued again: a container that was made twice would be two agents with one identity.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use bollard::Docker;
use bollard::models::{ContainerInspectResponse, ContainerSummaryStateEnum, VolumeCreateRequest};
use bollard::query_parameters::RemoveVolumeOptionsBuilder;
use covalence_actors::effect::{ProvisionError, ProvisionSpec, Provisioned};

use super::engine::{mutate, observe, persist, within};
use super::errors::{Class, Failure};
use super::files::{self, Archive, Existing, Owner};
use super::observe::{State, generation_of, inspected_state, published_port};
use super::spec::{CONFIG_PATH, Plan, docker_run, plan};
use super::{DockerBackend, names, tiers};
use crate::backends::config_files;
use crate::backends::redact::{redact, values};
use crate::runtimes::{Runner, Runtime};

/// A whole start, by the wire contract. Beyond it the outcome is unknown.
const START_TIMEOUT: Duration = Duration::from_secs(180);
/// Leftovers of older generations get this long to end gracefully before they are removed.
const LEFTOVER_GRACE: Duration = Duration::from_secs(10);
/// A volume is a directory: made in no time, or the engine is in trouble.
const VOLUME_TIMEOUT: Duration = Duration::from_secs(5);
/// The host port is known when `start` returns; under load the engine publishes it a little later.
const PORT_LOOKS: usize = 3;
const PORT_LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// The last lines of a container that ended at once say why.
const FAILURE_LOG_LINES: &str = "20";

impl DockerBackend {
    pub(super) async fn start_generation(&self, spec: &ProvisionSpec) -> Result<Provisioned, ProvisionError> {
        // On the heap: the steps' states together are too large for a caller's stack.
        match tokio::time::timeout(START_TIMEOUT, Box::pin(self.start_steps(spec))).await {
            Ok(result) => result,
            Err(_) => {
                Err(outcome_unknown(format!("the start took longer than {} s", START_TIMEOUT.as_secs())))
            }
        }
    }

    async fn start_steps(&self, spec: &ProvisionSpec) -> Result<Provisioned, ProvisionError> {
        let runtime = self.config.runtimes.get(&spec.runtime).map_err(|error| invalid(error.to_string()))?;
        let Some(image) = runtime.image.as_deref() else {
            return Err(invalid(format!("runtime `{}` has no image to run in a container", runtime.name)));
        };
        persist(|| self.engine.ask_identity()).await.map_err(|failure| not_started(failure, None))?;
        if let Some(running) = self.clear_leftovers(spec).await? {
            return Ok(running);
        }
        let docker = self.engine.client().map_err(|failure| not_started(failure, None))?;
        let owner = persist(|| image_owner(&docker, image)).await.map_err(|failure| {
            if failure.class == Class::NoSuchImage {
                image_missing(image, runtime)
            } else {
                not_started(failure, None)
            }
        })?;
        let host = self.engine.host().map_err(|failure| not_started(failure, None))?;
        let mut plan = plan(&self.config, host, spec, runtime, self.host_port(spec));
        let command = docker_run(&plan);
        let prepared = self.prepare(&docker, spec, &mut plan).await;
        prepared.map_err(|failure| not_started(failure, Some(&command)))?;
        let id = self
            .create(&docker, spec, &plan)
            .await
            .map_err(|failure| not_started(failure, Some(&command)))?;
        match self.fill_and_start(&docker, &id, spec, (runtime, &plan, owner)).await {
            Ok(()) => self.started(&docker, &id, spec, (&plan, &command)).await,
            Err(error) if error.code == ProvisionError::OUTCOME_UNKNOWN => Err(error),
            Err(error) => {
                self.discard(&id).await;
                Err(ProvisionError { command: Some(command), ..error })
            }
        }
    }

    /// A port of the host's for an agent on the host's network. Free at this moment; if somebody takes it first, the
    /// agent ends and says so.
    fn host_port(&self, spec: &ProvisionSpec) -> Option<u16> {
        if !tiers::privileges(spec.tier, self.config.privileged_tier_max).0.host {
            return None;
        }
        TcpListener::bind(("127.0.0.1", 0))
            .and_then(|socket| socket.local_addr())
            .map(|addr| addr.port())
            .ok()
    }

    /// Takes away what older provisionings left. Answers this generation itself if it runs already.
    async fn clear_leftovers(&self, spec: &ProvisionSpec) -> Result<Option<Provisioned>, ProvisionError> {
        let failed = |failure| not_started(failure, None);
        let left = persist(|| self.containers_of(Some(spec.workspace))).await.map_err(failed)?;
        for container in left {
            let (Some(id), generation) = (container.id.clone(), generation_of(&container)) else { continue };
            if generation.is_some_and(|generation| generation > spec.generation) {
                return Err(ProvisionError {
                    code: "start_failed",
                    message: format!("a newer generation than {} of this workspace exists", spec.generation),
                    retryable: false,
                    command: None,
                });
            }
            if generation == Some(spec.generation)
                && container.state == Some(ContainerSummaryStateEnum::RUNNING)
                && let Some(running) = self.adopt(&id, spec).await.map_err(failed)?
            {
                return Ok(Some(running));
            }
            // What has ended needs no request to end.
            let over = matches!(
                container.state,
                Some(
                    ContainerSummaryStateEnum::EXITED
                        | ContainerSummaryStateEnum::DEAD
                        | ContainerSummaryStateEnum::CREATED
                )
            );
            let retired = persist(async || {
                if over {
                    self.put_away(&id, spec.workspace, generation).await
                } else {
                    self.retire(&id, spec.workspace, generation, LEFTOVER_GRACE).await
                }
            });
            retired.await.map_err(failed)?;
        }
        Ok(None)
    }

    /// This generation runs already: it only gets its token, which is a new one after a crash in between.
    async fn adopt(&self, id: &str, spec: &ProvisionSpec) -> Result<Option<Provisioned>, Failure> {
        let Some(container) = self.inspect_container(id).await? else { return Ok(None) };
        if inspected_state(&container) != Some(State::Running) {
            return Ok(None);
        }
        let user = container.config.as_ref().and_then(|config| config.user.clone());
        let mut archive = Archive::new(Owner::of_image(user.as_deref()));
        let archived = archive.token(Path::new(""), spec.token.expose()).and_then(|()| archive.finish());
        let bytes = archived.map_err(|error| Failure::garbage("pack the token", &error.to_string()))?;
        files::upload(&self.engine.client()?, id, CONFIG_PATH, bytes).await?;
        Ok(Some(self.provisioned(&container)))
    }

    async fn prepare(&self, docker: &Docker, spec: &ProvisionSpec, plan: &mut Plan) -> Result<(), Failure> {
        plan.join_network(&persist(|| self.ensure_network()).await?);
        for (name, _) in &plan.volumes {
            if spec.reset_session && *name == names::session_volume(spec.workspace) {
                persist(|| remove_volume(docker, name)).await?;
            }
            let request = VolumeCreateRequest {
                name: Some(name.clone()),
                labels: Some(names::volume_labels(&self.config.instance, spec.workspace)),
                ..VolumeCreateRequest::default()
            };
            // Creating a volume that exists is a no-op, so a lost answer needs no settling.
            let what = "create the volume";
            persist(|| within(what, VOLUME_TIMEOUT, docker.create_volume(request.clone()))).await?;
        }
        Ok(())
    }

    async fn fill_and_start(
        &self,
        docker: &Docker,
        id: &str,
        spec: &ProvisionSpec,
        (runtime, plan, owner): (&Runtime, &Plan, Owner),
    ) -> Result<(), ProvisionError> {
        let existing = persist(|| files::existing_configuration(docker, id))
            .await
            .map_err(|failure| not_started(failure, None))?;
        let configuration = match existing {
            Existing::Written => Vec::new(),
            Existing::Generated => self.gather(spec, runtime).await.unwrap_or_default(),
            Existing::None => self.gather(spec, runtime).await?,
        };
        let (path, archive) = pack(spec, plan, owner, &configuration)
            .map_err(|error| invalid(redact(&format!("can't pack the configuration: {error}"), &[])))?;
        persist(|| files::upload(docker, id, path, archive.clone()))
            .await
            .map_err(|failure| not_started(failure, None))?;
        self.start_container(docker, id).await
    }

    /// Templates are read off the runtime's threads.
    async fn gather(
        &self,
        spec: &ProvisionSpec,
        runtime: &Runtime,
    ) -> Result<Vec<config_files::ConfigFile>, ProvisionError> {
        let (spec, runtime, templates) = (spec.clone(), runtime.clone(), self.config.templates.clone());
        tokio::task::spawn_blocking(move || config_files::gather(&spec, &runtime, templates.as_deref()))
            .await
            .unwrap_or_else(|error| Err(invalid(format!("reading the template ended early: {error}"))))
    }

    /// Learns the address. A container that ended already failed to start, and its last lines say why.
    async fn started(
        &self,
        docker: &Docker,
        id: &str,
        spec: &ProvisionSpec,
        (plan, command): (&Plan, &str),
    ) -> Result<Provisioned, ProvisionError> {
        let mut seen = None;
        for look in 0..PORT_LOOKS {
            if look > 0 {
                tokio::time::sleep(PORT_LOOK_INTERVAL).await;
            }
            let Ok(Some(container)) = self.inspect_container(id).await else { continue };
            if let Some(State::Ended { exit_status, .. }) = inspected_state(&container) {
                let lines = super::logs::last_lines(docker, id, FAILURE_LOG_LINES).await;
                self.discard(id).await;
                return Err(ended_at_once(exit_status, &lines, spec, command));
            }
            let known = is_address_known(&container, plan);
            seen = Some(container);
            if known {
                break;
            }
        }
        let Some(container) = seen else {
            return Err(outcome_unknown("the container was started and can't be inspected".to_owned()));
        };
        Ok(Provisioned { withheld: plan.withheld.clone(), ..self.provisioned(&container) })
    }

    /// Removes a container that never ran. What can't be removed is found by its labels the next time.
    async fn discard(&self, id: &str) {
        if let Err(failure) = self.remove_container(id).await {
            tracing::warn!(
                container = id,
                error = failure.detail,
                "can't remove a container that did not start"
            );
        }
    }
}

/// Whom files belong to in this image; also the pre-flight that it is there.
async fn image_owner(docker: &Docker, image: &str) -> Result<Owner, Failure> {
    let inspected = observe("look for the image", docker.inspect_image(image)).await?;
    let user = inspected.config.and_then(|config| config.user);
    Ok(Owner::of_image(user.as_deref()))
}

pub(super) async fn remove_volume(docker: &Docker, name: &str) -> Result<(), Failure> {
    let options = RemoveVolumeOptionsBuilder::new().force(true).build();
    match mutate("remove the volume", docker.remove_volume(name, Some(options))).await {
        Err(failure) if failure.class != Class::NoSuchThing => Err(failure),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The archive for the container, and where it is unpacked. A read-only root can't be unpacked into, so there only the
/// configuration volume is; everywhere else the volumes' own directories get the agent as owner too.
fn pack(
    spec: &ProvisionSpec,
    plan: &Plan,
    owner: Owner,
    configuration: &[config_files::ConfigFile],
) -> std::io::Result<(&'static str, bytes::Bytes)> {
    let mut archive = Archive::new(owner);
    let (path, directory) =
        if plan.read_only { (CONFIG_PATH, "") } else { ("/", CONFIG_PATH.trim_start_matches('/')) };
    if !plan.read_only {
        for (_, target) in &plan.volumes {
            archive.directory(Path::new(target.trim_start_matches('/')))?;
        }
    }
    archive.configuration(Path::new(directory), configuration)?;
    archive.token(Path::new(directory), spec.token.expose())?;
    Ok((path, archive.finish()?))
}

fn is_address_known(container: &ContainerInspectResponse, plan: &Plan) -> bool {
    let ports = container.network_settings.as_ref().and_then(|network| network.ports.as_ref());
    plan.body.exposed_ports.is_none() || ports.and_then(published_port).is_some()
}

fn invalid(message: String) -> ProvisionError {
    ProvisionError { code: "invalid_config", message, retryable: false, command: None }
}

fn image_missing(image: &str, runtime: &Runtime) -> ProvisionError {
    let name = &runtime.name;
    let advice = match runtime.runner {
        Runner::Command(_) => format!(
            "build it with `covalence images build {name} --base IMAGE`, where IMAGE has the program that it runs"
        ),
        Runner::Echo => format!("build it with `covalence images build {name}`"),
        Runner::Image | Runner::External => format!(
            "it brings its own agent: get it with `docker pull {image}` or `docker load`, or name another in \
             `[runtimes.{name}] image`; `MOLECULE_IMAGE_REGISTRY` says where images come from"
        ),
    };
    ProvisionError {
        code: "image_missing",
        message: format!("image `{image}` is not on the engine; {advice}"),
        retryable: false,
        command: None,
    }
}

pub(super) fn outcome_unknown(detail: String) -> ProvisionError {
    ProvisionError { code: ProvisionError::OUTCOME_UNKNOWN, message: detail, retryable: false, command: None }
}

fn ended_at_once(status: Option<i32>, lines: &str, spec: &ProvisionSpec, command: &str) -> ProvisionError {
    let status = status.map_or_else(|| "unknown".to_owned(), |status| status.to_string());
    let said = if lines.is_empty() { "it said nothing".to_owned() } else { format!("it said: {lines}") };
    let text = format!("the container exited with status {status} right after its start; {said}");
    ProvisionError {
        code: "start_failed",
        message: redact(&text, &values(spec)),
        retryable: true,
        command: Some(command.to_owned()),
    }
}

/// Words of the engine for a port that somebody else has.
const PORT_TAKEN: [&str; 2] = ["port is already allocated", "address already in use"];

pub(super) fn is_port_taken(failure: &Failure) -> bool {
    PORT_TAKEN.iter().any(|words| failure.detail.contains(words))
}

/// A failure after which nothing of this generation runs.
pub(super) fn not_started(failure: Failure, command: Option<&str>) -> ProvisionError {
    let taken = is_port_taken(&failure);
    let (code, retryable) = match failure.class {
        _ if taken => ("port_taken", true),
        Class::NoSuchImage => ("image_missing", false),
        Class::Refused | Class::NoSuchThing | Class::NoSuchContainer => ("start_failed", false),
        Class::Conflict => ("start_failed", true),
        Class::NotSent => ("engine_unavailable", true),
        Class::Unknown if failure.code.starts_with("http_5") => ("start_failed", true),
        Class::Unknown => ("engine_unavailable", true),
    };
    ProvisionError { code, message: failure.detail, retryable, command: command.map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R20, line by line: the engine's own words lead to a stable code.
    #[test]
    fn the_engines_words_become_codes_a_person_can_act_on() {
        let failure = |code, class, detail: &str| Failure { code, class, detail: detail.to_owned() };
        let bind = "driver failed programming external connectivity: Bind for 127.0.0.1:80 failed: \
                    port is already allocated";
        let proxy = "Error starting userland proxy: listen tcp4 127.0.0.1:80: bind: address already in use";
        for (failure, code, retryable) in [
            (failure("http_500", Class::Unknown, bind), "port_taken", true),
            (failure("http_500", Class::Unknown, proxy), "port_taken", true),
            (failure("http_500", Class::Unknown, "boom"), "start_failed", true),
            (failure("http_400", Class::Refused, "exec: no such file"), "start_failed", false),
            (failure("refused", Class::NotSent, ""), "engine_unavailable", true),
            (failure("socket_missing", Class::NotSent, ""), "engine_unavailable", true),
            (failure("timeout", Class::Unknown, ""), "engine_unavailable", true),
            (failure("image_missing", Class::NoSuchImage, ""), "image_missing", false),
        ] {
            let error = not_started(failure.clone(), Some("docker run x"));
            assert_eq!((error.code, error.retryable), (code, retryable), "{failure:?}");
            assert_eq!(error.command.as_deref(), Some("docker run x"));
        }
    }
}
