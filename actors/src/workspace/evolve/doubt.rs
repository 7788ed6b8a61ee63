//! What speaks for and against a workspace.

use covalence_events::workspace::{Event, EvidenceClass, EvidenceSource};
use covalence_events::{Recorded, Timestamp};

use super::heard;
use crate::workspace::state::State;

/// Everything of that ends with the instance that it is about.
#[expect(clippy::too_many_lines, reason = "one arm for every kind of fact, exhaustive on purpose")]
pub(super) fn fold(state: &mut State, event: &Event, recorded: &Recorded) {
    let at = recorded.meta.at;
    match event {
        Event::EvidenceObserved(e) if e.generation == state.generation => match e.class {
            EvidenceClass::Suspicion => suspected(state, e.source, at),
            EvidenceClass::Life if matches!(e.source, EvidenceSource::Probe | EvidenceSource::Call) => {
                heard(state, Some(e.generation), at);
            }
            EvidenceClass::Death
            | EvidenceClass::Life
            | EvidenceClass::Silence
            | EvidenceClass::ObserverFailure
            | EvidenceClass::Expected => {}
        },
        Event::SuspicionCleared(_) => clear(state),
        Event::VerdictWithheld(_) => state.withheld = true,
        Event::RestartProved(e) => {
            state.probation = None;
            state.proved = Some((e.restart, recorded.meta.id));
        }
        Event::ProvisionRequested(_)
        | Event::InstanceStopped(_)
        | Event::StopRequested(_)
        | Event::ProvisionFailed(_) => {
            clear(state);
            state.probation = None;
        }
        Event::WentOffline(_) => state.probation = None,
        // Neither for nor against.
        Event::EvidenceObserved(_)
        | Event::Created(_)
        | Event::Renamed(_)
        | Event::RoleChanged(_)
        | Event::TierChanged(_)
        | Event::Moved(_)
        | Event::RuntimeChanged(_)
        | Event::DirectoryChanged(_)
        | Event::Placed(_)
        | Event::Folded(_)
        | Event::InstanceStarted(_)
        | Event::StopFailed(_)
        | Event::InstanceAdopted(_)
        | Event::VerdictReached(_)
        | Event::CameOnline(_)
        | Event::Degraded(_)
        | Event::RestartRequested(_)
        | Event::RestartStarted(_)
        | Event::DrainRequested(_)
        | Event::DrainEnded(_)
        | Event::RestartAbandoned(_)
        | Event::Quarantined(_)
        | Event::Registered(_)
        | Event::CardUpdated(_)
        | Event::HeartbeatReceived(_)
        | Event::Paused(_)
        | Event::Resumed(_)
        | Event::HibernationRequested(_)
        | Event::Hibernated(_)
        | Event::Removed(_)
        | Event::Erased(_)
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
        | Event::SuspicionRaised(_)
        | Event::RestartAnnounced(_)
        | Event::ConfirmRequested(_)
        | Event::DeathRefuted(_)
        | Event::OutcomeUnknown(_) => {}
    }
}

fn suspected(state: &mut State, source: EvidenceSource, at: Timestamp) {
    state.doubts.entry(source).or_insert(at);
    state.last_beat = None;
}

fn clear(state: &mut State) {
    state.doubts.clear();
    state.withheld = false;
}
