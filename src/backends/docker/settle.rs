//! The two steps of a start that must not be doubled, create and start: what is done about an answer that is lost.

use std::time::Duration;

use bollard::Docker;
use bollard::models::ContainerSummaryStateEnum;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, StartContainerOptions,
};
use covalence_actors::effect::{ProvisionError, ProvisionSpec};
use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::engine::{LOOK_AFTER, mutate, observe, watched};
use super::errors::{Class, Failure};
use super::observe::{State, generation_of, inspected_state};
use super::provision::{is_port_taken, not_started, outcome_unknown};
use super::spec::Plan;
use super::{DockerBackend, names};

/// A mutation without an answer is looked for this long before its outcome counts as unknown.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks of settling: short against a start of 70 to 500 ms, long against an inspect of 1 ms.
const SETTLE_INTERVAL: Duration = Duration::from_millis(250);
/// A create or start that left no trace for this long is issued again. The name keeps a late create from doubling it, and a
/// start of what was started is none.
const TRACE_TIMEOUT: Duration = Duration::from_secs(8);
/// First try, the same after a lost answer, and one under the other name.
const CREATE_ATTEMPTS: usize = 3;
/// First try, and two after an answer that was lost or that says that the engine is in trouble.
const START_ATTEMPTS: usize = 3;
/// Before the next of them.
const START_PAUSE: Duration = Duration::from_millis(500);

impl DockerBackend {
    pub(super) async fn create(
        &self,
        docker: &Docker,
        spec: &ProvisionSpec,
        plan: &Plan,
    ) -> Result<String, Failure> {
        let mut name = plan.name.clone();
        let mut last = None;
        for _ in 0..CREATE_ATTEMPTS {
            let options = CreateContainerOptionsBuilder::new().name(&name).build();
            let create = docker.create_container(Some(options), plan.body.clone()).boxed();
            let call = async { Ok(Some(mutate("create the container", create).await?.id)) };
            let failure = match watched(call, LOOK_AFTER, self.settle_create(spec).boxed()).await {
                Ok(Some(id)) => return Ok(id),
                // It left no trace: it is made again.
                Ok(None) => {
                    last = Some(Failure::timeout("create the container", LOOK_AFTER + TRACE_TIMEOUT));
                    continue;
                }
                Err(failure) => failure,
            };
            match failure.class {
                Class::Conflict => {
                    // Ours from a lost answer, or somebody's who holds the name: being removed, or not ours at all.
                    if let Some(id) = self.created_already(spec).await? {
                        return Ok(id);
                    }
                    name = names::container_beside(spec.workspace, spec.generation);
                }
                Class::Unknown => {
                    if let Some(id) = self.settle_create(spec).await? {
                        return Ok(id);
                    }
                }
                Class::NoSuchContainer
                | Class::NoSuchImage
                | Class::NoSuchThing
                | Class::Refused
                | Class::NotSent => {
                    return Err(failure);
                }
            }
            last = Some(failure);
        }
        Err(last.unwrap_or_else(|| Failure::garbage("create the container", "no attempt was made")))
    }

    async fn created_already(&self, spec: &ProvisionSpec) -> Result<Option<String>, Failure> {
        let found = self.containers_of(Some(spec.workspace)).await?;
        let ours = found.into_iter().find(|container| {
            generation_of(container) == Some(spec.generation)
                && container.state == Some(ContainerSummaryStateEnum::CREATED)
        });
        Ok(ours.and_then(|container| container.id))
    }

    /// Looks for the container of a create without an answer. None: the engine is sure that there is none.
    async fn settle_create(&self, spec: &ProvisionSpec) -> Result<Option<String>, Failure> {
        let started = Instant::now();
        let mut absent_since = None;
        loop {
            match self.created_already(spec).await {
                Ok(Some(id)) => return Ok(Some(id)),
                Ok(None) => {
                    let since = *absent_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= TRACE_TIMEOUT && self.engine.prove().await.is_ok() {
                        return Ok(None);
                    }
                }
                Err(failure) if started.elapsed() >= SETTLE_TIMEOUT => return Err(failure),
                // Says nothing: looks before and after it count.
                Err(_) => {}
            }
            tokio::time::sleep(SETTLE_INTERVAL).await;
        }
    }

    /// Starts what was created and filled. The engine's own words about it end the matter; where it was in trouble, or did not
    /// say, a look at the container says whether there is anything to repeat.
    pub(super) async fn start_container(&self, docker: &Docker, id: &str) -> Result<(), ProvisionError> {
        let mut last = None;
        for _ in 0..START_ATTEMPTS {
            let start = docker.start_container(id, None::<StartContainerOptions>);
            let call = async { mutate("start the container", start).await.map(Some) };
            let failure = match watched(call, LOOK_AFTER, settle_start(docker, id).boxed()).await {
                Ok(Some(())) => return Ok(()),
                Ok(None) => Failure::timeout("start the container", LOOK_AFTER + TRACE_TIMEOUT),
                Err(failure) if is_engine_trouble(&failure) => failure,
                Err(failure) if !failure.outcome_unknown() || failure.code.starts_with("http_") => {
                    return Err(not_started(failure, None));
                }
                Err(failure) => match settle_start(docker, id).boxed().await {
                    Ok(Some(())) => return Ok(()),
                    Ok(None) => failure,
                    Err(_) => return Err(outcome_unknown(failure.detail)),
                },
            };
            last = Some(failure);
            tokio::time::sleep(START_PAUSE).await;
        }
        let failure = last.unwrap_or_else(|| Failure::garbage("start the container", "no attempt was made"));
        Err(not_started(failure, None))
    }
}

/// A start without an answer: the engine goes on with it, so it is watched until it says how it went. None: the engine has not
/// begun, since a look at a container waits for a start of it that is under way.
async fn settle_start(docker: &Docker, id: &str) -> Result<Option<()>, Failure> {
    let looking = async {
        let mut idle_since = None;
        loop {
            let call = docker.inspect_container(id, None::<InspectContainerOptions>);
            // An error says nothing: looks before and after it count.
            if let Ok(container) = observe("look for the started container", call).await {
                match inspected_state(&container) {
                    Some(State::Running | State::Ended { .. }) => return Some(()),
                    Some(State::Created) => {
                        let since = *idle_since.get_or_insert_with(Instant::now);
                        if since.elapsed() >= TRACE_TIMEOUT {
                            return None;
                        }
                    }
                    Some(State::Between(_)) | None => idle_since = None,
                }
            }
            tokio::time::sleep(SETTLE_INTERVAL).await;
        }
    };
    let settled = tokio::time::timeout(SETTLE_TIMEOUT, looking).await;
    settled.map_err(|_| Failure::timeout("look for the started container", SETTLE_TIMEOUT))
}

/// An answer after which nothing was done, and that may be another one a moment later.
fn is_engine_trouble(failure: &Failure) -> bool {
    let busy = failure.code.starts_with("http_5") && !is_port_taken(failure);
    busy || failure.class == Class::NotSent
}
