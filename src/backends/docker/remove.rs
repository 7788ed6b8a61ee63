//! Taking away: one container after its log is kept, a workspace's volumes, a stranger.

use std::time::Duration;

use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{
    ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
};
use covalence_actors::effect::BackendError;
use covalence_events::workspace::InstanceRef;
use covalence_events::{Generation, WorkspaceId};
use futures_util::FutureExt as _;

use super::engine::{LOOK_AFTER, observe, watched, within};
use super::errors::{Class, Failure};
use super::observe::{State, generation_of, inspected_state};
use super::provision::remove_volume;
use super::{DockerBackend, names};

/// Between two looks whether a removal that somebody else began is done.
const REMOVAL_INTERVAL: Duration = Duration::from_millis(100);

/// How long the engine may take to remove, or to stop beyond the grace. Asking again for the same id harms nothing, so this is
/// short against a lost answer and long against the half second that it takes under load.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(10);
/// A removal that was answered with an error may be under way all the same; it is looked for this long.
const LOST_TIMEOUT: Duration = Duration::from_secs(2);

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
        let limit = grace.saturating_add(REMOVAL_TIMEOUT);
        let call = within("stop the container", limit, docker.stop_container(id, Some(options)));
        match watched(call, grace.saturating_add(LOOK_AFTER), self.until(id, has_ended).boxed()).await {
            Ok(()) => {}
            Err(failure) if failure.class == Class::NoSuchContainer => return Ok(()),
            // Whatever went wrong with asking nicely, the removal is by force.
            Err(failure) => tracing::debug!(container = id, error = failure.detail, "graceful stop failed"),
        }
        self.put_away(id, workspace, generation).await
    }

    /// Keeps the log of a container that has ended, and removes it.
    pub(super) async fn put_away(
        &self,
        id: &str,
        workspace: WorkspaceId,
        generation: Option<Generation>,
    ) -> Result<(), Failure> {
        self.keep_log(id, workspace, generation).await;
        self.remove_container(id).await
    }

    /// Removes one container by force; done when the engine says that it is gone.
    pub(super) async fn remove_container(&self, id: &str) -> Result<(), Failure> {
        let docker = self.engine.client()?;
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let remove = docker.remove_container(id, Some(options));
        let call = within("remove the container", REMOVAL_TIMEOUT, remove);
        match watched(call, LOOK_AFTER, self.until(id, |found| found.is_none()).boxed()).await {
            Ok(()) => Ok(()),
            Err(failure) if failure.class == Class::NoSuchContainer => Ok(()),
            // Somebody else is at it, or the answer was lost: the engine goes on either way.
            Err(failure) if matches!(failure.class, Class::Conflict | Class::Unknown) => {
                let patience = if failure.class == Class::Conflict { REMOVAL_TIMEOUT } else { LOST_TIMEOUT };
                let gone = self.until(id, |found| found.is_none()).boxed();
                tokio::time::timeout(patience, gone).await.unwrap_or(Err(failure))
            }
            Err(failure) => Err(failure),
        }
    }

    /// Looks until one container is as wished. An answer that says nothing is asked for again.
    async fn until(
        &self,
        id: &str,
        wished: impl Fn(Option<&ContainerInspectResponse>) -> bool,
    ) -> Result<(), Failure> {
        loop {
            if let Ok(container) = self.inspect_container(id).await
                && wished(container.as_ref())
            {
                return Ok(());
            }
            tokio::time::sleep(REMOVAL_INTERVAL).await;
        }
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

/// Whether nothing of it runs any more.
fn has_ended(container: Option<&ContainerInspectResponse>) -> bool {
    container.is_none_or(|container| matches!(inspected_state(container), Some(State::Ended { .. })))
}
