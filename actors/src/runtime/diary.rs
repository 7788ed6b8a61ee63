//! Says in the process's own log what an operator would put into a timeline: verdicts, and what became of them. The event
//! log has everything; this is for whoever has only stderr. What the event log keeps sealed is not said here: the position
//! leads to it.

use covalence_events::workspace::Verdict;
use covalence_events::{Fact, Recorded, fleet, workspace};
use metrics::counter;
use tracing::{debug, error, info, warn};

use super::metrics_names::{POISONED_SESSIONS, RESTART_DECISIONS, VERDICTS};

/// Writes a line, and counts, where a recorded fact is worth it.
pub(super) fn tell(recorded: &Recorded) {
    match &recorded.fact {
        Fact::Workspace(event) => tell_of_workspace(recorded, event),
        Fact::Fleet(event) => tell_of_fleet(recorded, event),
    }
}

#[expect(clippy::too_many_lines, reason = "one arm for every kind of fact, exhaustive on purpose")]
fn tell_of_fleet(recorded: &Recorded, event: &fleet::Event) {
    match event {
        fleet::Event::RestartAdmitted(e) => {
            counter!(RESTART_DECISIONS, "decision" => "admitted", "rule" => "none", "cause" => e.cause.as_str())
                .increment(1);
            info!(workspace = %e.workspace, cause = e.cause.as_str(), in_flight = e.in_flight, recent = e.recent, "restart admitted");
        }
        fleet::Event::RestartDeferred(e) => {
            counter!(RESTART_DECISIONS, "decision" => "deferred", "rule" => e.rule.clone(), "cause" => e.cause.as_str())
                .increment(1);
            let until = e.until.map(|until| until.to_rfc3339());
            info!(workspace = %e.workspace, cause = e.cause.as_str(), rule = e.rule, until, in_flight = e.in_flight, recent = e.recent, "restart deferred");
        }
        fleet::Event::RestartSuppressed(e) => {
            counter!(RESTART_DECISIONS, "decision" => "suppressed", "rule" => e.rule.clone(), "cause" => e.cause.as_str())
                .increment(1);
            warn!(workspace = %e.workspace, cause = e.cause.as_str(), rule = e.rule, recent = e.recent, "restart refused");
        }
        fleet::Event::BrakeEngaged(e) => {
            let (cell, mode, trigger) = (e.cell.as_str(), e.mode.as_str(), e.trigger.as_str());
            warn!(cell, mode, trigger, count = e.count, of = e.of, threshold = e.threshold, "brake engaged");
        }
        fleet::Event::BrakeReleased(e) => {
            info!(cell = e.cell.as_str(), reason = e.reason, after_ms = e.after_ms, "brake released");
        }
        fleet::Event::ObserverChanged(e) => {
            let cell = e.cell.map(workspace::BackendKind::as_str);
            warn!(cell, score = e.score, from = e.from, "the observer's score changed");
        }
        fleet::Event::CircuitChanged(e) => {
            let (cell, state) = (e.cell.as_str(), e.state);
            warn!(
                cell,
                ?state,
                rule = e.rule,
                calls = e.calls,
                failed = e.failed,
                "the engine's circuit changed"
            );
        }
        fleet::Event::HoldSet(e) => {
            warn!(hold = %e.hold, scope = ?e.scope, emergency = e.emergency, "restarts are held");
        }
        fleet::Event::HoldReleased(e) => {
            info!(hold = %e.hold, reason = e.reason, "hold released");
        }
        fleet::Event::IncidentOpened(e) => {
            warn!(incident = %e.incident, title = e.title, "incident opened");
        }
        fleet::Event::FlightRecorded(e) => {
            let (cell, observations) = (e.cell.as_str(), e.counts.observations);
            info!(cell, observations, since = %e.since, bytes = e.observations.len(), "flight recorded");
        }
        fleet::Event::FlightLost(e) => {
            warn!(cell = e.cell.as_str(), reason = e.reason, "what was observed before the brake is lost");
        }
        fleet::Event::IncidentClosed(e) => info!(incident = %e.incident, "incident closed"),
        fleet::Event::PolicyChanged(e) => {
            info!(hash = %e.hash, origin = e.origin, changed = e.changed.len(), "the policy changed");
        }
        fleet::Event::ModeSet(e) => warn!(scope = ?e.scope, mode = ?e.mode, "mode set"),
        fleet::Event::StrategySet(e) => {
            info!(team = %e.team, strategy = e.strategy.as_str(), "restart strategy set");
        }
        fleet::Event::InvariantViolated(e) => {
            error!(invariant = e.invariant, detail = e.detail, "an invariant was violated: this is a bug");
        }
        fleet::Event::AlarmRaised(e) => {
            error!(kind = e.kind, workspace = e.workspace.map(|id| id.to_string()), position = %recorded.position, "alarm");
        }
        fleet::Event::AlarmResolved(e) => info!(kind = e.kind, "alarm resolved"),
        fleet::Event::EngineFound(e) => {
            info!(engine = e.engine, after_ms = e.after_ms, "the backend answers again");
        }
        fleet::Event::StrangerFound(e) => {
            warn!(
                engine = e.engine,
                name = e.name,
                "something of ours runs that the log does not know; see `covalence strangers ls`"
            );
        }
        fleet::Event::PlatformStarted(_)
        | fleet::Event::PlatformStopped(_)
        | fleet::Event::TailRepaired(_)
        | fleet::Event::LogMended(_)
        | fleet::Event::RestartSettled(_)
        | fleet::Event::RestartProved(_)
        | fleet::Event::GraceStarted(_)
        | fleet::Event::GraceEnded(_)
        | fleet::Event::QuarantineProbed(_)
        | fleet::Event::QuarantineLifted(_)
        | fleet::Event::ProvisionLimitChanged(_)
        | fleet::Event::IncidentNoted(_)
        | fleet::Event::SecretSet(_)
        | fleet::Event::SecretRemoved(_)
        | fleet::Event::MasterKeyRotated(_)
        | fleet::Event::OrgTokenIssued(_)
        | fleet::Event::OrgTokenRevoked(_)
        | fleet::Event::EngineLost(_) => {
            debug!(stream = %recorded.stream, position = %recorded.position, fact = recorded.fact.tag(), "recorded");
        }
    }
}

