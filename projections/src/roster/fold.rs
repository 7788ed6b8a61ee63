//! The fold of the roster. Status, address and instance follow the same rules as the write side's own fold.

use std::sync::Arc;

use covalence_events::seal::ERASED;
use covalence_events::workspace::{
    Assigned, BackendKind, Created, Event, HeartbeatReceived, InstanceStarted,
};
use covalence_events::{
    Fact, Generation, Principal, Recorded, RestartId, StreamId, Timestamp, WorkspaceId, fleet,
};

use super::Roster;
use super::row::{Card, Instance, RestartStage, Row, Status};
use super::standing::{self, Condition, Standing};
use crate::projection::{ApplyError, Projection};

mod life;

pub(super) use life::SESSION_POISONED;
use life::{advise, live, trail};

impl Projection for Roster {
    const NAME: &'static str = "roster";
    const VERSION: u32 = 4;

    fn apply(&mut self, recorded: &Recorded) -> Result<(), ApplyError> {
        match (recorded.stream, &recorded.fact) {
            (StreamId::Workspace(id), Fact::Workspace(event)) => self.workspace(id, event, recorded),
            (StreamId::Fleet, Fact::Fleet(event)) => {
                self.fleet(event, recorded.meta.at);
                Ok(())
            }
            (StreamId::Workspace(_), Fact::Fleet(_)) | (StreamId::Fleet, Fact::Workspace(_)) => {
                Err(ApplyError::WrongStream { position: recorded.position, tag: recorded.fact.tag() })
            }
        }
    }
}

impl Roster {
    fn workspace(&mut self, id: WorkspaceId, event: &Event, recorded: &Recorded) -> Result<(), ApplyError> {
        if let Event::Created(created) = event {
            return self.create(id, created, recorded);
        }
        if let Event::RuntimeChanged(_) | Event::InstanceStarted(_) = event {
            self.intern(event);
        }
        let Some(shared) = self.rows.get_mut(&id) else {
            return Err(ApplyError::unknown(recorded, id));
        };
        let row = Arc::make_mut(shared);
        let (status, parent, place) = (row.status, row.parent, row.created_position);
        describe(row, event, recorded.meta.at, &self.words);
        live(row, event, recorded.meta.at);
        trail(row, event, recorded.meta.at);
        standing::supervise(row, event, recorded.meta.at);
        advise(row, event, recorded.meta.at);
        if row.status != status {
            self.counts.subtract(status);
            self.counts.add(row.status);
        }
        if row.parent != parent {
            let new = row.parent;
            if let Some(under) = self.children.get_mut(&parent) {
                under.remove(&(place, id));
                if under.is_empty() {
                    self.children.remove(&parent);
                }
            }
            self.children.entry(new).or_default().insert((place, id));
        }
        if let Event::CallFinished(call) = event
            && let Principal::Workspace(caller) = call.caller
            // Not in its own stream, so a caller that is not there is no damage.
            && let Some(caller) = self.rows.get_mut(&caller)
        {
            Arc::make_mut(caller).last_outbound_at = Some(recorded.meta.at);
        }
        Ok(())
    }

    fn create(&mut self, id: WorkspaceId, created: &Created, recorded: &Recorded) -> Result<(), ApplyError> {
        if self.rows.contains_key(&id) {
            return Err(ApplyError::CreatedTwice { position: recorded.position, workspace: id });
        }
        let runtime = self.word(&created.runtime);
        let row = new_row(id, created, runtime, recorded);
        self.counts.add(row.status);
        self.order.insert(recorded.position, id);
        self.children.entry(row.parent).or_default().insert((recorded.position, id));
        self.rows.insert(id, Arc::new(row));
        Ok(())
    }

    fn word(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.words.get(text) {
            return Arc::clone(known);
        }
        let word: Arc<str> = Arc::from(text);
        self.words.insert(Arc::clone(&word));
        word
    }

    fn intern(&mut self, event: &Event) {
        if let Event::RuntimeChanged(e) = event {
            self.word(&e.runtime);
        } else if let Event::InstanceStarted(InstanceStarted { image: Some(image), .. }) = event {
            self.word(image);
        }
    }

    fn fleet(&mut self, event: &fleet::Event, at: Timestamp) {
        // A chain, not a match: the others say nothing of one workspace that its own stream does not say.
        if let fleet::Event::RestartAdmitted(e) = event {
            self.decided(e.workspace, e.restart, RestartStage::Admitted, |row| {
                row.standing.admitted(e.cause.as_str(), at);
            });
        } else if let fleet::Event::RestartDeferred(e) = event {
            let stage = RestartStage::Deferred { rule: e.rule.clone(), until: e.until };
            self.decided(e.workspace, e.restart, stage, |row| row.standing.deferred(&e.rule, at));
        } else if let fleet::Event::PlatformStarted(_) = event {
            for shared in self.rows.values_mut().filter(|row| row.standing.condition == Condition::Healthy) {
                Arc::make_mut(shared).standing.forget(at);
            }
        }
    }

