//! What this platform must never be: an adapter that takes every error for an absence.
//!
//! Around a real adapter it makes the naive supervisor of whose cascades the incident tools are to tell the first cause: an engine
//! that does not answer has lost everything that it ran. Compiled with the feature `fault-hooks` only, which release builds refuse;
//! `covalence serve --naive` asks for it. The error's own word stays in the evidence, as it would in the log of such a platform.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use covalence_actors::effect::files::{FileError, FilePath, FoundFile, NewFile};
use covalence_actors::effect::{
    Backend, BackendError, Inspection, Listed, LogQuery, LogStream, ProvisionError, ProvisionSpec,
    Provisioned, Signal,
};
use covalence_events::workspace::{BackendKind, InstanceRef};
use covalence_events::{Generation, WorkspaceId};
use tokio::sync::mpsc;

/// See the module.
#[derive(Debug)]
pub struct NaiveBackend(pub Arc<dyn Backend>);

fn believed(inspection: Inspection) -> Inspection {
    match inspection {
        Inspection::Unknown(error) => {
            Inspection::NotThere { code: error.code, detail: error.detail, exit_status: None }
        }
        seen @ (Inspection::Running(_) | Inspection::NotThere { .. }) => seen,
    }
}

#[async_trait]
impl Backend for NaiveBackend {
    fn kind(&self) -> BackendKind {
        self.0.kind()
    }

    async fn provision(&self, spec: &ProvisionSpec) -> Result<Provisioned, ProvisionError> {
        self.0.provision(spec).await
    }

    async fn find(&self, workspace: WorkspaceId, generation: Generation) -> Inspection {
        believed(self.0.find(workspace, generation).await)
    }

    async fn inspect(&self, workspace: WorkspaceId, instance: &InstanceRef) -> Inspection {
        believed(self.0.inspect(workspace, instance).await)
    }

    async fn list(&self) -> Result<Vec<Listed>, BackendError> {
        Ok(self.0.list().await.unwrap_or_default())
    }

    async fn stop(
        &self,
        workspace: WorkspaceId,
        generation: Generation,
        grace: Duration,
    ) -> Result<(), BackendError> {
        self.0.stop(workspace, generation, grace).await
    }

    async fn purge(&self, workspace: WorkspaceId) -> Result<(), BackendError> {
        self.0.purge(workspace).await
    }

    async fn remove_stranger(&self, instance: &InstanceRef) -> Result<(), BackendError> {
        self.0.remove_stranger(instance).await
    }

    async fn watch(&self, signals: mpsc::Sender<Signal>) {
        self.0.watch(signals).await;
    }

    async fn logs(&self, workspace: WorkspaceId, query: LogQuery) -> Result<LogStream, BackendError> {
        self.0.logs(workspace, query).await
    }

    async fn put_files(&self, workspace: WorkspaceId, files: Vec<NewFile>) -> Result<(), FileError> {
        self.0.put_files(workspace, files).await
    }

    async fn open_file(&self, workspace: WorkspaceId, path: &FilePath) -> Result<FoundFile, FileError> {
        self.0.open_file(workspace, path).await
    }
}
