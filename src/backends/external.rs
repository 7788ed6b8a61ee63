//! External workspaces (R50): somebody else's machine. Nothing of ours runs, so there is nothing to start, look at or
//! stop; heartbeats are the only sign of life, and what this adapter is asked about them is *unknown*.

use std::time::Duration;

use async_trait::async_trait;
use covalence_actors::effect::{
    Backend, BackendError, Inspection, Listed, LogQuery, LogStream, ProvisionError, ProvisionSpec,
    Provisioned, Signal,
};
use covalence_events::workspace::{BackendKind, InstanceRef};
use covalence_events::{Generation, WorkspaceId};
use tokio::sync::mpsc;

/// The adapter. Stateless.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExternalBackend;

fn nothing_of_ours(what: &str) -> BackendError {
    BackendError {
        code: "external",
        detail: format!("an external workspace runs on somebody else's machine: {what}"),
    }
}

#[async_trait]
impl Backend for ExternalBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::External
    }

    async fn provision(&self, _spec: &ProvisionSpec) -> Result<Provisioned, ProvisionError> {
        Ok(Provisioned { instance: None, url: None, withheld: Vec::new(), image: None })
    }

    async fn find(&self, _workspace: WorkspaceId, _generation: Generation) -> Inspection {
        Inspection::Unknown(nothing_of_ours("only its heartbeats tell whether it lives"))
    }

    async fn inspect(&self, _workspace: WorkspaceId, _instance: &InstanceRef) -> Inspection {
        Inspection::Unknown(nothing_of_ours("only its heartbeats tell whether it lives"))
    }

    async fn list(&self) -> Result<Vec<Listed>, BackendError> {
        Ok(Vec::new())
    }

    async fn stop(
        &self,
        _workspace: WorkspaceId,
        _generation: Generation,
        _grace: Duration,
    ) -> Result<(), BackendError> {
        Ok(())
    }

    async fn purge(&self, _workspace: WorkspaceId) -> Result<(), BackendError> {
        Ok(())
    }

    async fn remove_stranger(&self, _instance: &InstanceRef) -> Result<(), BackendError> {
        Err(nothing_of_ours("there is no instance to remove"))
    }

    async fn watch(&self, signals: mpsc::Sender<Signal>) {
        signals.closed().await;
    }

    async fn logs(&self, _workspace: WorkspaceId, _query: LogQuery) -> Result<LogStream, BackendError> {
        Err(nothing_of_ours("its output is there, not here"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn looking_at_an_external_workspace_proves_nothing() {
        let backend = ExternalBackend;
        let id = WorkspaceId::generate();
        assert!(
            matches!(backend.find(id, Generation(1)).await, Inspection::Unknown(error) if error.code == "external")
        );
        assert_eq!(backend.list().await, Ok(Vec::new()));
        assert_eq!(backend.stop(id, Generation(1), Duration::ZERO).await, Ok(()));
    }
}
