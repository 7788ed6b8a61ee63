//! Facts about one workspace in words.

use covalence_events::workspace::{
    CallOutcome, DelegationOutcome, Event, EvidenceClass, EvidenceObserved, ProvisionOrigin, QueueOutcome,
    RestartCause, RestartRequested, SuspicionRaised, Verdict, VerdictWithheld,
};

use super::{Said, Weight, exit_status, lasting, plain};
use crate::who::Who;

/// Longer texts are cut: a line is for reading, the log has everything.
const TEXT_MAX: usize = 160;

#[expect(clippy::too_many_lines, reason = "one arm for each fact there is, most of one line")]
pub(super) fn say(event: &Event, who: &Who) -> Said {
    use Weight::{Bad, Doubt, Good, Plain, Routine};
    match event {
        Event::Created(e) => {
            let parent = e.parent.map(|id| format!(", below {}", who.name(id))).unwrap_or_default();
            Said::new(
                Plain,
                format!("created: runtime {} on {}, tier {}{parent}", e.runtime, e.backend.as_str(), e.tier),
            )
        }
        Event::Renamed(e) => Said::new(Plain, format!("renamed to {}", cut(&e.name))),
        Event::RoleChanged(_) => Said::new(Routine, "its role changed"),
        Event::TierChanged(e) => Said::new(Plain, format!("tier {} from its next start on", e.tier)),
        Event::Moved(e) => Said::new(
            Plain,
            e.parent
                .map_or_else(|| "moved to the top".to_owned(), |id| format!("moved below {}", who.name(id))),
        ),
        Event::RuntimeChanged(e) => {
            Said::new(Plain, format!("runtime {} from its next start on", cut(&e.runtime)))
        }
        Event::DirectoryChanged(_) => Said::new(Plain, "another directory from its next start on"),
        Event::Placed(_) | Event::Folded(_) => Said::new(Routine, "moved on the canvas"),
        Event::ProvisionRequested(e) => {
            let why = match e.origin {
                ProvisionOrigin::Create => "it was created",
                ProvisionOrigin::Restart => "a restart",
                ProvisionOrigin::Resume => "it was resumed",
                ProvisionOrigin::Wake => "somebody needs it",
            };
            let session = if e.reset_session { ", with a fresh session" } else { "" };
            Said::new(Plain, format!("generation {} is to be started: {why}{session}", e.generation))
        }
        Event::InstanceStarted(e) => Said::new(Plain, format!("generation {} runs", e.generation)),
        Event::ProvisionFailed(e) => Said::new(
            Bad,
            format!("generation {} could not be started: {}: {}", e.generation, e.code, cut(&e.message)),
        )
        .rule(&e.code),
        Event::StopRequested(e) => {
            Said::new(Plain, format!("generation {} is to be stopped: {}", e.generation, plain(&e.reason)))
        }
        Event::InstanceStopped(e) => Said::new(Plain, format!("generation {} is stopped", e.generation)),
        Event::StopFailed(e) => Said::new(
            Bad,
            format!(
                "generation {} could not be stopped, and may still run: {}",
                e.generation,
                cut(&e.message)
            ),
        ),
        Event::InstanceAdopted(e) => {
            Said::new(Good, format!("generation {} was found running, and taken over as it is", e.generation))
        }
        Event::EvidenceObserved(e) => evidence(e),
        Event::VerdictReached(e) => {
            let (weight, verdict) = match e.verdict {
                Verdict::Alive => (Good, "alive"),
                Verdict::Unknown => (Doubt, "unknown: nothing is proved"),
                Verdict::Dead => (Bad, "dead"),
            };
            let score = e.observer_score.map(|score| format!(", observer score {score}")).unwrap_or_default();
            Said::new(
                weight,
                format!("verdict {verdict}, by {} on {} facts{score}", e.rule, e.evidence.len()),
            )
            .rule(&e.rule)
        }
        Event::WentOffline(e) => {
            let message = e.message.as_ref().map(|message| format!(": {}", cut(message))).unwrap_or_default();
            Said::new(Bad, format!("offline{message}")).rule(&e.rule)
        }
        Event::CameOnline(e) => {
            Said::new(Good, format!("online: generation {} was heard from ({})", e.generation, plain(&e.via)))
        }
        Event::Degraded(e) => Said::new(
            Doubt,
            format!(
                "it answers badly: {:.0} % of its work fails: {}",
                e.error_rate * 100.0,
                cut(&e.sample_error)
            ),
        ),
        Event::RestartRequested(e) => request(e),
        Event::RestartStarted(_) => Said::new(Plain, "the restart begins"),
        Event::DrainRequested(e) => Said::new(
            Plain,
            format!("no new calls; those under way may finish within {}", lasting(e.within_ms)),
        ),
        Event::DrainEnded(e) => Said::new(
            Plain,
            format!(
                "draining ended after {}: {}{}",
                lasting(e.took_ms),
                e.outcome.as_str(),
                e.open.map(|open| format!(", {open} calls still open")).unwrap_or_default()
            ),
        ),
        Event::RestartAbandoned(e) => {
            Said::new(Doubt, format!("the restart is given up: {}", e.reason)).rule(&e.reason)
        }
        Event::Quarantined(e) => Said::new(Bad, format!("quarantined: {}", cut(&e.message))).rule(&e.rule),
        Event::RestartAnnounced(e) => match e.outcome {
            CallOutcome::Answered => Said::new(Routine, "it was told that it had been restarted"),
            CallOutcome::NotDelivered | CallOutcome::Unknown => {
                Said::new(Routine, "it could not be told that it had been restarted")
            }
        },
        Event::Registered(_) => Said::new(Routine, "the agent registered"),
        Event::CardUpdated(_) => Said::new(Routine, "its card changed"),
        Event::HeartbeatReceived(_) => Said::new(Routine, "heartbeat"),
        Event::Paused(_) => Said::new(Plain, "paused by a person"),
        Event::Resumed(_) => Said::new(Plain, "resumed by a person"),
        Event::HibernationRequested(e) if e.forced && e.active_tasks > 0 => {
            Said::new(Plain, format!("to sleep, and {} tasks under way are cut off", e.active_tasks))
        }
        Event::HibernationRequested(_) => Said::new(Plain, "to sleep until somebody needs it"),
        Event::Hibernated(_) => Said::new(Plain, "it sleeps"),
        Event::Removed(_) => Said::new(Plain, "removed"),
        Event::Erased(_) => Said::new(Plain, "what was said about it was erased"),
        Event::TokenIssued(_) | Event::TokensRevoked(_) => Said::new(Routine, "its tokens changed"),
        Event::EnrolmentOpened(_) => Said::new(Routine, "its agent may fetch its first token"),
        Event::RegistrationRefused(_) => Said::new(Doubt, "somebody registered as its agent and was refused"),
        Event::CallFinished(e) => match e.outcome {
            CallOutcome::Answered => Said::new(Routine, "a call was answered"),
            CallOutcome::NotDelivered => Said::new(Doubt, "a call did not reach it"),
            CallOutcome::Unknown => Said::new(Doubt, "a call was cut off, and may have reached it"),
        },
        Event::SecretSet(_) => Said::new(Plain, "a secret of its own was set"),
        Event::SecretRemoved(_) => Said::new(Plain, "a secret of its own was removed"),
        Event::CallRecorded(_) => Said::new(Routine, "what was said in a call"),
        Event::MessageQueued(_) => Said::new(Routine, "a message waits for it to be fetched"),
        Event::ActivityReported(_) => Said::new(Routine, "it reported what it does"),
        Event::Notified(_) => Said::new(Routine, "it said something to people"),
        Event::CallQueued(_) => Said::new(Routine, "a call waits until it has time"),
        Event::CallDispatched(_) => Said::new(Routine, "a call that waited is sent"),
        Event::CallReturned(e) if e.busy => Said::new(Routine, "it has no time for a call that waits"),
        Event::CallReturned(_) => Said::new(Doubt, "a call that waits could not be delivered"),
        Event::CallDequeued(e) => match e.outcome {
            QueueOutcome::Completed => Said::new(Routine, "a call that waited was answered"),
            QueueOutcome::Failed | QueueOutcome::Dropped => Said::new(
                Doubt,
                format!("a call that waited ended: {}", e.reason.as_deref().unwrap_or("no reason given")),
            ),
        },
        Event::ActivityAcked(_) => Said::new(Routine, "it has done with its feed up to there"),
        Event::AgentAssigned(e) => Said::new(Routine, format!("model {} is assigned", cut(&e.model))),
        Event::AgentRemoved(e) => match e.to {
            Some(to) => Said::new(Routine, format!("model {} moves to {}", cut(&e.model), who.name(to))),
            None => Said::new(Routine, format!("model {} is not assigned any more", cut(&e.model))),
        },
        Event::AgentMoveEnded(e) if e.taken => Said::new(Routine, "its assignment has moved"),
        Event::AgentMoveEnded(_) => Said::new(Doubt, "its assignment could not move"),
        Event::TeamExpanded(e) => {
            Said::new(Plain, format!("its team is there: {} workspaces", e.children.len()))
        }
        Event::TeamCollapsed(e) => {
            Said::new(Plain, format!("its team was removed: {} workspaces", e.children.len()))
        }
        Event::DelegationRequested(_) => Said::new(Routine, "it handed on a task"),
        Event::DelegationDispatched(_) => Said::new(Routine, "a task that it handed on was sent"),
        Event::DelegationQueued(_) => Said::new(Routine, "a task that it handed on waits"),
        Event::DelegationEnded(e) => match e.outcome {
            DelegationOutcome::Completed => Said::new(Routine, "a task that it handed on was done"),
            DelegationOutcome::Failed => Said::new(
                Doubt,
                format!(
                    "a task that it handed on failed: {}",
                    e.reason.as_deref().unwrap_or("no reason given")
                ),
            ),
        },
        Event::SessionSuspected(e) => {
            Said::new(Doubt, format!("its session is suspect: {}", cut(&e.failure.excerpt)))
        }
        Event::SessionPoisoned(e) => {
            Said::new(Bad, format!("its session is poisoned: {} calls failed alike", e.in_a_row))
        }
        Event::SessionCleared(_) => Said::new(Good, "a call was answered: its session is not to blame"),
        Event::HandlerPanicked(e) => {
            Said::new(Bad, format!("a bug of the platform: `{}` panicked: {}", e.command, cut(&e.message)))
        }
        Event::SuspicionRaised(e) => suspicion(e),
        Event::SuspicionCleared(e) => {
            Said::new(Good, format!("not suspect any more after {}: {}", lasting(e.lasted_ms), e.by))
        }
        Event::VerdictWithheld(e) => withheld(e),
        Event::ConfirmRequested(e) => {
            Said::new(Plain, format!("one fresh look at generation {} decides", e.generation))
        }
        Event::DeathRefuted(e) => {
            Said::new(Good, format!("it runs after all: generation {} is taken back as it was", e.generation))
        }
        Event::OutcomeUnknown(e) => Said::new(
            Doubt,
            format!("whether the {} happened is unknown; lists will tell: {}", e.operation, cut(&e.detail)),
        ),
        Event::RestartProved(e) => {
            Said::new(Good, format!("generation {} has been well for {}", e.generation, lasting(e.after_ms)))
        }
    }
}

