//! The facts that move a workspace through its life, and the trail of reasons for them.

use chrono::TimeDelta;
use covalence_events::workspace::{
    Event, EvidenceClass, EvidenceObserved, InstanceStarted, ProvisionFailed, ProvisionRequested,
    RestartRequested, StopReason,
};
use covalence_events::{RestartId, Timestamp};

use crate::roster::row::{Advice, Evidence, Failure, Instance, Lost, Restart, RestartStage, Row, Status};
use crate::roster::standing;

/// The verdict's rule that says that the instance itself is not there any more.
const PROOF_OF_DEATH: &str = "proof_of_death";
/// Why a restart was given up whose fresh look proved nothing: what was pronounced dead may live.
const UNCONFIRMED: &str = "evidence_unconfirmed";
/// The provisioning failure that says nothing about whether the instance runs.
const OUT_OF_TIME: &str = "timeout";

/// The word for the advice to throw a session away.
pub(in crate::roster) const SESSION_POISONED: &str = "session_poisoned";

/// The facts that move the workspace through its life.
#[expect(clippy::too_many_lines, reason = "one arm for every kind of fact, exhaustive on purpose")]
pub(super) fn live(row: &mut Row, event: &Event, at: Timestamp) {
    match event {
        Event::ProvisionRequested(e) => provision_requested(row, e, at),
        Event::InstanceStarted(e) => instance_started(row, e),
        Event::InstanceAdopted(e) => row.instance = Instance::Running { instance: Some(e.instance.clone()) },
        Event::ProvisionFailed(e) => provision_failed(row, e, at),
        Event::StopRequested(e) => {
            if e.reason == StopReason::Restart {
                lost(row);
            }
            row.instance = Instance::Stopping { reason: e.reason, error: None };
            (row.url, row.url_trusted) = (None, false);
        }
        Event::StopFailed(e) => {
            stop_failed(row, &e.message);
        }
        Event::InstanceStopped(_) => gone(row),
        Event::VerdictReached(e) => {
            if e.rule == PROOF_OF_DEATH {
                lost(row);
                gone(row);
            }
        }
        Event::WentOffline(e) => {
            if let Some(message) = &e.message {
                explain(row, message);
            }
            enter(row, Status::Offline, at);
        }
        Event::CameOnline(_) => came_online(row, at),
        Event::Degraded(e) => {
            row.last_error_rate = e.error_rate;
            row.last_sample_error.clone_from(&e.sample_error);
            row.error_is_ours = false;
            row.runtime_state.clone_from(&e.runtime_state);
            enter(row, Status::Degraded, at);
        }
        Event::Quarantined(e) => {
            explain(row, &e.message);
            enter(row, Status::Failed, at);
        }
        Event::Paused(_) => enter(row, Status::Paused, at),
        Event::HibernationRequested(_) => enter(row, Status::Hibernating, at),
        Event::Hibernated(_) => enter(row, Status::Hibernated, at),
        Event::Resumed(_) => {
            // What we run goes on with `ProvisionRequested`; an external agent has to be heard from.
            if row.is_external() {
                enter(row, Status::AwaitingAgent, at);
            }
        }
        Event::Removed(e) => {
            row.removed_at = Some(at);
            row.forwarded_to = e.forwarded_to;
            enter(row, Status::Removed, at);
        }
        Event::DeathRefuted(e) => {
            row.lost = Some(Box::new(Lost { instance: e.instance.clone(), url: e.url.clone() }));
            taken_back(row);
        }
        Event::RestartAbandoned(e) => {
            if e.reason == UNCONFIRMED {
                taken_back(row);
            }
        }
        Event::OutcomeUnknown(_) => outcome_unknown(row),
        // What is asked of the fleet, and why (`trail`, `standing`), and what the workspace is (`describe`).
        Event::EvidenceObserved(_)
        | Event::RestartRequested(_)
        | Event::RestartStarted(_)
        | Event::DrainRequested(_)
        | Event::DrainEnded(_)
        | Event::RestartAnnounced(_)
        | Event::Created(_)
        | Event::Renamed(_)
        | Event::RoleChanged(_)
        | Event::TierChanged(_)
        | Event::Moved(_)
        | Event::RuntimeChanged(_)
        | Event::DirectoryChanged(_)
        | Event::Placed(_)
        | Event::Folded(_)
        | Event::Registered(_)
        | Event::CardUpdated(_)
        | Event::HeartbeatReceived(_)
        | Event::TokenIssued(_)
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
        | Event::ActivityAcked(_)
        | Event::AgentAssigned(_)
        | Event::AgentRemoved(_)
        | Event::AgentMoveEnded(_)
        | Event::TeamExpanded(_)
        | Event::TeamCollapsed(_)
        | Event::SessionSuspected(_)
        | Event::SessionPoisoned(_)
        | Event::SessionCleared(_)
        | Event::HandlerPanicked(_)
        | Event::Erased(_)
        | Event::SuspicionRaised(_)
        | Event::SuspicionCleared(_)
        | Event::VerdictWithheld(_)
        | Event::ConfirmRequested(_)
        | Event::RestartProved(_) => {}
    }
}

/// Remembers what runs, so that it can be taken back.
fn lost(row: &mut Row) {
    if let Instance::Running { instance: Some(instance) } = &row.instance {
        let (instance, url) = (instance.clone(), row.url.clone());
        row.lost = Some(Box::new(Lost { instance, url }));
    }
}

