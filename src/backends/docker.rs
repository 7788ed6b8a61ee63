//! The Docker adapter: each workspace is a container on one engine, 20.10 or newer.
//!
//! It decides nothing. It answers *running*, *not there* or *unknown*, and *not there* only where the engine itself said
//! so, about that very id, and has proved that it is the engine. Every call is bounded ([`engine`]), every error classified
//! ([`errors`]), and a mutation without an answer is looked for before anything is issued again ([`provision`]). What is
//! ours is known by its labels ([`names`]); containers have restart policy `no`, since there is one supervisor.
//!
//! The engine's client is used here and nowhere else.

use std::path::PathBuf;
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

use crate::backends::environment::CommonEnvironment;
use crate::config::TierLimits;
use crate::runtimes::Runtimes;

mod build;
mod engine;
mod errors;
mod files;
mod inside;
mod logs;
mod names;
mod network;
mod observe;
mod provision;
mod remove;
mod settle;
mod spec;
mod tiers;
mod watch;

pub use build::ImageEngine;
pub use engine::DEFAULT_SOCKET;

/// What the adapter needs to know.
#[derive(Clone, Debug)]
pub struct DockerConfig {
    /// `DOCKER_HOST`: `unix://…` or `tcp://…`; `None` is [`DEFAULT_SOCKET`].
    pub host: Option<String>,
    /// This platform's own id: tells platforms on one engine apart. Must never change for a data directory.
    pub instance: String,
    /// The network of the workspaces; created if missing.
    pub network: String,
    /// The highest tier, 3 or 4, whose privileges are granted.
    pub privileged_tier_max: Option<u8>,
    /// Limits of tiers 2, 3 and 4, in this order.
    pub limits: [TierLimits; 3],
    /// What every workspace's environment has.
    pub environment: CommonEnvironment,
    /// What runtimes stand for.
    pub runtimes: Arc<Runtimes>,
    /// The directory of templates, if there is one.
    pub templates: Option<PathBuf>,
    /// The platform's data directory: ends of removed containers' logs are kept below it.
    pub data_dir: PathBuf,
}

/// The adapter. Holds no connection and no state about containers: the engine and its labels are the truth.
#[derive(Debug)]
pub struct DockerBackend {
    config: DockerConfig,
    engine: engine::Engine,
    /// Held while the workspaces' network is looked for and made.
    network: tokio::sync::Mutex<()>,
}

impl DockerBackend {
    /// An adapter for the engine that the configuration names. Asks it nothing yet.
    pub fn new(config: DockerConfig) -> Self {
        let engine = engine::Engine::new(config.host.as_deref());
        Self { config, engine, network: tokio::sync::Mutex::default() }
    }

    /// Whether an engine answers there, within seconds.
    ///
    /// # Errors
    /// What was said instead.
    pub async fn check(&self) -> Result<(), BackendError> {
        Ok(self.engine.ask_identity().await?)
    }
}

#[async_trait]
impl Backend for DockerBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::Docker
    }

    async fn provision(&self, spec: &ProvisionSpec) -> Result<Provisioned, ProvisionError> {
        self.start_generation(spec).await
    }

    async fn find(&self, workspace: WorkspaceId, generation: Generation) -> Inspection {
        self.look_for(workspace, generation).await
    }

    async fn inspect(&self, _workspace: WorkspaceId, instance: &InstanceRef) -> Inspection {
        self.look_at(instance).await
    }

    async fn list(&self) -> Result<Vec<Listed>, BackendError> {
        let found = self.containers_of(None).await?;
        Ok(found.into_iter().filter_map(|container| self.listed(container)).collect())
    }

    async fn stop(
        &self,
        workspace: WorkspaceId,
        generation: Generation,
        grace: Duration,
    ) -> Result<(), BackendError> {
        Ok(self.stop_up_to(workspace, generation, grace).await?)
    }

    async fn purge(&self, workspace: WorkspaceId) -> Result<(), BackendError> {
        Ok(self.remove_everything(workspace).await?)
    }

    async fn remove_stranger(&self, instance: &InstanceRef) -> Result<(), BackendError> {
        self.remove_foreign(instance).await
    }

    async fn watch(&self, signals: mpsc::Sender<Signal>) {
        self.watch_engine(signals).await;
    }

    async fn logs(&self, workspace: WorkspaceId, query: LogQuery) -> Result<LogStream, BackendError> {
        self.output(workspace, query).await
    }

    async fn put_files(&self, workspace: WorkspaceId, files: Vec<NewFile>) -> Result<(), FileError> {
        self.put_inside(workspace, files).await
    }

    async fn open_file(&self, workspace: WorkspaceId, path: &FilePath) -> Result<FoundFile, FileError> {
        self.open_inside(workspace, path).await
    }
}