fn evidence(e: &EvidenceObserved) -> Said {
    let status = e.exit_status.map(|status| format!(", {}", exit_status(status))).unwrap_or_default();
    let detail = if e.detail.is_empty() { String::new() } else { format!(": {}", cut(&e.detail)) };
    let (weight, meaning) = match e.class {
        EvidenceClass::Death => (Weight::Bad, "proof of death"),
        EvidenceClass::Life => (Weight::Routine, "sign of life"),
        EvidenceClass::Suspicion => (Weight::Doubt, "doubt"),
        EvidenceClass::Silence => (Weight::Bad, "silence"),
        EvidenceClass::ObserverFailure => (Weight::Doubt, "we could not see"),
        EvidenceClass::Expected => (Weight::Routine, "expected"),
    };
    let generation = e.generation;
    Said::new(
        weight,
        format!("{meaning} from {}: {}{status}, generation {generation}{detail}", plain(&e.source), e.code),
    )
    .rule(&plain(&e.class))
}

fn request(e: &RestartRequested) -> Said {
    let weight = if e.cause.is_automatic() { Weight::Doubt } else { Weight::Plain };
    let reason = e.reason.as_ref().map(|reason| format!(": {}", cut(reason))).unwrap_or_default();
    let forced = if e.forced { ", passing over holds" } else { "" };
    Said::new(weight, format!("a restart is asked for: {}{forced}{reason}", cause(e.cause)))
        .rule(e.cause.as_str())
}

