//! Carries out effects: the only place that calls a port.
//!
//! Work on one workspace's instance runs in the order in which it was asked for, one at a time (its *lane*); lanes run
//! side by side, as many starts at once as the backends bear. Every result goes back as a `Record…` command. Work is
//! done at least once: what a crash interrupts is found again in the state, and a start first looks whether what it is
//! to start already runs.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use covalence_events::fleet::ProvisionLimitChanged;
use covalence_events::flight::Call;
use covalence_events::workspace::{BackendKind, InstanceRef, TokenPurpose};
use covalence_events::{CorrelationId, Generation, Principal, RestartId, WorkspaceId};
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

use super::starts::Starts;
use super::token::mint;
use super::{CommandError, Runtime, Shared};
use crate::context::Origin;
use crate::effect::{Backend, BackendError, Inspection, ProvisionError, ProvisionSpec, Provisioned, Secret};
use crate::fleet;
use crate::policy::Policy;
use crate::workspace::command::ProvisionFailure;
use crate::workspace::state::{Instance, State};
use crate::workspace::{self, Command};

/// Fresh looks at instances whose restart was admitted, at once; more only queue in the engine.
const CONFIRMS_AT_ONCE: usize = 2;
/// How often such a look is repeated while the backend can't say.
const CONFIRM_TRIES: u32 = 3;
/// The pause between those.
const CONFIRM_PAUSE: Duration = Duration::from_secs(5);
/// How often a start asks whether it already runs, while the backend can't say.
const FIND_TRIES: u32 = 3;
/// The pause between those.
const FIND_PAUSE: Duration = Duration::from_secs(2);

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
    starts: Starts,
    confirms: Semaphore,
}

impl Default for Dispatch {
    fn default() -> Self {
        Self {
            lanes: Mutex::default(),
            starts: Starts::default(),
            confirms: Semaphore::new(CONFIRMS_AT_ONCE),
        }
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

    /// Whether one more start would find room in the queue.
    pub(super) fn has_room(&self, starts: (BackendKind, u32), policy: &Policy) -> bool {
        self.starts.has_room(starts, policy)
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
            Work::Fleet(fleet::Effect::RecordFlight(due)) => self.record_flight(due, correlation),
            Work::Fleet(effect) => self.tell(effect, correlation),
        }
    }