    fn decided(
        &mut self,
        id: WorkspaceId,
        restart: RestartId,
        stage: RestartStage,
        follow: impl FnOnce(&mut Row),
    ) {
        let asked = |row: &Row| row.restart.as_ref().is_some_and(|known| known.id == restart);
        if let Some(shared) = self.rows.get_mut(&id).filter(|row| asked(row)) {
            let row = Arc::make_mut(shared);
            if let Some(known) = &mut row.restart {
                known.stage = stage;
            }
            follow(row);
        }
    }
}

fn new_row(id: WorkspaceId, created: &Created, runtime: Arc<str>, recorded: &Recorded) -> Row {
    let at = recorded.meta.at;
    let status = match (created.backend, &created.url) {
        (BackendKind::External, Some(_)) => Status::Online,
        (BackendKind::External, None) => Status::AwaitingAgent,
        (BackendKind::Process | BackendKind::Docker, _) => Status::Provisioning,
    };
    Row {
        id,
        name: created.name.clone(),
        role: created.role.clone(),
        tier: created.tier,
        status,
        status_since: at,
        backend: created.backend,
        runtime,
        model: created.model.clone(),
        template: created.template.clone(),
        entry: created.entry.clone(),
        parent: created.parent,
        url: created.url.clone(),
        url_trusted: false,
        delivery_mode: created.delivery_mode,
        workspace_dir: created.workspace_dir.clone(),
        workspace_access: created.workspace_access,
        budget_limit: created.budget_limit,
        monthly_spend: 0,
        max_concurrent_tasks: created.max_concurrent_tasks,
        active_tasks: 0,
        uptime_seconds: 0,
        current_task: String::new(),
        last_error_rate: 0.0,
        last_sample_error: String::new(),
        error_is_ours: false,
        runtime_state: String::new(),
        agent_card: None,
        x: created.x,
        y: created.y,
        collapsed: false,
        last_heartbeat_at: None,
        last_outbound_at: None,
        created_at: at,
        created_position: recorded.position,
        updated_at: at,
        removed_at: None,
        generation: Generation(0),
        instance: Instance::None,
        image: None,
        withheld: Vec::new(),
        restart: None,
        restarts: 0,
        failure: None,
        standing: Standing::new(at),
        advice: None,
        evidence: None,
        lost: None,
        assigned: None,
        last_acked_seq: 0,
        forwarded_to: None,
    }
}

type Words = std::collections::BTreeSet<Arc<str>>;

fn shared(words: &Words, text: &str) -> Arc<str> {
    words.get(text).map_or_else(|| Arc::from(text), Arc::clone)
}

