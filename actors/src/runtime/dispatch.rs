//! Carries out effects: the only place that calls a port.
//!
//! Work on one workspace's instance runs in the order in which it was asked for, one at a time (its *lane*); lanes run
//! side by side, as many starts at once as the backends bear. Every result goes back as a `Record…` command. Work is
//! done at least once: what a crash interrupts is found again in the state, and a start first looks whether what it is
//! to start already runs.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use covalence_events::workspace::{BackendKind, TokenPurpose};
use covalence_events::{CorrelationId, Generation, WorkspaceId};
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

use super::token::mint;
use super::{CommandError, Runtime, Shared};
use crate::context::Origin;
use crate::effect::{Backend, Inspection, ProvisionError, ProvisionSpec, Provisioned, Secret};
use crate::fleet;
use crate::workspace::command::ProvisionFailure;
use crate::workspace::state::{Instance, State};
use crate::workspace::{self, Command};

/// Starts at once; engines get no faster beyond about four (measured), only less responsive.
const STARTS_AT_ONCE: usize = 4;
/// How often a start asks whether it already runs, while the backend can't say.
const FIND_TRIES: u32 = 3;
/// The pause between those.
const FIND_PAUSE: Duration = Duration::from_secs(2);
/// A message to another actor is tried again after this, doubling up to the cap, until the platform goes down.
const RETRY_BASE: Duration = Duration::from_millis(50);
/// See [`RETRY_BASE`].
const RETRY_CAP: Duration = Duration::from_secs(5);

/// Something to be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Work {
    /// For a workspace.
    Workspace { workspace: WorkspaceId, effect: workspace::Effect },
    /// For the fleet's supervisor.
    Fleet(fleet::Effect),
}

#[derive(Debug)]
struct Job {
    effect: workspace::Effect,
    correlation: CorrelationId,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Dispatch {
    lanes: Mutex<HashMap<WorkspaceId, VecDeque<Job>>>,
    starts: Semaphore,
}

impl Default for Dispatch {
    fn default() -> Self {
        Self { lanes: Mutex::default(), starts: Semaphore::new(STARTS_AT_ONCE) }
    }
}

impl Dispatch {
    /// Queues work on a lane; `true` if the lane was idle and needs somebody to walk it.
    fn push(&self, workspace: WorkspaceId, job: Job) -> bool {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get_mut(&workspace) {
            lane.push_back(job);
            return false;
        }
        lanes.insert(workspace, VecDeque::from([job]));
        true
    }

    fn next(&self, workspace: WorkspaceId) -> Option<Job> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let job = lanes.get_mut(&workspace).and_then(VecDeque::pop_front);
        if job.is_none() {
            lanes.remove(&workspace);
        }
        job
    }
}

impl Runtime {
    pub(super) fn work(&self, work: Work, correlation: CorrelationId) {
        match work {
            Work::Workspace { workspace, effect } => self.work_for(workspace, effect, correlation),
            Work::Fleet(effect) => self.tell(effect, correlation),
        }
    }

    fn work_for(&self, workspace: WorkspaceId, effect: workspace::Effect, correlation: CorrelationId) {
        match effect {
            workspace::Effect::RequestAdmission { restart, cause, because } => {
                let command = fleet::Command::RequestAdmission { workspace, restart, cause };
                self.insist_fleet(command, Origin::caused_by(correlation, because));
            }
            workspace::Effect::SettleRestart { restart, outcome, because } => {
                let command = fleet::Command::SettleRestart { workspace, restart, outcome };
                self.insist_fleet(command, Origin::caused_by(correlation, because));
            }
            workspace::Effect::Announce { restart, because } => {
                let origin = Origin::caused_by(correlation, because);
                self.shared.spawn(self.clone().announce(workspace, restart, origin));
            }
            effect @ (workspace::Effect::Provision { .. }
            | workspace::Effect::Stop { .. }
            | workspace::Effect::Purge { .. }) => {
                if self.shared.dispatch.push(workspace, Job { effect, correlation }) {
                    let runtime = self.clone();
                    self.shared.spawn(async move {
                        while let Some(job) = runtime.shared.dispatch.next(workspace) {
                            runtime.walk(workspace, job).await;
                        }
                    });
                }
            }
        }
    }