    fn work_for(&self, workspace: WorkspaceId, effect: workspace::Effect, correlation: CorrelationId) {
        match effect {
            workspace::Effect::RequestAdmission { restart, cause, forced, because } => {
                let command = fleet::Command::RequestAdmission { workspace, restart, cause, forced };
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
            workspace::Effect::ProveRestart { restart, because } => {
                let command = fleet::Command::ProveRestart { workspace, restart };
                self.insist_fleet(command, Origin::caused_by(correlation, because));
            }
            workspace::Effect::Confirm { restart, generation, instance, because } => {
                let (runtime, origin) = (self.clone(), Origin::caused_by(correlation, because));
                self.shared.spawn(async move {
                    runtime.confirm((workspace, restart), generation, instance, origin).await;
                });
            }
            workspace::Effect::Drain { restart, because } => {
                self.drain(workspace, restart, Origin::caused_by(correlation, because));
            }
            effect @ (workspace::Effect::Delegate { .. }
            | workspace::Effect::ReturnTask { .. }
            | workspace::Effect::ServeQueue { .. }
            | workspace::Effect::PassAgent { .. }) => self.run_errand(workspace, effect, correlation),
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
            | workspace::Effect::Drain { .. }
            | workspace::Effect::ProveRestart { .. }
            | workspace::Effect::Announce { .. }
            | workspace::Effect::Delegate { .. }
            | workspace::Effect::ReturnTask { .. }
            | workspace::Effect::PassAgent { .. }
            | workspace::Effect::ServeQueue { .. }
            | workspace::Effect::Confirm { .. } => {}
        }
    }

    /// Tells a workspace what the supervisor decided.
    fn tell(&self, effect: fleet::Effect, correlation: CorrelationId) {
        if let fleet::Effect::SpreadSecrets { because, fresh } = effect {
            return self.spread_secrets(because, fresh, Origin::caused_by(correlation, because));
        }
        let Some((workspace, command, because)) = effect.command() else { return };
        let granted =
            if let Command::RecordAdmission { restart, .. } = command { Some(restart) } else { None };
        let (runtime, origin) = (self.clone(), Origin::caused_by(correlation, because));
        self.shared.spawn(async move {
            let told = runtime.insist(workspace, command, &origin).await;
            if let (Some(restart), Err(CommandError::Rejected(_))) = (granted, told) {
                // Nobody waits for it any more: the slot must not stay taken.
                let outcome = covalence_events::fleet::RestartOutcome::Abandoned;
                runtime.insist_fleet(fleet::Command::SettleRestart { workspace, restart, outcome }, origin);
            }
        });
    }

    async fn provision(&self, workspace: WorkspaceId, generation: Generation, origin: Origin) {
        let Some(state) = self.peek(workspace).await.filter(|state| state.is_starting(generation)) else {
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
        let (kind, policy) = (backend.kind(), self.shared.sight.policy());
        let admitted = state.restart.is_some();
        let Ok(_slot) = self.shared.dispatch.starts.enter(kind, &policy.0, admitted).await else {
            return self.provision_failed(workspace, generation, shed(), &origin).await;
        };
        let begun = Instant::now();
        let started = self.start_instance(&*backend, &state, &origin).await;
        self.learn(kind, &started, begun.elapsed());
        match started {
            Err(Failure::Failed(error)) if error.code == ProvisionError::OUTCOME_UNKNOWN => {
                warn!(%workspace, %generation, error = error.message, "outcome of a start unknown");
                self.outcome_unknown(workspace, generation, ("provision", error.message), &origin).await;
            }
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
                    if state.may_have_started() {
                        return Err(Failure::Failed(interrupted(&error)));
                    }
                    debug!(workspace = %state.id, %error, "the backend can't say whether it already runs");
                }
                Inspection::Unknown(_) => tokio::time::sleep(FIND_PAUSE).await,
            }
        }
        self.end_drained(backend, state).await;
        let (text, token) = mint(TokenPurpose::Provision, Some(state.generation));
        self.insist(state.id, Command::RecordProvisionToken(token), origin)
            .await
            .map_err(|_| Failure::Overtaken)?;
        let spec =
            ProvisionSpec { secrets: self.secrets_of(state).map_err(Failure::Failed)?, ..spec(state, text) };
        backend.provision(&spec).await.map_err(Failure::Failed)
    }

