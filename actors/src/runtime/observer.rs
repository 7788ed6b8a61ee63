//! The hands of [`Watch`]: asks the engine, reports what comes back, and leaves a view of how well it sees. Decides nothing.
//!
//! Every question runs in a task of its own with our own limit around it, so that an engine which hangs stops nobody's
//! turn: a turn that comes late says that *we* are unwell.

use std::sync::Arc;
use std::time::{Duration, Instant};

use covalence_events::flight::Call;
use covalence_events::pulse::Pulse;
use covalence_events::workspace::{BackendKind, EvidenceObserved, InstanceRef};
use covalence_events::{Generation, Principal, WorkspaceId};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::flight::Notes;
use super::owed::Owed;
use super::registry::Glance;
use super::{CommandError, Examined, Runtime, strain};
use crate::context::Origin;
use crate::effect::{AgentChannel, Backend, BackendError, Inspection, Probe};
use crate::fleet;
use crate::watch::{self, Input, Output, Watch};
use crate::workspace::Command;

/// Signals that wait to be handled; more turn into one comparison by list.
const SIGNALS_MAX: usize = 1024;
/// Answers of tasks that wait to be handled. Each task has one question under way, so this is more than there can be.
const ANSWERS_MAX: usize = 1024;
/// Signals that are handled together: deaths at once are judged at once.
const BATCH: usize = 256;
/// Callers whose calls failed within this time share one look.
const EXAMINED_FRESH: Duration = Duration::from_millis(500);

/// Where answers to an observer's questions go, and what others did with its engine.
pub(super) type Ear = mpsc::Sender<Input>;

/// An ear, and where what it hears comes out.
pub(super) fn ear() -> (Ear, mpsc::Receiver<Input>) {
    mpsc::channel(ANSWERS_MAX)
}

