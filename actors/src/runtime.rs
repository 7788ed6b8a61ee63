//! The machinery that runs decisions: actors, mailboxes, dispatch, observer. The only place that names actix or spawns.
//!
//! [`Runtime`] is what the edge holds. It routes commands to the mailbox of the workspace's actor, hands out permits for
//! A2A calls, and takes part in an orderly shutdown.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::prelude::SendError;
use actix::{Actor, Addr, Arbiter, ArbiterHandle};
use covalence_events::log::EventLog;
use covalence_events::pulse::Pulse;
use covalence_events::vault::Vault;
use covalence_events::workspace::BackendKind;
use covalence_events::{
    BootId, CorrelationId, Fact, Position, Principal, StreamId, WorkspaceId, fleet as fleet_events,
};
use rand::Rng;
use tokio::sync::{broadcast, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::{Context, Origin};
use crate::effect::{AgentChannel, Backend, Clock};
use crate::policy::Policy;
use crate::workspace::state::Instance;
use crate::workspace::{Command, Rejection, State};
use crate::{fleet, workspace};

mod announce;
mod answers;
mod assignment;
mod cell;
mod deadlines;
mod delegations;
mod diary;
mod dispatch;
mod domain;
mod drain;
mod flight;
mod insist;
pub mod metrics_names;
mod observer;
mod outcomes;
mod owed;
mod permits;
mod queue;
pub mod recovery;
mod registry;
mod secrets;
mod sight;
mod starts;
mod strain;
pub mod token;
mod watchdog;

#[cfg(test)]
mod tests;

pub use answers::{CallReport, CommandError, Examined, PermitRefused, PermitRequest, Receipt, Restarted};
#[cfg(feature = "test-support")]
pub use flight::FullOfBeats;
pub use permits::Permit;
pub use recovery::Recovery;
pub use watchdog::STUCK_AFTER;

use cell::{Cell, Do, Done};
use dispatch::{Dispatch, Work};
use domain::{Domain, Fleet};
use outcomes::Outcomes;
use registry::Registry;

#[cfg(all(feature = "fault-hooks", not(debug_assertions)))]
compile_error!(
    "`fault-hooks` makes handlers panic on purpose: it is for tests and never part of a release build"
);

/// What a caller is told to wait when a mailbox or the log's queue is full.
const BUSY_RETRY_AFTER: Duration = Duration::from_secs(1);
/// What was refused because the log takes no facts is tried again after this: the log looks for room twice a second.
const LOG_RETRY_AFTER: Duration = Duration::from_secs(2);
/// Decisions that somebody who waits for one of them may lag behind.
const DECISIONS_KEPT: usize = 256;
/// How long a person's restart waits for the supervisor's word before it is answered with "waiting".
const DECISION_WAIT: Duration = Duration::from_secs(2);
/// How long a shutdown waits for work under way; what is cut off is found again in the state at the next start.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// What the runtime is built from.
#[derive(Debug)]
pub struct Ports {
    /// Where facts go.
    pub log: Arc<dyn EventLog>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What runs workspaces.
    pub backends: HashMap<BackendKind, Arc<dyn Backend>>,
    /// What opens secrets for whom they belong to.
    pub vault: Vault,
    /// How agents are told what the platform has to say.
    pub channel: Arc<dyn AgentChannel>,
    /// Where dispatch and observers run, apart from the actors.
    pub tasks: tokio::runtime::Handle,
    /// Loops of others that are watched together with the runtime's own.
    pub pulses: Vec<Arc<Pulse>>,
}

/// Numbers of the machinery.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The supervision policy.
    pub policy: Policy,
    /// Threads that actors are spread over.
    pub arbiters: usize,
    /// Commands that wait in one mailbox; more are answered with busy. An agent sends a handful a minute, a busy one is
    /// called by a few hundred callers at once.
    pub mailbox_capacity: usize,
    /// How long a delegated task waits for a workspace that is away.
    pub away_patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            arbiters: 1,
            mailbox_capacity: 1024,
            // R57.
            away_patience: Duration::from_secs(5 * 60),
        }
    }
}

