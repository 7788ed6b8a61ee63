//! Building images on an engine, and checking that what was built starts.

use std::collections::HashMap;
use std::time::Duration;

use bollard::body_full;
use bollard::models::{ContainerCreateBody, HealthConfig, HealthStatusEnum};
use bollard::query_parameters::{
    BuildImageOptionsBuilder, CreateContainerOptions, InspectContainerOptions, RemoveContainerOptionsBuilder,
    StartContainerOptions,
};
use bytes::Bytes;
use covalence_actors::effect::BackendError;
use futures_util::StreamExt;
use tokio::time::Instant;

use super::engine::{Engine, mutate, observe, within};
use super::errors::Failure;
use super::logs::last_lines;
use super::observe::{State, inspected_state};

/// Copying a binary takes seconds; installing a runtime's dependencies over a slow line takes many minutes.
const BUILD_TIMEOUT: Duration = Duration::from_secs(1_800);
/// From start to healthy: an agent needs a tenth of a second, a loaded machine some more.
const HEALTHY_TIMEOUT: Duration = Duration::from_secs(30);
const HEALTH_LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How often the engine runs the image's own health check while it is being verified, in nanoseconds.
const HEALTH_CHECK_INTERVAL_NS: i64 = 500_000_000;
/// Enough of a failed start's output to see why.
const FAILURE_LOG_LINES: &str = "20";

/// An engine, as somebody who builds images sees it.
#[derive(Debug)]
pub struct ImageEngine {
    engine: Engine,
}

impl ImageEngine {
    /// The engine of a `DOCKER_HOST`; `None` is the local socket. Asks it nothing yet.
    pub fn new(host: Option<&str>) -> Self {
        Self { engine: Engine::new(host) }
    }

    /// Whether an engine answers.
    ///
    /// # Errors
    /// What was said instead.
    pub async fn check(&self) -> Result<(), BackendError> {
        Ok(self.engine.ask_identity().await?)
    }

    /// Builds a context (a tar archive with a `Dockerfile`) into an image. `progress` gets the engine's lines.
    ///
    /// # Errors
    /// What the engine said; an image of that name is as it was before.
    pub async fn build(
        &self,
        tag: &str,
        context: Bytes,
        arguments: &HashMap<String, String>,
        progress: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<(), BackendError> {
        let options =
            BuildImageOptionsBuilder::new().t(tag).rm(true).forcerm(true).buildargs(arguments).build();
        let docker = self.engine.client()?;
        let what = format!("build image `{tag}`");
        let mut refused = None;
        let read = async {
            let mut lines = std::pin::pin!(docker.build_image(options, None, Some(body_full(context))));
            while let Some(line) = lines.next().await {
                let line = line?;
                if let Some(text) = line.stream {
                    progress(text.trim_end());
                }
                // The engine answers 200 and says in the stream that it failed.
                if let Some(text) = line.error_detail.and_then(|detail| detail.message) {
                    refused = Some(text);
                }
            }
            Ok(())
        };
        within(&what, BUILD_TIMEOUT, read).await?;
        match refused {
            Some(text) => Err(BackendError { code: "build_failed", detail: format!("{what}: {text}") }),
            None => Ok(()),
        }
    }

    /// Starts a container of the image, waits until the image's own health check passes, removes it.
    ///
    /// # Errors
    /// It did not start or did not become healthy; the detail has its last lines.
    pub async fn verify(&self, image: &str, environment: Vec<String>) -> Result<(), BackendError> {
        let docker = self.engine.client()?;
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            env: Some(environment),
            // No test of its own: what is left out is taken from the image.
            healthcheck: Some(HealthConfig {
                interval: Some(HEALTH_CHECK_INTERVAL_NS),
                ..HealthConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let created = mutate(
            "create a container to check",
            docker.create_container(None::<CreateContainerOptions>, body),
        )
        .await?;
        let result = self.start_and_watch(&created.id).await;
        let said = match &result {
            Ok(()) => String::new(),
            Err(_) => last_lines(&docker, &created.id, FAILURE_LOG_LINES).await,
        };
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        mutate("remove the checked container", docker.remove_container(&created.id, Some(options))).await?;
        result.map_err(|failure| BackendError {
            code: "image_unhealthy",
            detail: format!("image `{image}`: {}; it said: {said}", failure.detail),
        })
    }

    async fn start_and_watch(&self, id: &str) -> Result<(), Failure> {
        let what = "wait until the container is healthy";
        let docker = self.engine.client()?;
        mutate("start the container to check", docker.start_container(id, None::<StartContainerOptions>))
            .await?;
        let started = Instant::now();
        while started.elapsed() < HEALTHY_TIMEOUT {
            let container =
                observe(what, docker.inspect_container(id, None::<InspectContainerOptions>)).await?;
            if let Some(State::Ended { exit_status, .. }) = inspected_state(&container) {
                return Err(Failure::garbage(
                    what,
                    &format!("it exited with status {}", exit_status.unwrap_or(-1)),
                ));
            }
            let health = container.state.and_then(|state| state.health).and_then(|health| health.status);
            match health {
                Some(HealthStatusEnum::HEALTHY) => return Ok(()),
                Some(HealthStatusEnum::NONE | HealthStatusEnum::EMPTY) | None => {
                    return Err(Failure::garbage(what, "the image has no health check"));
                }
                Some(HealthStatusEnum::STARTING | HealthStatusEnum::UNHEALTHY) => {}
            }
            tokio::time::sleep(HEALTH_LOOK_INTERVAL).await;
        }
        Err(Failure::timeout(what, HEALTHY_TIMEOUT))
    }
}
