//! What a kind of actor brings to the machinery: its pure functions, under common names.

use covalence_events::workspace::BackendKind;
use covalence_events::{Fact, Recorded, Timestamp, fleet as fleet_events, workspace as workspace_events};

use super::Shared;
use super::dispatch::Work;
use crate::context::{Context, Corrupt, Decision};
use crate::policy::Policy;
use crate::workspace::{Rejection, Status};
use crate::{fleet, workspace};

/// One kind of actor. Everything here is pure.
pub(super) trait Domain: Sized + Unpin + 'static {
    type State: Send + Unpin + 'static;
    type Command: Clone + Send + 'static;
    type Event: Into<Fact>;
    /// What a caller learns of the state after its command.
    type Summary: Copy + Send + 'static;

    fn name(command: &Self::Command) -> &'static str;
    fn decide(
        state: Option<&Self::State>,
        command: &Self::Command,
        ctx: &Context<'_>,
    ) -> Result<Decision<Self::Event>, Rejection>;
    fn evolve(state: Option<Self::State>, recorded: &Recorded) -> Result<Self::State, Corrupt>;
    fn react(recorded: &Recorded, state: &Self::State) -> Vec<Work>;
    fn deadline(state: &Self::State, policy: &Policy, since: Timestamp) -> Option<Timestamp>;
    /// The cell that a state belongs to; the fleet has none.
    fn cell(state: Option<&Self::State>) -> Option<BackendKind>;
    /// Leaves a glance for those who don't ask the mailbox, and what holds for callers.
    fn note(state: &Self::State, shared: &Shared);
    fn due() -> Self::Command;
    fn summary(state: Option<&Self::State>) -> Self::Summary;
    /// Facts that are answered before the flush (decision: heartbeats that change nothing, and calls).
    fn is_telemetry(event: &Self::Event) -> bool;
}

/// Workspaces: see [`crate::workspace`].
#[derive(Debug)]
pub(super) struct Workspace;

impl Domain for Workspace {
    type State = workspace::State;
    type Command = workspace::Command;
    type Event = WorkspaceFact;
    type Summary = Status;

    fn name(command: &Self::Command) -> &'static str {
        command.name()
    }

    fn decide(
        state: Option<&Self::State>,
        command: &Self::Command,
        ctx: &Context<'_>,
    ) -> Result<Decision<Self::Event>, Rejection> {
        workspace::decide(state, command, ctx).map(|facts| facts.map(WorkspaceFact))
    }

    fn evolve(state: Option<Self::State>, recorded: &Recorded) -> Result<Self::State, Corrupt> {
        workspace::evolve(state, recorded)
    }

    fn react(recorded: &Recorded, state: &Self::State) -> Vec<Work> {
        let Fact::Workspace(event) = &recorded.fact else { return Vec::new() };
        let wrap = |effect| Work::Workspace { workspace: state.id, effect };
        workspace::react(recorded.meta.id, event, state).into_iter().map(wrap).collect()
    }

    fn deadline(state: &Self::State, policy: &Policy, since: Timestamp) -> Option<Timestamp> {
        workspace::decide::deadline(state, policy, since)
    }

    fn cell(state: Option<&Self::State>) -> Option<BackendKind> {
        state.map(|state| state.profile.backend)
    }

    fn note(state: &Self::State, shared: &Shared) {
        shared.registry.note(state);
    }

    fn due() -> Self::Command {
        workspace::Command::RecordDeadline
    }

    fn summary(state: Option<&Self::State>) -> Status {
        state.map_or(Status::Removed, |state| state.status)
    }

    fn is_telemetry(event: &Self::Event) -> bool {
        matches!(
            event.0,
            workspace_events::Event::HeartbeatReceived(_)
                | workspace_events::Event::CallFinished(_)
                | workspace_events::Event::CallRecorded(_)
        )
    }
}

/// The fleet's supervisor: see [`crate::fleet`].
#[derive(Debug)]
pub(super) struct Fleet;

impl Domain for Fleet {
    type State = fleet::State;
    type Command = fleet::Command;
    type Event = FleetFact;
    type Summary = ();

    fn name(command: &Self::Command) -> &'static str {
        command.name()
    }

    fn decide(
        state: Option<&Self::State>,
        command: &Self::Command,
        ctx: &Context<'_>,
    ) -> Result<Decision<Self::Event>, Rejection> {
        let nothing = fleet::State::default();
        fleet::decide(state.unwrap_or(&nothing), command, ctx).map(|facts| facts.map(FleetFact))
    }

    fn evolve(state: Option<Self::State>, recorded: &Recorded) -> Result<Self::State, Corrupt> {
        fleet::evolve(state.unwrap_or_default(), recorded)
    }

    fn react(recorded: &Recorded, state: &Self::State) -> Vec<Work> {
        fleet::react(recorded, state).into_iter().map(Work::Fleet).collect()
    }

    fn deadline(state: &Self::State, _policy: &Policy, _since: Timestamp) -> Option<Timestamp> {
        fleet::deadline(state)
    }

    fn cell(_state: Option<&Self::State>) -> Option<BackendKind> {
        None
    }

    fn note(state: &Self::State, shared: &Shared) {
        shared.sight.note(state);
    }

    fn due() -> Self::Command {
        fleet::Command::RecordDeadline
    }

    fn summary(_state: Option<&Self::State>) {}

    fn is_telemetry(_event: &Self::Event) -> bool {
        false
    }
}

/// A fact about a workspace, ready for its envelope.
#[derive(Debug)]
pub(super) struct WorkspaceFact(workspace_events::Event);

impl From<WorkspaceFact> for Fact {
    fn from(fact: WorkspaceFact) -> Self {
        Self::Workspace(fact.0)
    }
}

/// A fact about the fleet, ready for its envelope.
#[derive(Debug)]
pub(super) struct FleetFact(fleet_events::Event);

impl From<FleetFact> for Fact {
    fn from(fact: FleetFact) -> Self {
        Self::Fleet(fact.0)
    }
}
