//! Looks at what the backends run, and reports it as evidence. Decides nothing.
//!
//! A backend's signals are a hint for speed; the list, one call per backend however many workspaces there are, is the
//! truth. What a complete list does not show is looked at once more, by its exact id, before it is reported as not
//! there. An error is reported as the observer's, never as a workspace's (R10).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use covalence_events::fleet::{EngineLost, StrangerFound};
use covalence_events::workspace::{
    BackendKind, EvidenceClass, EvidenceObserved, EvidenceSource, InstanceRef,
};
use covalence_events::{Generation, Principal, Timestamp, WorkspaceId};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::registry::Glance;
use super::{CommandError, Examined, Runtime};
use crate::context::Origin;
use crate::effect::{Backend, BackendError, Inspection, Listed, ListedState, Signal};
use crate::fleet;
use crate::workspace::Command;

/// Between two lists. The cost is the same in good and in bad times.
const LIST_EVERY: Duration = Duration::from_secs(5);
/// Signals that wait to be handled; more turn into one comparison by list.
const SIGNALS_MAX: usize = 1024;
/// Callers whose calls failed within this time share one look.
const EXAMINED_FRESH: Duration = Duration::from_millis(500);
/// Looks by exact id at the same time (the engine locks per container; more only queue there).
const CONFIRM_AT_ONCE: usize = 2;