#[derive(Debug)]
struct Shared {
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    backends: HashMap<BackendKind, Arc<dyn Backend>>,
    channel: Arc<dyn AgentChannel>,
    vault: Vault,
    settings: Settings,
    boot: BootId,
    sight: sight::Sight,
    strain: strain::Strain,
    recorder: flight::Recorder,
    ears: HashMap<BackendKind, observer::Ear>,
    registry: Registry,
    fleet: OnceLock<Addr<Cell<Fleet>>>,
    dispatch: Dispatch,
    errands: delegations::Errands,
    served: queue::Served,
    outcomes: Outcomes,
    /// Heartbeats in the log's queue.
    queued: Arc<AtomicUsize>,
    deadlines: Arc<deadlines::Deadlines>,
    arbiters: Vec<ArbiterHandle>,
    decide_seconds: metrics::Histogram,
    /// What the supervisor says to each wish for a restart, for whoever waits for one of them.
    decisions: broadcast::Sender<Restarted>,
    pulses: Vec<Arc<Pulse>>,
    tasks: tokio::runtime::Handle,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Shared {
    /// Runs something with the surroundings of one decision.
    fn in_context<T>(
        &self,
        origin: &Origin,
        cell: Option<BackendKind>,
        decide: impl FnOnce(&Context<'_>) -> T,
    ) -> T {
        let (policy, now) = (self.sight.policy(), self.clock.now());
        decide(&Context {
            now,
            boot: self.boot,
            origin,
            policy: &policy.0,
            policy_hash: policy.1,
            observer: self.sight.view(cell, now.at),
            stopped: self.sight.is_stopped(),
            roster: &self.registry,
            ids: uuid::Uuid::now_v7(),
            chance: rand::rng().random(),
        })
    }

    /// Spawns a task that ends with the platform; a shutdown waits for it for a while.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        let task = self.tracker.track_future(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
        drop(self.tasks.spawn(task));
    }

    fn arbiter(&self, stream: StreamId) -> &ArbiterHandle {
        let spread = match stream {
            StreamId::Workspace(id) => id.0.as_u128() as usize,
            StreamId::Fleet => 0,
        };
        &self.arbiters[spread % self.arbiters.len()]
    }
}

/// The write side's handle: cheap to clone, safe to share between threads.
#[derive(Clone, Debug)]
pub struct Runtime {
    shared: Arc<Shared>,
}

impl Runtime {
    /// Starts actors over what is known, resumes what a crash interrupted, and begins to observe.
    ///
    /// `facts` are recorded first in the fleet's stream: the platform's start, and a repair of the log if there was one.
    pub async fn start(
        recovery: Recovery,
        ports: Ports,
        settings: Settings,
        facts: Vec<fleet::Command>,
    ) -> Result<Self, CommandError> {
        let (mut ears, mut observers) = (HashMap::new(), Vec::new());
        for (kind, backend) in &ports.backends {
            let (ear, answers) = observer::ear();
            ears.insert(*kind, ear.clone());
            observers.push((Arc::clone(backend), Pulse::new(watchdog::observer(*kind)), ear, answers));
        }
        let [deadlining, recording, watching] = ["deadlines", "outcomes", "watchdog"].map(Pulse::new);
        let mut pulses = ports.pulses;
        pulses.extend(observers.iter().map(|(_, pulse, ..)| Arc::clone(pulse)));
        pulses.extend([&deadlining, &recording, &watching].map(Arc::clone));
        let arbiters = (0..settings.arbiters.max(1)).map(|_| Arbiter::new().handle()).collect();
        let shared = Arc::new(Shared {
            sight: sight::Sight::new(ports.clock.now().at, settings.policy.clone()),
            strain: strain::Strain::default(),
            recorder: flight::Recorder::new(ports.clock.now().at),
            ears,
            log: ports.log,
            clock: ports.clock,
            backends: ports.backends,
            channel: ports.channel,
            vault: ports.vault,
            settings,
            boot: BootId::generate(),
            registry: Registry::default(),
            fleet: OnceLock::new(),
            dispatch: Dispatch::default(),
            errands: delegations::Errands::default(),
            served: queue::Served::default(),
            outcomes: Outcomes::default(),
            queued: Arc::default(),
            deadlines: Arc::default(),
            arbiters,
            decide_seconds: metrics::histogram!(metrics_names::DECIDE_SECONDS),
            decisions: broadcast::Sender::new(DECISIONS_KEPT),
            pulses,
            tasks: ports.tasks,
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        let runtime = Self { shared };
        let returning = recovery.returning();
        let outstanding = runtime.populate(recovery);
        let configured = fleet::Command::Configure(Box::new(runtime.shared.settings.policy.clone()));
        for command in [configured].into_iter().chain(facts) {
            runtime.fleet(command, Origin::new(Principal::System)).await?;
        }
        let deadlines = Arc::clone(&runtime.shared.deadlines);
        runtime.shared.spawn(deadlines.run(Arc::clone(&runtime.shared.clock), deadlining));
        let shared = Arc::clone(&runtime.shared);
        runtime.shared.spawn(async move { shared.outcomes.run(&shared.registry, &recording).await });
        for work in outstanding {
            runtime.work(work, CorrelationId::generate());
        }
        runtime.shared.spawn(runtime.clone().bring_back(returning));
        for (backend, pulse, ear, answers) in observers {
            runtime.shared.spawn(runtime.clone().observe(backend, pulse, ear, answers));
        }
        runtime.shared.spawn(runtime.clone().watch_loops(watching));
        Ok(runtime)
    }

    /// Asks for what went down together with the platform.
    async fn bring_back(self, returning: Vec<WorkspaceId>) {
        for id in returning {
            let _ = self.insist(id, Command::RecordPlatformStart, &Origin::new(Principal::System)).await;
        }
    }

    fn populate(&self, mut recovery: Recovery) -> Vec<Work> {
        let mut outstanding = Vec::new();
        outstanding.extend(fleet::outstanding(&recovery.fleet.0).into_iter().map(Work::Fleet));
        let known = (recovery.fleet.1.0 > 0).then(|| std::mem::take(&mut recovery.fleet));
        let cell = self.start_cell::<Fleet>(StreamId::Fleet, known);
        let _ = self.shared.fleet.set(cell);
        for (id, known) in recovery.into_workspaces() {
            let effects = workspace::outstanding(&known.0);
            outstanding.extend(effects.into_iter().map(|effect| Work::Workspace { workspace: id, effect }));
            self.shared
                .registry
                .introduce(known, |known| self.start_cell(StreamId::Workspace(id), Some(known)));
        }
        outstanding
    }

    fn start_cell<D: Domain>(
        &self,
        stream: StreamId,
        known: Option<(D::State, covalence_events::Version)>,
    ) -> Addr<Cell<D>> {
        let runtime = self.clone();
        Cell::start_in_arbiter(self.shared.arbiter(stream), move |_| Cell::new(runtime, stream, known))
    }

    /// Sends a command to a workspace's mailbox and waits until its facts are stored.
    pub async fn command(
        &self,
        id: WorkspaceId,
        command: Command,
        origin: Origin,
    ) -> Result<Receipt, CommandError> {
        let entry = match &command {
            Command::Create(_) => {
                // An actor is started for it first, which would stay for nothing.
                if let Some(shut) = self.shared.log.read_only() {
                    return Err(CommandError::LogUnavailable(shut));
                }
                self.shared.registry.get_or_start(id, || self.start_cell(StreamId::Workspace(id), None))
            }
            _ => self.shared.registry.get(id).ok_or(Rejection::NotFound)?,
        };
        let beat = matches!(command, Command::Heartbeat(_));
        let asked = ask(&entry.address, command, origin).await;
        if beat {
            self.note_beat(id, &asked);
        }
        let done = asked?;
        Ok(Receipt { position: last(&done), events: done.events, status: done.summary })
    }

    /// Restarts a workspace because a person asks, and says what the fleet's supervisor makes of it.
    pub async fn restart(
        &self,
        id: WorkspaceId,
        restart: workspace::command::Restart,
        origin: Origin,
    ) -> Result<(Receipt, Restarted), CommandError> {
        let mut decisions = self.shared.decisions.subscribe();
        let receipt = self.command(id, Command::Restart(restart), origin).await?;
        let asked = receipt.events.iter().find_map(|recorded| match &recorded.fact {
            Fact::Workspace(covalence_events::workspace::Event::RestartRequested(e)) => Some(e.restart),
            Fact::Workspace(_) | Fact::Fleet(_) => None,
        });
        let restart = asked.ok_or(Rejection::RestartNotPending)?;
        let waiting = Restarted::Waiting { restart, rule: None, until: None };
        let decided = async {
            loop {
                match decisions.recv().await {
                    Ok(decision) if decision.restart() == restart => return decision,
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return waiting.clone(),
                }
            }
        };
        let decided = tokio::time::timeout(DECISION_WAIT, decided).await;
        Ok((receipt, decided.unwrap_or_else(|_| waiting.clone())))
    }

    /// Whether so many more workspaces would find room in the queue of starts (503 otherwise).
    pub fn has_room_to_start(&self, cell: BackendKind, more: u32) -> bool {
        self.shared.dispatch.has_room((cell, more), &self.shared.sight.policy().0)
    }

    /// The supervision policy in force.
    pub fn policy(&self) -> Policy {
        self.shared.sight.policy().0.clone()
    }

    /// Sends a command to the fleet's supervisor.
    pub async fn fleet(
        &self,
        command: fleet::Command,
        origin: Origin,
    ) -> Result<Option<Position>, CommandError> {
        let fleet = self.shared.fleet.get().ok_or(CommandError::ShuttingDown)?;
        let done = ask(fleet, command, origin).await?;
        for decision in done.events.iter().filter_map(|recorded| Restarted::of(recorded)) {
            // Nobody waits most of the time.
            let _ = self.shared.decisions.send(decision);
        }
        Ok(last(&done))
    }

    /// The state of one workspace, as of its mailbox's turn.
    async fn peek(&self, id: WorkspaceId) -> Option<State> {
        let entry = self.shared.registry.get(id)?;
        entry.address.send(cell::Peek).await.ok().flatten()
    }

    /// Does work that facts asked for. While the platform goes down it is left to the next start, which finds it in the
    /// state; what a shutdown itself asks for is done by whoever shuts down.
    fn dispatch(&self, work: Work, correlation: CorrelationId) {
        if !self.shared.stop.is_cancelled() {
            self.work(work, correlation);
        }
    }

    /// Stops what should not outlive us and records the end. Workspaces run on unless `stop_workspaces`.
    pub async fn shut_down(&self, stop_workspaces: bool) {
        let stopped = fleet_events::PlatformStopped {
            reason: "signal".to_owned(),
            workspaces_stopped: stop_workspaces,
        };
        self.outcomes_recorded().await;
        let _ = self.fleet(fleet::Command::RecordStop(stopped), Origin::new(Principal::System)).await;
        // Observers and dispatch end first: what we stop now must not be taken for dead and started again.
        self.shared.stop.cancel();
        self.shared.tracker.close();
        let _ = tokio::time::timeout(SHUTDOWN_GRACE, self.shared.tracker.wait()).await;
        if stop_workspaces {
            self.stop_workspaces().await;
        }
        self.outcomes_recorded().await;
        self.shared.log.close().await;
        for arbiter in &self.shared.arbiters {
            arbiter.stop();
        }
    }

    async fn outcomes_recorded(&self) {
        if self.shared.log.read_only().is_some() {
            tracing::warn!("outcomes of calls are not recorded before the shutdown: the log takes no facts");
            return;
        }
        let recorded = self.shared.outcomes.recorded(&self.shared.registry);
        if tokio::time::timeout(SHUTDOWN_GRACE, recorded).await.is_err() {
            tracing::warn!("outcomes of calls were not recorded before the shutdown");
        }
    }

    /// Stops every instance, each with a fact that asks for it and one that says how it ended: the next start brings back
    /// what is wanted, and finishes what a kill cuts off here.
    async fn stop_workspaces(&self) {
        use futures_util::StreamExt;
        let ours =
            self.shared.registry.all().into_iter().filter_map(|(id, entry)| Some((id, entry.glance()?)));
        futures_util::stream::iter(ours.filter(|(_, glance)| glance.counts))
            .for_each_concurrent(STOPS_AT_ONCE, |(id, _)| self.stop_workspace(id))
            .await;
    }

    async fn stop_workspace(&self, id: WorkspaceId) {
        let origin = Origin::new(Principal::System);
        if let Err(error) = self.insist(id, Command::ShutDown, &origin).await {
            tracing::warn!(workspace = %id, %error, "left running: its stop could not be recorded");
            return;
        }
        let Some(state) = self.peek(id).await else { return };
        if let Instance::Stopping { requested, .. } = state.instance {
            let origin = Origin::caused_by(origin.correlation, requested);
            self.stop_instance(id, state.generation, origin).await;
        }
    }
}

/// Stops under way at once when everything is stopped.
const STOPS_AT_ONCE: usize = 8;

fn last<S>(done: &Done<S>) -> Option<Position> {
    done.events.last().map(|recorded| recorded.position)
}

async fn ask<D: Domain>(
    address: &Addr<Cell<D>>,
    command: D::Command,
    origin: Origin,
) -> Result<Done<D::Summary>, CommandError> {
    let (reply, answer) = oneshot::channel();
    address.try_send(Do { command, origin, reply }).map_err(|error| refused(&error))?;
    answer.await.map_err(|_| CommandError::ShuttingDown)?
}

fn refused<M>(error: &SendError<M>) -> CommandError {
    match error {
        SendError::Full(_) => {
            metrics::counter!(metrics_names::MAILBOX_FULL).increment(1);
            CommandError::Busy { retry_after: BUSY_RETRY_AFTER }
        }
        SendError::Closed(_) => CommandError::ShuttingDown,
    }
}