/// What was to be replaced and could not be stopped is there still.
fn stop_failed(row: &mut Row, message: &str) {
    let (Instance::Stopping { reason, .. } | Instance::Unknown { stopping: Some(reason) }) = row.instance
    else {
        return;
    };
    row.instance = Instance::Stopping { reason, error: Some(message.to_owned()) };
    if reason == StopReason::Restart {
        taken_back(row);
    }
}

fn outcome_unknown(row: &mut Row) {
    row.instance = match row.instance {
        Instance::Starting => Instance::Unknown { stopping: None },
        Instance::Stopping { reason, .. } => Instance::Unknown { stopping: Some(reason) },
        Instance::None | Instance::Running { .. } | Instance::Unknown { .. } => return,
    };
}

/// What was pronounced dead is there after all, or may be.
fn taken_back(row: &mut Row) {
    if let Some(lost) = row.lost.take() {
        row.instance = Instance::Running { instance: Some(lost.instance) };
        row.url_trusted = lost.url.is_some();
        row.url = lost.url;
    }
}

fn provision_requested(row: &mut Row, e: &ProvisionRequested, at: Timestamp) {
    row.generation = e.generation;
    row.instance = Instance::Starting;
    row.lost = None;
    (row.url, row.url_trusted) = (None, false);
    // What the last instance was doing ended with it.
    (row.active_tasks, row.uptime_seconds) = (0, 0);
    row.current_task.clear();
    row.runtime_state.clear();
    enter(row, Status::Provisioning, at);
}

fn instance_started(row: &mut Row, e: &InstanceStarted) {
    row.instance = Instance::Running { instance: e.instance.clone() };
    if e.url.is_some() {
        row.url.clone_from(&e.url);
        row.url_trusted = true;
    }
}

fn came_online(row: &mut Row, at: Timestamp) {
    row.failure = None;
    // An error that the agent itself reported stands; one that said why nothing answered is over.
    if std::mem::take(&mut row.error_is_ours) {
        row.last_sample_error.clear();
    }
    enter(row, Status::Online, at);
}

fn provision_failed(row: &mut Row, e: &ProvisionFailed, at: Timestamp) {
    // Out of time is not proof: what runs may still be heard from, and then it is lifted again.
    if !(e.code == OUT_OF_TIME && matches!(row.instance, Instance::Running { .. })) {
        gone(row);
    }
    explain(row, &e.message);
    row.failure = Some(Box::new(Failure {
        at,
        generation: e.generation,
        code: e.code.clone(),
        message: e.message.clone(),
        retryable: e.retryable,
        command: e.command.clone(),
    }));
    enter(row, Status::Failed, at);
}

/// Says why nothing answers, where people look for the last error.
fn explain(row: &mut Row, message: &str) {
    message.clone_into(&mut row.last_sample_error);
    row.error_is_ours = true;
}

fn gone(row: &mut Row) {
    row.instance = Instance::None;
    row.url_trusted = false;
    if !row.is_external() {
        row.url = None;
    }
}

fn enter(row: &mut Row, status: Status, at: Timestamp) {
    if row.status != status {
        row.status = status;
        row.status_since = at;
    }
}

/// The trail of reasons: the restart under way, and the last thing that was said.
pub(super) fn trail(row: &mut Row, event: &Event, at: Timestamp) {
    // A chain, not a match: only these facts leave a trail.
    if let Event::EvidenceObserved(e) = event {
        observe(row, e, at);
    } else if let Event::RestartRequested(RestartRequested { restart, cause, .. }) = event {
        row.restart = Some(Box::new(Restart {
            id: *restart,
            cause: *cause,
            requested_at: at,
            stage: RestartStage::Requested,
        }));
    } else if let Event::RestartStarted(e) = event {
        row.restarts += 1;
        stage(row, e.restart, RestartStage::Started);
    } else if let Event::DrainRequested(e) = event {
        let within = TimeDelta::milliseconds(i64::try_from(e.within_ms).unwrap_or(i64::MAX));
        let until = at.checked_add_signed(within).unwrap_or(at);
        stage(row, e.restart, RestartStage::Draining { until });
    } else if let Event::DrainEnded(e) = event {
        stage(row, e.restart, RestartStage::Started);
    } else if let Event::RestartAbandoned(_) | Event::Quarantined(_) = event {
        row.restart = None;
    } else if let Event::CameOnline(e) = event
        && e.restart.is_some()
    {
        row.restart = None;
    }
}

fn stage(row: &mut Row, restart: RestartId, stage: RestartStage) {
    if let Some(known) = row.restart.as_deref_mut().filter(|known| known.id == restart) {
        known.stage = stage;
    }
}

/// What a person should do about it, as long as that would help.
pub(super) fn advise(row: &mut Row, event: &Event, at: Timestamp) {
    // A chain, not a match: only these facts give advice or make it pointless.
    if let Event::SessionPoisoned(e) = event {
        let advice = Advice { code: SESSION_POISONED, text: e.message.clone(), since: at };
        row.advice = Some(Box::new(advice));
    } else if let Event::SessionCleared(_) | Event::SessionSuspected(_) | Event::Removed(_) = event {
        row.advice = None;
    } else if let Event::ProvisionRequested(ProvisionRequested { reset_session: true, .. }) = event {
        row.advice = None;
    }
}

/// Keeps the last thing that was said, other than signs of life.
fn observe(row: &mut Row, e: &EvidenceObserved, at: Timestamp) {
    standing::observe(row, e, at);
    if e.class == EvidenceClass::Life {
        return;
    }
    row.evidence = Some(Box::new(Evidence {
        at,
        class: e.class,
        code: e.code.clone(),
        detail: e.detail.clone(),
        exit_status: e.exit_status,
    }));
}