    async fn walk(&self, workspace: WorkspaceId, job: Job) {
        match job.effect {
            workspace::Effect::Provision { generation, because } => {
                self.provision(workspace, generation, Origin::caused_by(job.correlation, because)).await;
            }
            workspace::Effect::Stop { generation, because } => {
                self.stop_instance(workspace, generation, Origin::caused_by(job.correlation, because)).await;
            }
            workspace::Effect::Purge { .. } => self.purge(workspace).await,
            // Not work on an instance; `work_for` does without a lane for these.
            workspace::Effect::RequestAdmission { .. }
            | workspace::Effect::SettleRestart { .. }
            | workspace::Effect::Announce { .. } => {}
        }
    }

    /// Tells a workspace what the supervisor decided.
    fn tell(&self, effect: fleet::Effect, correlation: CorrelationId) {
        let runtime = self.clone();
        self.shared.spawn(async move {
            match effect {
                fleet::Effect::Grant { workspace, restart, admission, because } => {
                    let origin = Origin::caused_by(correlation, because);
                    let command = Command::RecordAdmission { restart, admission };
                    if let Err(CommandError::Rejected(_)) = runtime.insist(workspace, command, &origin).await
                    {
                        // Nobody waits for it any more: the slot must not stay taken.
                        let outcome = covalence_events::fleet::RestartOutcome::Abandoned;
                        runtime.insist_fleet(
                            fleet::Command::SettleRestart { workspace, restart, outcome },
                            origin,
                        );
                    }
                }
                fleet::Effect::Deny { workspace, restart, rule, message, because } => {
                    let command = Command::RecordSuppression { restart, rule, message };
                    let _ =
                        runtime.insist(workspace, command, &Origin::caused_by(correlation, because)).await;
                }
            }
        });
    }

    async fn provision(&self, workspace: WorkspaceId, generation: Generation, origin: Origin) {
        let Some(state) = self.peek(workspace).await.filter(|state| is_starting(state, generation)) else {
            debug!(%workspace, %generation, "a start was overtaken");
            return;
        };
        let Some(backend) = self.shared.backend(state.profile.backend) else {
            let error = ProvisionError {
                code: "backend_missing",
                message: format!(
                    "this workspace needs the {} backend, which this server does not run",
                    state.profile.backend.as_str()
                ),
                retryable: false,
                command: None,
            };
            return self.provision_failed(workspace, generation, error, &origin).await;
        };
        let Ok(_slot) = self.shared.dispatch.starts.acquire().await else { return };
        match self.start_instance(&*backend, &state, &origin).await {
            Ok(provisioned) => {
                info!(%workspace, %generation, "instance started");
                let command = Command::RecordProvisioned { generation, provisioned };
                let _ = self.insist(workspace, command, &origin).await;
            }
            Err(Failure::Overtaken) => debug!(%workspace, %generation, "a start was overtaken"),
            Err(Failure::Failed(error)) => {
                self.provision_failed(workspace, generation, error, &origin).await;
            }
        }
    }

    /// Adopts what runs already, or starts it with a token of its own.
    async fn start_instance(
        &self,
        backend: &dyn Backend,
        state: &State,
        origin: &Origin,
    ) -> Result<Provisioned, Failure> {
        for attempt in 1..=FIND_TRIES {
            match backend.find(state.id, state.generation).await {
                Inspection::Running(provisioned) => return Ok(provisioned),
                Inspection::NotThere { .. } => break,
                Inspection::Unknown(error) if attempt == FIND_TRIES => {
                    debug!(workspace = %state.id, %error, "the backend can't say whether it already runs");
                }
                Inspection::Unknown(_) => tokio::time::sleep(FIND_PAUSE).await,
            }
        }
        let (text, token) = mint(TokenPurpose::Provision, Some(state.generation));
        self.insist(state.id, Command::RecordProvisionToken(token), origin)
            .await
            .map_err(|_| Failure::Overtaken)?;
        let spec = spec(state, text);
        backend.provision(&spec).await.map_err(Failure::Failed)
    }