/// Why a restart is asked for, in words.
pub(crate) const fn cause(cause: RestartCause) -> &'static str {
    match cause {
        RestartCause::Death => "it died",
        RestartCause::Hung => "it hangs",
        RestartCause::Operator => "a person asked",
        RestartCause::Configuration => "its configuration changed",
        RestartCause::Session => "its session is poisoned",
        RestartCause::Shutdown => "it was stopped together with the platform",
        RestartCause::Team => "another member of its team died",
    }
}

fn suspicion(e: &SuspicionRaised) -> Said {
    let phi = e.phi.map(|phi| format!(", phi {phi:.1}")).unwrap_or_default();
    Said::new(
        Weight::Doubt,
        format!(
            "suspect: {} speaks against it, silent for {}{phi}, observer score {}",
            plain(&e.source),
            lasting(e.silent_ms),
            e.observer_score
        ),
    )
    .rule(&plain(&e.source))
}

fn withheld(e: &VerdictWithheld) -> Said {
    let sources: Vec<String> = e.sources.iter().map(plain).collect();
    Said::new(
        Weight::Doubt,
        format!(
            "not called hung, by {}: silent for {}, {} against it, observer score {}",
            e.rule,
            lasting(e.silent_ms),
            if sources.is_empty() { "nothing".to_owned() } else { sources.join(" and ") },
            e.observer_score
        ),
    )
    .rule(&e.rule)
}

/// The text on one line, cut where it is long.
pub(crate) fn cut(text: &str) -> String {
    let text: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