impl Runtime {
    /// Watches one backend until the platform goes down.
    pub(super) async fn observe(
        self,
        backend: Arc<dyn Backend>,
        pulse: Arc<Pulse>,
        ear: Ear,
        mut answers: mpsc::Receiver<Input>,
    ) {
        let cell = backend.kind();
        let (tx, mut signals) = mpsc::channel(SIGNALS_MAX);
        let watching = Arc::clone(&backend);
        self.shared.spawn(async move { watching.watch(tx).await });
        let mut watch = Watch::new(cell, self.shared.clock.now().at);
        let mut turns = tokio::time::interval(watch::TURN);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut batch, mut strain) = (Vec::new(), strain::Seen::default());
        let (mut notes, mut owed) = (Notes::new(cell), Owed::default());
        loop {
            let input = tokio::select! {
                _ = turns.tick() => {
                    self.make_up_for(&mut owed).await;
                    self.feel(&mut watch, &mut strain, &mut notes);
                    Input::Turn
                }
                got = signals.recv_many(&mut batch, BATCH), if !signals.is_closed() => match got {
                    0 => continue,
                    _ => Input::Signals(std::mem::take(&mut batch)),
                },
                Some(answer) = answers.recv() => answer,
            };
            self.step((&mut watch, &mut notes, &mut owed), input, &backend, &ear).await;
            pulse.tick();
        }
    }

    /// Tells the watch how hard we are pressed.
    fn feel(&self, watch: &mut Watch, seen: &mut strain::Seen, notes: &mut Notes) {
        let (policy, now) = (self.shared.sight.policy(), self.shared.clock.now().at);
        let (failed, refused) = self.shared.strain.since(seen);
        let p99 = self.shared.strain.append_p99();
        notes.felt(&self.shared.recorder, p99, (failed, refused), now);
        let felt = [
            Some(Input::AppendsTook(p99)),
            failed.then_some(Input::AppendFailed),
            refused.then_some(Input::BeatRefused),
            self.shared.log.read_only().map(|_| Input::LogShut),
        ];
        for input in felt.into_iter().flatten() {
            // Told by the turn that follows.
            let _ = watch.handle(&policy.0, input, &[], now);
        }
    }

    async fn step(
        &self,
        (watch, notes, owed): (&mut Watch, &mut Notes, &mut Owed),
        input: Input,
        backend: &Arc<dyn Backend>,
        ear: &Ear,
    ) {
        if input.is_engine_trouble() {
            self.adapt(backend.kind(), false);
        }
        let (policy, now) = (self.shared.sight.policy(), self.shared.clock.now().at);
        notes.saw(&self.shared.recorder, &input, now);
        let seen = if input.looks_around() { self.shared.registry.seen(backend.kind()) } else { Vec::new() };
        let outputs = watch.handle(&policy.0, input, &seen, now);
        self.shared.sight.look(backend.kind(), watch, now);
        let patience = watch.patience(&policy.0, now);
        let mut reports = Vec::new();
        for output in outputs {
            notes.asks(&self.shared.recorder, &output, now);
            match output {
                Output::List => self.list(backend, ear, patience),
                Output::Inspect { workspace, generation, instance } => {
                    self.inspect(backend, ear, patience, (workspace, generation, instance));
                }
                Output::Probe { workspace, generation, url } => {
                    self.probe(ear, policy.0.probe_timeout, (workspace, generation, url));
                }
                // In this order: the supervisor hears of many deaths before the first of them asks for a restart.
                Output::Fleet(command) => self.tell_fleet(command, owed).await,
                Output::Evidence { workspace, evidence } => reports.push(self.report(workspace, evidence)),
                Output::Adopted { workspace, generation, instance } => {
                    self.adopted(workspace, (generation, instance), owed).await;
                }
                Output::Outcome { workspace, generation, outcome } => {
                    let command = outcome.command(generation);
                    let _ = self.offer(workspace, command, &Origin::new(Principal::System)).await;
                }
                Output::Recheck { workspace } => {
                    let _ =
                        self.offer(workspace, Command::RecordDeadline, &Origin::new(Principal::System)).await;
                }
            }
        }
        futures_util::future::join_all(reports).await;
    }

    fn list(&self, backend: &Arc<dyn Backend>, ear: &Ear, patience: Duration) {
        let (backend, ear) = (Arc::clone(backend), ear.clone());
        self.shared.spawn(async move {
            let begun = Instant::now();
            let result = tokio::time::timeout(patience, backend.list()).await;
            let result = result.unwrap_or_else(|_| Err(late("list", patience)));
            if let Err(error) = &result {
                count_error(backend.kind().as_str(), error.code);
            }
            let _ = ear.send(Input::Listed { result, took: begun.elapsed() }).await;
        });
    }

    fn inspect(
        &self,
        backend: &Arc<dyn Backend>,
        ear: &Ear,
        patience: Duration,
        (workspace, generation, instance): (WorkspaceId, Generation, InstanceRef),
    ) {
        let (backend, ear) = (Arc::clone(backend), ear.clone());
        self.shared.spawn(async move {
            let begun = Instant::now();
            let inspection = inspect_within(&*backend, workspace, &instance, patience).await;
            let took = begun.elapsed();
            let _ = ear.send(Input::Inspected { workspace, generation, instance, inspection, took }).await;
        });
    }

    fn probe(
        &self,
        ear: &Ear,
        limit: Duration,
        (workspace, generation, url): (WorkspaceId, Generation, String),
    ) {
        let (agents, ear): (Arc<dyn AgentChannel>, Ear) = (Arc::clone(&self.shared.channel), ear.clone());
        self.shared.spawn(async move {
            let begun = Instant::now();
            let probe = tokio::time::timeout(limit, agents.probe(&url, limit)).await;
            let probe = probe.unwrap_or_else(|_| Probe::Silent {
                code: "timeout",
                detail: format!("no answer within {} s", limit.as_secs()),
            });
            let took = begun.elapsed();
            let _ = ear.send(Input::Probed { workspace, generation, probe, took }).await;
        });
    }

    async fn tell_fleet(&self, command: fleet::Command, owed: &mut Owed) {
        if let fleet::Command::RecordEngineLost(lost) = &command {
            warn!(
                engine = lost.engine,
                error = lost.detail,
                "the backend does not answer; its workspaces are left alone"
            );
        }
        self.tell_fleet_again(command, owed).await;
    }

    async fn tell_fleet_again(&self, command: fleet::Command, owed: &mut Owed) {
        owed.is_said(&command);
        match self.fleet(command.clone(), Origin::new(Principal::System)).await {
            Err(CommandError::Busy { .. }) => self.insist_fleet(command, Origin::new(Principal::System)),
            Err(CommandError::LogUnavailable(_)) => owed.keep(command),
            Ok(_) | Err(_) => {}
        }
    }

    async fn adopted(
        &self,
        workspace: WorkspaceId,
        (generation, instance): (Generation, InstanceRef),
        owed: &mut Owed,
    ) {
        info!(%workspace, %generation, "instance adopted");
        let command = Command::RecordAdopted { generation, instance };
        let told = self.offer(workspace, command.clone(), &Origin::new(Principal::System)).await;
        if let Err(CommandError::LogUnavailable(_)) = told {
            owed.keep_adopted(workspace, command);
        }
    }

    /// Says what could not be said while the log took no facts.
    async fn make_up_for(&self, owed: &mut Owed) {
        if owed.is_empty() || self.shared.log.read_only().is_some() {
            return;
        }
        let (fleet, adopted) = owed.take();
        for command in fleet {
            self.tell_fleet_again(command, owed).await;
        }
        for (workspace, command) in adopted {
            let told = self.offer(workspace, command.clone(), &Origin::new(Principal::System)).await;
            if let Err(CommandError::LogUnavailable(_)) = told {
                owed.keep_adopted(workspace, command);
            }
        }
    }

    async fn report(&self, workspace: WorkspaceId, evidence: EvidenceObserved) {
        if watch::is_observer_failure(&evidence) {
            count_error("inspect", &evidence.code);
        }
        // While the log takes no facts this is not kept: the next list, look or beat tells what is so then.
        let command = Command::RecordEvidence(Box::new(evidence));
        let _ = self.offer(workspace, command, &Origin::new(Principal::System)).await;
    }

    /// Tells the observer of a cell how a call of somebody else to its engine went.
    pub(super) fn called(&self, cell: BackendKind, call: Call, failed: bool, took: Duration) {
        self.shared.recorder.called((cell, self.shared.clock.now().at), call, failed, took);
        if let Some(ear) = self.shared.ears.get(&cell) {
            // A full ear has enough to think about.
            let _ = ear.try_send(Input::Called { failed, took });
        }
    }

    /// How long one observation of a cell may take at the moment.
    pub(super) fn patience(&self, cell: BackendKind) -> Duration {
        let sight = &self.shared.sight;
        sight.policy().0.observe_timeout * (1 + sight.view(Some(cell), self.shared.clock.now().at).score)
    }

    /// Takes a fresh look at a workspace whose agent could not be reached, records what was seen, and says what it
    /// amounts to. Callers at the same time share one look.
    pub async fn examine(&self, workspace: WorkspaceId, origin: Origin) -> Result<Examined, CommandError> {
        let Some(entry) = self.shared.registry.get(workspace) else { return Ok(Examined::Unknown) };
        let mut last = entry.examined.lock().await;
        if let Some((at, examined)) = &*last
            && at.elapsed() < EXAMINED_FRESH
        {
            return Ok(examined.clone());
        }
        let examined = self.look(workspace, entry.glance(), origin).await?;
        *last = Some((Instant::now(), examined.clone()));
        Ok(examined)
    }

    async fn look(
        &self,
        workspace: WorkspaceId,
        glance: Option<Glance>,
        origin: Origin,
    ) -> Result<Examined, CommandError> {
        let Some(glance) = glance else { return Ok(Examined::Unknown) };
        let Some(instance) = &glance.instance else {
            let restart = self.peek(workspace).await.and_then(|state| state.restart);
            return Ok(match restart {
                Some(pending) => Examined::Dead { restart: Some(pending.restart) },
                None => Examined::Unknown,
            });
        };
        let Some(backend) = self.shared.backends.get(&glance.backend) else { return Ok(Examined::Unknown) };
        let begun = Instant::now();
        let inspection = inspect_within(&**backend, workspace, instance, self.patience(glance.backend)).await;
        let failed = matches!(inspection, Inspection::Unknown(_));
        self.called(glance.backend, Call::Examine, failed, begun.elapsed());
        let Some(evidence) = watch::inspected(inspection, glance.generation, instance) else {
            return Ok(Examined::Alive);
        };
        let dead = evidence.class == covalence_events::workspace::EvidenceClass::Death;
        if !dead {
            count_error("inspect", &evidence.code);
        }
        match self.command(workspace, Command::RecordEvidence(Box::new(evidence)), origin).await {
            // What was seen is so all the same; the caller's answer does not depend on its being recorded.
            Ok(_) | Err(CommandError::LogUnavailable(_)) => {}
            Err(error) => return Err(error),
        }
        if !dead {
            return Ok(Examined::Unknown);
        }
        let restart = self.peek(workspace).await.and_then(|state| state.restart);
        Ok(Examined::Dead { restart: restart.map(|pending| pending.restart) })
    }
}

/// One look with our own limit around it.
pub(super) async fn inspect_within(
    backend: &dyn Backend,
    workspace: WorkspaceId,
    instance: &InstanceRef,
    limit: Duration,
) -> Inspection {
    let inspection = tokio::time::timeout(limit, backend.inspect(workspace, instance)).await;
    inspection.unwrap_or_else(|_| Inspection::Unknown(late("inspect", limit)))
}

fn late(what: &str, limit: Duration) -> BackendError {
    BackendError { code: "timeout", detail: format!("{what}: no answer within {} s", limit.as_secs()) }
}

fn count_error(engine: &str, code: &str) {
    metrics::counter!(super::metrics_names::TRANSIENT_ERRORS, "engine" => engine.to_owned(), "code" => code.to_owned())
        .increment(1);
}