/// The facts that say what the workspace is, and how its agent says that it fares.
#[expect(clippy::too_many_lines, reason = "one arm for every kind of fact, exhaustive on purpose")]
fn describe(row: &mut Row, event: &Event, at: Timestamp, words: &Words) {
    match event {
        Event::Renamed(e) => row.name.clone_from(&e.name),
        Event::RoleChanged(e) => row.role.clone_from(&e.role),
        Event::TierChanged(e) => row.tier = e.tier,
        Event::Moved(e) => row.parent = e.parent,
        Event::RuntimeChanged(e) => row.runtime = shared(words, &e.runtime),
        Event::DirectoryChanged(e) => row.workspace_dir.clone_from(&e.workspace_dir),
        Event::Placed(e) => (row.x, row.y) = (e.x, e.y),
        Event::Folded(e) => row.collapsed = e.collapsed,
        Event::Registered(e) => {
            if !row.url_trusted {
                row.url.clone_from(&e.url);
            }
            row.agent_card = Card::new(&e.agent_card);
            row.delivery_mode = Some(e.delivery_mode);
            row.last_heartbeat_at = Some(at);
        }
        Event::ActivityAcked(e) => {
            row.last_acked_seq = e.seq;
            // It reads, and does not change.
            return;
        }
        Event::AgentAssigned(e) => {
            row.assigned = Some(Box::new(Assigned { agent: e.agent, model: e.model.clone() }));
        }
        Event::AgentRemoved(_) => row.assigned = None,
        Event::CardUpdated(e) => row.agent_card = Card::new(&e.agent_card),
        Event::Erased(_) => erase(row),
        Event::HeartbeatReceived(e) => heartbeat(row, e, at),
        Event::InstanceStarted(e) => {
            row.image = e.image.as_deref().map(|image| shared(words, image));
            row.withheld.clone_from(&e.withheld);
        }
        // The trail of reasons, and what other projections answer: they leave the row as it is.
        Event::TokenIssued(_)
        | Event::TokensRevoked(_)
        | Event::EnrolmentOpened(_)
        | Event::RegistrationRefused(_)
        | Event::CallFinished(_)
        | Event::CallRecorded(_)
        | Event::SecretSet(_)
        | Event::SecretRemoved(_)
        | Event::MessageQueued(_)
        | Event::ActivityReported(_)
        | Event::Notified(_)
        | Event::DelegationRequested(_)
        | Event::DelegationDispatched(_)
        | Event::DelegationQueued(_)
        | Event::DelegationEnded(_)
        | Event::CallQueued(_)
        | Event::CallDispatched(_)
        | Event::CallReturned(_)
        | Event::CallDequeued(_)
        | Event::AgentMoveEnded(_)
        | Event::TeamExpanded(_)
        | Event::TeamCollapsed(_)
        | Event::SessionSuspected(_)
        | Event::HandlerPanicked(_)
        | Event::RestartAnnounced(_)
        | Event::EvidenceObserved(_)
        | Event::VerdictReached(_)
        | Event::VerdictWithheld(_) => return,
        // The life of the workspace: see `live`.
        Event::Created(_)
        | Event::ProvisionRequested(_)
        | Event::ProvisionFailed(_)
        | Event::StopRequested(_)
        | Event::InstanceStopped(_)
        | Event::StopFailed(_)
        | Event::InstanceAdopted(_)
        | Event::WentOffline(_)
        | Event::CameOnline(_)
        | Event::Degraded(_)
        | Event::RestartRequested(_)
        | Event::RestartStarted(_)
        | Event::DrainRequested(_)
        | Event::DrainEnded(_)
        | Event::SessionPoisoned(_)
        | Event::SessionCleared(_)
        | Event::RestartAbandoned(_)
        | Event::Quarantined(_)
        | Event::Paused(_)
        | Event::Resumed(_)
        | Event::HibernationRequested(_)
        | Event::Hibernated(_)
        | Event::Removed(_)
        | Event::SuspicionRaised(_)
        | Event::SuspicionCleared(_)
        | Event::ConfirmRequested(_)
        | Event::DeathRefuted(_)
        | Event::OutcomeUnknown(_)
        | Event::RestartProved(_) => {}
    }
    row.updated_at = at;
}

/// What can't be read in the log any more is not shown either: the same, whether the key was gone when it was read or not.
fn erase(row: &mut Row) {
    let gone = |text: &mut String| {
        if !text.is_empty() {
            ERASED.clone_into(text);
        }
    };
    gone(&mut row.name);
    row.role.iter_mut().chain(&mut row.entry).chain(&mut row.workspace_dir).for_each(gone);
    if !row.url_trusted {
        row.url.iter_mut().for_each(gone);
    }
    gone(&mut row.current_task);
    gone(&mut row.last_sample_error);
    row.agent_card = None;
    row.advice = None;
    if let Some(failure) = &mut row.failure {
        gone(&mut failure.message);
        failure.command.iter_mut().for_each(gone);
    }
    if let Some(evidence) = &mut row.evidence {
        gone(&mut evidence.detail);
    }
    if let Instance::Stopping { error, .. } = &mut row.instance {
        error.iter_mut().for_each(gone);
    }
}

fn heartbeat(row: &mut Row, beat: &HeartbeatReceived, at: Timestamp) {
    // A beat of an instance that was replaced says nothing about the one that runs.
    if beat.generation.is_some_and(|named| named != row.generation) {
        return;
    }
    row.last_heartbeat_at = Some(at);
    row.last_error_rate = beat.error_rate;
    // While it counts as failed, the reason stays readable.
    if row.status != Status::Failed || !beat.sample_error.is_empty() {
        row.last_sample_error.clone_from(&beat.sample_error);
        row.error_is_ours = false;
    }
    row.active_tasks = beat.active_tasks;
    row.uptime_seconds = beat.uptime_seconds;
    row.current_task.clone_from(&beat.current_task);
    row.runtime_state.clone_from(&beat.runtime_state);
    if let Some(spend) = beat.monthly_spend {
        row.monthly_spend = spend;
    }
    if row.agent_card.is_none() {
        row.agent_card = beat.agent_card.as_ref().and_then(Card::new);
    }
}