impl Runtime {
    /// Watches one backend until the platform goes down.
    pub(super) async fn observe(self, backend: Arc<dyn Backend>) {
        let (tx, mut signals) = mpsc::channel(SIGNALS_MAX);
        let watching = Arc::clone(&backend);
        self.shared.spawn(async move { watching.watch(tx).await });
        let mut tick = tokio::time::interval(LIST_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut first = true;
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    let adopting = first;
                    first = !self.compare(&*backend, adopting).await && first;
                }
                Some(signal) = signals.recv() => match signal {
                    Signal::Exited { workspace, generation, instance, exit_status, detail } => {
                        self.exited(workspace, (generation, instance), (exit_status, detail)).await;
                    }
                    Signal::Gap | Signal::Found => {
                        self.compare(&*backend, false).await;
                    }
                    Signal::Lost(error) => self.lost(&*backend, error),
                },
            }
            self.ticked(backend.kind());
        }
    }

    fn ticked(&self, backend: BackendKind) {
        let at = self.shared.clock.now().at;
        let mut ticks = self.shared.ticks.lock().unwrap_or_else(PoisonError::into_inner);
        ticks.insert(backend.as_str(), at);
    }

    /// When each observer last had a turn: the platform watches itself.
    pub fn ticks(&self) -> Vec<(&'static str, Timestamp)> {
        let ticks = self.shared.ticks.lock().unwrap_or_else(PoisonError::into_inner);
        ticks.iter().map(|(name, at)| (*name, *at)).collect()
    }

    async fn exited(
        &self,
        workspace: WorkspaceId,
        (generation, instance): (Generation, InstanceRef),
        (exit_status, detail): (Option<i32>, String),
    ) {
        let evidence = EvidenceObserved {
            source: EvidenceSource::Exit,
            class: EvidenceClass::Death,
            generation,
            instance: Some(instance),
            code: "exited".to_owned(),
            detail,
            exit_status,
        };
        self.report(workspace, evidence).await;
    }

    fn lost(&self, backend: &dyn Backend, error: BackendError) {
        let engine = backend.kind().as_str().to_owned();
        warn!(engine, %error, "the backend does not answer; its workspaces are left alone");
        metrics::counter!(super::metrics_names::TRANSIENT_ERRORS, "engine" => engine.clone(), "code" => error.code)
            .increment(1);
        let lost = EngineLost { engine, code: error.code.to_owned(), detail: error.detail };
        self.insist_fleet(fleet::Command::RecordEngineLost(lost), Origin::new(Principal::System));
    }

    /// Compares what should run with what does. `false` if the backend could not say what runs.
    async fn compare(&self, backend: &dyn Backend, adopting: bool) -> bool {
        let listed = match backend.list().await {
            Ok(listed) => listed,
            Err(error) => {
                self.lost(backend, error);
                return false;
            }
        };
        let engine = backend.kind().as_str().to_owned();
        self.insist_fleet(fleet::Command::RecordEngineFound { engine }, Origin::new(Principal::System));
        let mut by_instance: HashMap<&InstanceRef, &Listed> = HashMap::new();
        for item in &listed {
            by_instance.insert(&item.instance, item);
        }
        let mut confirm = Vec::new();
        for (workspace, entry) in self.shared.registry.all() {
            let Some(glance) = entry.glance().filter(|glance| glance.backend == backend.kind()) else {
                continue;
            };
            let Some(instance) = &glance.instance else { continue };
            match by_instance.get(instance).map(|item| &item.state) {
                Some(ListedState::Running) => {
                    if adopting {
                        self.adopted(workspace, &glance, instance).await;
                    }
                }
                Some(ListedState::Between) => {}
                Some(ListedState::Stopped { exit_status }) => {
                    self.report(workspace, stopped(&glance, instance, *exit_status)).await;
                }
                None => confirm.push((workspace, glance.generation, instance.clone())),
            }
        }
        self.confirm(backend, confirm).await;
        for item in &listed {
            self.misplaced(backend.kind(), item).await;
        }
        true
    }

    async fn adopted(&self, workspace: WorkspaceId, glance: &Glance, instance: &InstanceRef) {
        let command = Command::RecordAdopted { generation: glance.generation, instance: instance.clone() };
        info!(%workspace, generation = %glance.generation, "instance adopted");
        let _ = self.insist(workspace, command, &Origin::new(Principal::System)).await;
    }

    /// What a list does not show may have started a moment ago, or the list may be narrower than we think.
    async fn confirm(&self, backend: &dyn Backend, missing: Vec<(WorkspaceId, Generation, InstanceRef)>) {
        use futures_util::StreamExt;
        futures_util::stream::iter(missing)
            .for_each_concurrent(CONFIRM_AT_ONCE, |(workspace, generation, instance)| async move {
                let inspection = backend.inspect(workspace, &instance).await;
                if let Some(evidence) = inspected(inspection, generation, &instance) {
                    self.report(workspace, evidence).await;
                }
            })
            .await;
    }

    /// Something runs that should not: a workspace that is paused or removed, or that the log does not know.
    async fn misplaced(&self, kind: BackendKind, item: &Listed) {
        let known = item.workspace.and_then(|id| Some((id, self.shared.registry.get(id)?.glance()?)));
        let Some((workspace, glance)) = known else {
            let stranger = StrangerFound {
                engine: kind.as_str().to_owned(),
                name: item.name.clone(),
                instance: item.instance.id.clone(),
                workspace: item.workspace.map(|id| id.to_string()),
            };
            self.insist_fleet(fleet::Command::RecordStranger(stranger), Origin::new(Principal::System));
            return;
        };
        if item.state == ListedState::Running && !glance.desired && !glance.between {
            let evidence = EvidenceObserved {
                source: EvidenceSource::List,
                class: EvidenceClass::Life,
                generation: item.generation.unwrap_or(glance.generation),
                instance: Some(item.instance.clone()),
                code: "running".to_owned(),
                detail: "it runs though it should not".to_owned(),
                exit_status: None,
            };
            self.report(workspace, evidence).await;
        }
    }

    async fn report(&self, workspace: WorkspaceId, evidence: EvidenceObserved) {
        if evidence.class == EvidenceClass::ObserverFailure {
            metrics::counter!(super::metrics_names::TRANSIENT_ERRORS, "engine" => "inspect", "code" => evidence.code.clone())
                .increment(1);
        }
        let command = Command::RecordEvidence(Box::new(evidence));
        let _ = self.insist(workspace, command, &Origin::new(Principal::System)).await;
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
        let inspection = backend.inspect(workspace, instance).await;
        let Some(evidence) = inspected(inspection, glance.generation, instance) else {
            return Ok(Examined::Alive);
        };
        let dead = evidence.class == EvidenceClass::Death;
        self.command(workspace, Command::RecordEvidence(Box::new(evidence)), origin).await?;
        if !dead {
            return Ok(Examined::Unknown);
        }
        let restart = self.peek(workspace).await.and_then(|state| state.restart);
        Ok(Examined::Dead { restart: restart.map(|pending| pending.restart) })
    }
}

fn stopped(glance: &Glance, instance: &InstanceRef, exit_status: Option<i32>) -> EvidenceObserved {
    EvidenceObserved {
        source: EvidenceSource::List,
        class: EvidenceClass::Death,
        generation: glance.generation,
        instance: Some(instance.clone()),
        code: "exited".to_owned(),
        detail: exit_status.map_or_else(
            || "the list shows it stopped".to_owned(),
            |status| format!("exited with status {status}"),
        ),
        exit_status,
    }
}

/// What one look is worth; nothing for a running instance, which is what was expected.
fn inspected(
    inspection: Inspection,
    generation: Generation,
    instance: &InstanceRef,
) -> Option<EvidenceObserved> {
    let (class, code, detail, exit_status) = match inspection {
        Inspection::Running(_) => return None,
        Inspection::NotThere { code, detail, exit_status } => {
            (EvidenceClass::Death, code, detail, exit_status)
        }
        Inspection::Unknown(error) => (EvidenceClass::ObserverFailure, error.code, error.detail, None),
    };
    Some(EvidenceObserved {
        source: EvidenceSource::Inspect,
        class,
        generation,
        instance: Some(instance.clone()),
        code: code.to_owned(),
        detail,
        exit_status,
    })
}