    /// What was drained is still there, and gets the time that the policy gives it from SIGTERM to SIGKILL; a start by
    /// itself would clear it away in the backend's own time. If this fails, the start says why.
    async fn end_drained(&self, backend: &dyn Backend, state: &State) {
        let replaced = state.restart.as_ref().filter(|pending| pending.is_graceful());
        if let (Some(_), Some(before)) = (replaced, state.generation.0.checked_sub(1)) {
            let grace = self.shared.sight.policy().0.stop_grace;
            if let Err(error) = backend.stop(state.id, Generation(before), grace).await {
                debug!(workspace = %state.id, %error, "what is replaced was not stopped before the start");
            }
        }
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

    /// What a start says about the engine: its observer hears of it, and the number of starts at once follows.
    fn learn(&self, kind: BackendKind, started: &Result<Provisioned, Failure>, took: Duration) {
        let trouble = match started {
            Ok(_) => false,
            Err(Failure::Failed(error)) if ENGINE_TROUBLE.contains(&error.code) => true,
            // Says something about this workspace, nothing about the engine.
            Err(Failure::Failed(_) | Failure::Overtaken) => return,
        };
        self.called(kind, Call::Start, trouble, took);
        self.adapt(kind, !trouble);
    }

    /// The number of starts at once follows how an engine bears what it is asked.
    pub(super) fn adapt(&self, kind: BackendKind, well: bool) {
        let policy = self.shared.sight.policy();
        if let Some((from, to)) = self.shared.dispatch.starts.learn(kind, &policy.0, well) {
            let reason = if well { "going_well" } else { "engine_trouble" };
            let changed = ProvisionLimitChanged { cell: kind, from, to, reason: reason.to_owned() };
            self.insist_fleet(fleet::Command::RecordProvisionLimit(changed), Origin::new(Principal::System));
        }
    }

    async fn outcome_unknown(
        &self,
        workspace: WorkspaceId,
        generation: Generation,
        (operation, detail): (&'static str, String),
        origin: &Origin,
    ) {
        let command = Command::RecordOutcomeUnknown { generation, operation, detail };
        let _ = self.insist(workspace, command, origin).await;
    }

    /// One fresh look at the instance of an admitted restart, repeated while the backend can't say (rule V4).
    async fn confirm(
        &self,
        (workspace, restart): (WorkspaceId, RestartId),
        generation: Generation,
        instance: InstanceRef,
        origin: Origin,
    ) {
        let Some(state) = self.peek(workspace).await else { return };
        let Some(backend) = self.shared.backend(state.profile.backend) else { return };
        loop {
            let Ok(slot) = self.shared.dispatch.confirms.acquire().await else { return };
            let inspection = self.look_closely(&*backend, workspace, &instance).await;
            drop(slot);
            let evidence = Box::new(crate::watch::looked(&inspection, generation, &instance));
            let url = match inspection {
                Inspection::Running(provisioned) => provisioned.url,
                Inspection::NotThere { .. } | Inspection::Unknown(_) => None,
            };
            let command = Command::RecordConfirmed { restart, evidence, url };
            match self.offer(workspace, command, &origin).await {
                // What was seen is not fresh any more when it can be recorded.
                Err(error) if error.passes_after().is_some() => self.log_opens().await,
                Ok(_) | Err(_) => return,
            }
        }
    }

    async fn look_closely(
        &self,
        backend: &dyn Backend,
        workspace: WorkspaceId,
        instance: &InstanceRef,
    ) -> Inspection {
        let mut tries = 1;
        loop {
            let begun = Instant::now();
            let limit = self.patience(backend.kind());
            let inspection = super::observer::inspect_within(backend, workspace, instance, limit).await;
            let failed = matches!(inspection, Inspection::Unknown(_));
            self.called(backend.kind(), Call::Confirm, failed, begun.elapsed());
            if !failed || tries == CONFIRM_TRIES {
                return inspection;
            }
            tries += 1;
            tokio::time::sleep(CONFIRM_PAUSE).await;
        }
    }

    pub(super) async fn stop_instance(&self, workspace: WorkspaceId, generation: Generation, origin: Origin) {
        let Some(state) = self.peek(workspace).await else { return };
        let Some(backend) = self.shared.backend(state.profile.backend) else { return };
        let grace = self.shared.sight.policy().0.stop_grace;
        let command = match backend.stop(workspace, generation, grace).await {
            Ok(()) => Command::RecordStopped { generation },
            Err(error) if error.code == "timeout" => {
                warn!(%workspace, %generation, %error, "outcome of a stop unknown");
                let (operation, detail) = ("stop", error.to_string());
                Command::RecordOutcomeUnknown { generation, operation, detail }
            }
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
}

/// Codes that say something about the engine rather than about the workspace.
const ENGINE_TROUBLE: &[&str] = &[ProvisionError::OUTCOME_UNKNOWN, "engine_unavailable"];

/// The engine is given more than it bears.
fn shed() -> ProvisionError {
    ProvisionError {
        code: "shed",
        message: "too many workspaces wait to be started on this engine: try again in a few minutes"
            .to_owned(),
        retryable: true,
        command: None,
    }
}

/// A run of the platform that ended may have asked for this start, and nothing else is asked for until a list tells (rule V6).
fn interrupted(error: &BackendError) -> ProvisionError {
    ProvisionError {
        code: ProvisionError::OUTCOME_UNKNOWN,
        message: format!(
            "asked for before the platform was started again, and the engine can't say: {error}"
        ),
        retryable: true,
        command: None,
    }
}

enum Failure {
    /// The start is not wanted any more.
    Overtaken,
    Failed(ProvisionError),
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
        secrets: Vec::new(),
    }
}

impl Shared {
    fn backend(&self, kind: BackendKind) -> Option<Arc<dyn Backend>> {
        self.backends.get(&kind).cloned()
    }
}