#[expect(clippy::too_many_lines, reason = "one arm for every kind of fact, exhaustive on purpose")]
fn tell_of_workspace(recorded: &Recorded, event: &workspace::Event) {
    let stream = recorded.stream;
    let (position, fact) = (recorded.position, event.tag());
    match event {
        workspace::Event::VerdictReached(e) => {
            let verdict = match e.verdict {
                Verdict::Alive => "alive",
                Verdict::Unknown => "unknown",
                Verdict::Dead => "dead",
            };
            counter!(VERDICTS, "verdict" => verdict, "rule" => e.rule.clone()).increment(1);
            info!(%stream, verdict, rule = e.rule, generation = %e.generation, "verdict");
        }
        workspace::Event::EvidenceObserved(e) => {
            info!(%stream, class = ?e.class, code = e.code, generation = %e.generation, %position, "evidence");
        }
        workspace::Event::Quarantined(e) => warn!(%stream, rule = e.rule, %position, "quarantined"),
        workspace::Event::CameOnline(e) => {
            info!(%stream, from = e.from, generation = %e.generation, "online");
        }
        workspace::Event::WentOffline(e) => info!(%stream, rule = e.rule, %position, "offline"),
        workspace::Event::Degraded(e) => {
            info!(%stream, error_rate = e.error_rate, runtime_state = e.runtime_state, "degraded");
        }
        workspace::Event::SuspicionRaised(e) => {
            info!(%stream, source = ?e.source, phi = e.phi, silent_ms = e.silent_ms, "suspect");
        }
        workspace::Event::SuspicionCleared(e) => {
            info!(%stream, by = e.by, lasted_ms = e.lasted_ms, "cleared");
        }
        workspace::Event::VerdictWithheld(e) => {
            warn!(%stream, rule = e.rule, silent_ms = e.silent_ms, sources = e.sources.len(), "verdict withheld");
        }
        workspace::Event::DeathRefuted(e) => warn!(%stream, generation = %e.generation, "it lives after all"),
        workspace::Event::OutcomeUnknown(e) => {
            warn!(%stream, operation = e.operation, %position, "outcome unknown, lists will tell");
        }
        workspace::Event::DrainEnded(e) => {
            info!(%stream, outcome = e.outcome.as_str(), open = e.open, took_ms = e.took_ms, "drain ended");
        }
        workspace::Event::SessionSuspected(e) => {
            info!(%stream, fingerprint = e.failure.fingerprint, %position, "session suspected");
        }
        workspace::Event::SessionPoisoned(e) => {
            counter!(POISONED_SESSIONS).increment(1);
            warn!(%stream, fingerprint = e.failure.fingerprint, %position, "session poisoned");
        }
        workspace::Event::SessionCleared(e) => info!(%stream, in_a_row = e.in_a_row, "session cleared"),
        workspace::Event::RestartAbandoned(e) => info!(%stream, reason = e.reason, "restart abandoned"),
        workspace::Event::RestartAnnounced(e) => {
            if e.error.is_some() {
                warn!(%stream, generation = %e.generation, %position, "the agent was not told of its restart");
            } else {
                debug!(%stream, generation = %e.generation, "the agent was told of its restart");
            }
        }
        // In the event log for whoever asks; here they would only be noise.
        workspace::Event::Created(_)
        | workspace::Event::Renamed(_)
        | workspace::Event::RoleChanged(_)
        | workspace::Event::TierChanged(_)
        | workspace::Event::Moved(_)
        | workspace::Event::RuntimeChanged(_)
        | workspace::Event::DirectoryChanged(_)
        | workspace::Event::Placed(_)
        | workspace::Event::Folded(_)
        | workspace::Event::ProvisionRequested(_)
        | workspace::Event::InstanceStarted(_)
        | workspace::Event::ProvisionFailed(_)
        | workspace::Event::StopRequested(_)
        | workspace::Event::InstanceStopped(_)
        | workspace::Event::StopFailed(_)
        | workspace::Event::InstanceAdopted(_)
        | workspace::Event::RestartRequested(_)
        | workspace::Event::RestartStarted(_)
        | workspace::Event::DrainRequested(_)
        | workspace::Event::Registered(_)
        | workspace::Event::CardUpdated(_)
        | workspace::Event::HeartbeatReceived(_)
        | workspace::Event::Paused(_)
        | workspace::Event::Resumed(_)
        | workspace::Event::HibernationRequested(_)
        | workspace::Event::Hibernated(_)
        | workspace::Event::Removed(_)
        | workspace::Event::Erased(_)
        | workspace::Event::TokenIssued(_)
        | workspace::Event::TokensRevoked(_)
        | workspace::Event::EnrolmentOpened(_)
        | workspace::Event::RegistrationRefused(_)
        | workspace::Event::CallFinished(_)
        | workspace::Event::CallRecorded(_)
        | workspace::Event::SecretSet(_)
        | workspace::Event::SecretRemoved(_)
        | workspace::Event::MessageQueued(_)
        | workspace::Event::ActivityReported(_)
        | workspace::Event::Notified(_)
        | workspace::Event::DelegationRequested(_)
        | workspace::Event::DelegationDispatched(_)
        | workspace::Event::DelegationQueued(_)
        | workspace::Event::DelegationEnded(_)
        | workspace::Event::CallQueued(_)
        | workspace::Event::CallDispatched(_)
        | workspace::Event::CallReturned(_)
        | workspace::Event::CallDequeued(_)
        | workspace::Event::ActivityAcked(_)
        | workspace::Event::AgentAssigned(_)
        | workspace::Event::AgentRemoved(_)
        | workspace::Event::AgentMoveEnded(_)
        | workspace::Event::TeamExpanded(_)
        | workspace::Event::TeamCollapsed(_)
        | workspace::Event::ConfirmRequested(_)
        | workspace::Event::RestartProved(_)
        | workspace::Event::HandlerPanicked(_) => debug!(%stream, %position, fact, "recorded"),
    }
}