    async fn provision_failed(
        &self,
        workspace: WorkspaceId,
        generation: Generation,
        error: ProvisionError,
        origin: &Origin,
    ) {
        warn!(%workspace, %generation, code = error.code, error = error.message, "instance not started");
        let failure = ProvisionFailure {
            generation,
            code: error.code.to_owned(),
            message: error.message,
            retryable: error.retryable,
            command: error.command,
        };
        let _ = self.insist(workspace, Command::RecordProvisionFailed(failure), origin).await;
    }

    pub(super) async fn stop_instance(&self, workspace: WorkspaceId, generation: Generation, origin: Origin) {
        let Some(state) = self.peek(workspace).await else { return };
        let Some(backend) = self.shared.backend(state.profile.backend) else { return };
        let command = match backend.stop(workspace, generation, self.shared.settings.policy.stop_grace).await
        {
            Ok(()) => Command::RecordStopped { generation },
            Err(error) => {
                warn!(%workspace, %generation, %error, "instance not stopped");
                Command::RecordStopFailed { generation, message: error.to_string() }
            }
        };
        let _ = self.insist(workspace, command, &origin).await;
    }

    async fn purge(&self, workspace: WorkspaceId) {
        let Some(state) = self.peek(workspace).await else { return };
        let Some(backend) = self.shared.backend(state.profile.backend) else { return };
        if let Err(error) = backend.purge(workspace).await {
            warn!(%workspace, %error, "leftovers of a removed workspace were not removed");
        }
    }

    /// Sends a command until it is taken; only a decision of the domain or the platform's end stops it.
    pub(super) async fn insist(
        &self,
        workspace: WorkspaceId,
        command: Command,
        origin: &Origin,
    ) -> Result<super::Receipt, CommandError> {
        let mut pause = RETRY_BASE;
        loop {
            match self.command(workspace, command.clone(), origin.clone()).await {
                Err(CommandError::Busy { .. }) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_CAP);
                }
                other => {
                    if let Err(
                        error @ (CommandError::LogUnavailable { .. } | CommandError::Panicked { .. }),
                    ) = &other
                    {
                        warn!(%workspace, command = command.name(), %error, "an outcome was not recorded");
                    }
                    return other;
                }
            }
        }
    }

    pub(super) fn insist_fleet(&self, command: fleet::Command, origin: Origin) {
        let runtime = self.clone();
        self.shared.spawn(async move {
            let mut pause = RETRY_BASE;
            while let Err(CommandError::Busy { .. }) = runtime.fleet(command.clone(), origin.clone()).await {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_CAP);
            }
        });
    }
}

enum Failure {
    /// The start is not wanted any more.
    Overtaken,
    Failed(ProvisionError),
}

fn is_starting(state: &State, generation: Generation) -> bool {
    state.generation == generation && matches!(state.instance, Instance::Starting { .. })
}

fn spec(state: &State, token: Secret) -> ProvisionSpec {
    let reset_session = matches!(state.instance, Instance::Starting { reset_session: true, .. });
    let profile = &state.profile;
    ProvisionSpec {
        workspace: state.id,
        generation: state.generation,
        name: profile.name.clone(),
        role: profile.role.clone(),
        tier: profile.tier,
        runtime: profile.runtime.clone(),
        model: profile.model.clone(),
        template: profile.template.clone(),
        parent: profile.parent,
        workspace_dir: profile.workspace_dir.clone(),
        workspace_access: profile.workspace_access,
        reset_session,
        token,
    }
}

impl Shared {
    fn backend(&self, kind: BackendKind) -> Option<Arc<dyn Backend>> {
        self.backends.get(&kind).cloned()
    }
}
