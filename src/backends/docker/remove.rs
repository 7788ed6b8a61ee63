//! Taking away: one container after its log is kept, a workspace's volumes, a stranger.

use std::time::Duration;

use bollard::query_parameters::{
    ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
};
use covalence_actors::effect::BackendError;
use covalence_events::workspace::InstanceRef;
use covalence_events::{Generation, WorkspaceId};
use tokio::time::Instant;

use super::engine::{MUTATION_TIMEOUT, mutate, observe, within};
use super::errors::{Class, Failure};
use super::observe::generation_of;
use super::provision::remove_volume;
use super::{DockerBackend, names};

/// Between two looks whether a removal that somebody else began is done.
const REMOVAL_INTERVAL: Duration = Duration::from_millis(100);

impl DockerBackend {
    pub(super) async fn stop_up_to(
        &self,
        workspace: WorkspaceId,
        generation: Generation,
        grace: Duration,
    ) -> Result<(), Failure> {
        let mut first_failure = None;
        for container in self.containers_of(Some(workspace)).await? {
            let its = generation_of(&container);
            if its.is_some_and(|its| its > generation) {
                continue;
            }
            let Some(id) = container.id else { continue };
            // One that can't be stopped must not keep the others running.
            if let Err(failure) = self.retire(&id, workspace, its, grace).await {
                first_failure.get_or_insert(failure);
            }
        }
        first_failure.map_or(Ok(()), Err)
    }

    /// Stops one container gracefully, keeps its log, removes it.
    pub(super) async fn retire(
        &self,
        id: &str,
        workspace: WorkspaceId,
        generation: Option<Generation>,
        grace: Duration,
    ) -> Result<(), Failure> {
        let docker = self.engine.client()?;
        // The engine rounds to seconds, and counts 0 as "kill at once".
        let seconds = grace.as_secs().saturating_add(u64::from(grace.subsec_nanos() > 0));
        let seconds = i32::try_from(seconds).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::new().t(seconds).build();
        let limit = grace.saturating_add(MUTATION_TIMEOUT);
        match within("stop the container", limit, docker.stop_container(id, Some(options))).await {
            Ok(()) => {}
            Err(failure) if failure.class == Class::NoSuchContainer => return Ok(()),
            // Whatever went wrong with asking nicely, the removal below is by force.
            Err(failure) => tracing::debug!(container = id, error = failure.detail, "graceful stop failed"),
        }
        self.keep_log(id, workspace, generation).await;
        self.remove_container(id).await
    }

    /// Removes one container by force; done when the engine says that it is gone.
    pub(super) async fn remove_container(&self, id: &str) -> Result<(), Failure> {
        let docker = self.engine.client()?;
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match mutate("remove the container", docker.remove_container(id, Some(options))).await {
            Ok(()) => Ok(()),
            Err(failure) if failure.class == Class::NoSuchContainer => Ok(()),
            // Somebody else is at it, or the answer was lost: the engine goes on either way.
            Err(failure) if matches!(failure.class, Class::Conflict | Class::Unknown) => {
                self.wait_until_gone(id, failure).await
            }
            Err(failure) => Err(failure),
        }
    }

    async fn wait_until_gone(&self, id: &str, failure: Failure) -> Result<(), Failure> {
        let started = Instant::now();
        while started.elapsed() < MUTATION_TIMEOUT {
            if let Ok(None) = self.inspect_container(id).await {
                return Ok(());
            }
            tokio::time::sleep(REMOVAL_INTERVAL).await;
        }
        Err(failure)
    }

    pub(super) async fn remove_everything(&self, workspace: WorkspaceId) -> Result<(), Failure> {
        // A volume can't be removed while a container has it.
        for container in self.containers_of(Some(workspace)).await? {
            if let Some(id) = container.id {
                self.remove_container(&id).await?;
            }
        }
        let docker = self.engine.client()?;
        let filter = names::label_filter(&self.config.instance, Some(workspace));
        let options = ListVolumesOptionsBuilder::new().filters(&filter).build();
        let listed = observe("list volumes", docker.list_volumes(Some(options))).await?;
        for volume in listed.volumes.into_iter().flatten() {
            remove_volume(&docker, &volume.name).await?;
        }
        self.drop_logs(workspace).await
    }

    pub(super) async fn remove_foreign(&self, instance: &InstanceRef) -> Result<(), BackendError> {
        let Some(container) = self.inspect_container(&instance.id).await? else { return Ok(()) };
        let labels = container.config.and_then(|config| config.labels).unwrap_or_default();
        let managed = labels.get(names::LABEL_MANAGED).is_some_and(|value| value == "true");
        let ours = labels.get(names::LABEL_INSTANCE).is_some_and(|value| *value == self.config.instance);
        if !(managed && ours) {
            return Err(BackendError {
                code: "not_ours",
                detail: "the container does not carry this platform's labels".to_owned(),
            });
        }
        Ok(self.remove_container(&instance.id).await?)
    }
}
