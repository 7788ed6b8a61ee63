//! The read side's picture of the fleet is the write side's own, and what it says could begin is what does begin.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use covalence_actors::context::{Context, ObserverView, Origin};
use covalence_actors::effect::Moment;
use covalence_actors::fleet::{self, Command, State, Survey};
use covalence_actors::scenario::Everybody;
use covalence_events::fleet::{Event, Mode, RestartOutcome};
use covalence_events::{
    BootId, CorrelationId, Fact, HoldId, Position, Principal, Recorded, RestartId, StreamId, Version,
    WorkspaceId,
};
use covalence_projections::Projection as _;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const CELL: BackendKind = BackendKind::Process;
/// Small enough that the in-flight limit is its least.
const SIZE: u32 = 15;

fn workspace(number: u128) -> WorkspaceId {
    WorkspaceId(Uuid::from_u128(number))
}

fn restart(number: u128) -> RestartId {
    RestartId(Uuid::from_u128(number))
}

/// Both sides of one history.
struct Both {
    state: State,
    supervision: Supervision,
    now: Timestamp,
    facts: u64,
}

impl Both {
    fn new() -> Self {
        Self {
            state: State::default(),
            supervision: Supervision::default(),
            now: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            facts: 0,
        }
    }

    /// Decides, and lets both sides take in what follows; a refusal leads to nothing.
    fn when(&mut self, command: &Command) -> Vec<Event> {
        let origin = Origin {
            principal: Principal::Admin,
            correlation: CorrelationId(Uuid::from_u128(1)),
            causation: None,
        };
        let (policy, everybody) = (self.state.policy.clone(), Everybody::of(CELL, SIZE));
        let ctx = Context {
            now: Moment { at: self.now, mono_ns: 0 },
            boot: BootId(Uuid::from_u128(2)),
            origin: &origin,
            policy: &policy,
            policy_hash: policy.hash(),
            observer: ObserverView::well(self.now),
            stopped: self.state.is_stopped(),
            roster: &everybody,
            ids: Uuid::from_u128(u128::from(self.facts + 1) << 32),
            chance: 0.5,
        };
        let Ok(decision) = fleet::decide(&self.state, command, &ctx) else { return Vec::new() };
        let events: Vec<Event> = decision.facts().iter().map(|fact| fact.event.clone()).collect();
        for new in decision.map(Fact::Fleet).into_new_events(&ctx) {
            self.facts += 1;
            let recorded = Recorded {
                position: Position(self.facts),
                stream: StreamId::Fleet,
                version: Version(self.facts),
                meta: new.meta,
                fact: new.fact,
            };
            self.state = fleet::evolve(std::mem::take(&mut self.state), &recorded).unwrap();
            self.supervision.apply(&recorded).unwrap();
        }
        events
    }

    fn around(&self) -> Around<'_> {
        Around { policy: &self.state.policy, supervision: &self.supervision, rows: &[], at: self.now }
    }

    fn assert_same(&self) -> Result<(), TestCaseError> {
        let (state, supervision, around) = (&self.state, &self.supervision, self.around());
        let unknown = Cell::default();
        let cell = supervision.cell(CELL).unwrap_or(&unknown);
        let seen = around.surroundings(CELL, cell);
        let level = seen.bucket.level(&state.policy, self.now);
        prop_assert!((level - state.tokens(CELL, self.now)).abs() < 1e-9, "{level} tokens");
        prop_assert_eq!(seen.brake, state.cells.get(&CELL).and_then(|cell| cell.brake));
        let trial = state.cells.get(&CELL).and_then(|cell| cell.trial);
        prop_assert_eq!(cell.trial.map(|trial| trial.restart), trial.map(|trial| trial.restart));
        prop_assert_eq!(seen.in_flight, state.in_flight_of(CELL));
        prop_assert_eq!(seen.in_grace, state.in_grace(CELL));
        let waiting = |id: RestartId, rule: &str| (id, rule.to_owned());
        let ours: BTreeSet<_> = supervision.waiting().map(|(id, one)| waiting(id, &one.rule)).collect();
        let theirs: BTreeSet<_> = state.waiting.iter().map(|(id, one)| waiting(*id, &one.rule)).collect();
        prop_assert_eq!(ours, theirs);
        let holds: BTreeSet<HoldId> = supervision.holds().map(|hold| hold.id).collect();
        prop_assert_eq!(holds, state.holds.keys().copied().collect::<BTreeSet<_>>());
        let alarms: BTreeSet<_> = supervision.alarms().map(|one| (one.kind.clone(), one.workspace)).collect();
        prop_assert_eq!(alarms, state.alarms.clone());
        let quarantined: BTreeSet<_> = supervision.quarantined().map(|(id, _)| id).collect();
        prop_assert_eq!(quarantined, state.quarantined.keys().copied().collect::<BTreeSet<_>>());
        Ok(())
    }
}

/// Workspaces of the history, few enough that restarts meet their outcomes; later ids are never seen before.
const KNOWN: u128 = 4;

fn command() -> impl Strategy<Value = Command> {
    let outcome = prop_oneof![
        Just(RestartOutcome::Online),
        Just(RestartOutcome::Failed),
        Just(RestartOutcome::Abandoned)
    ];
    let cause = prop_oneof![
        4 => Just(RestartCause::Death),
        1 => Just(RestartCause::Hung),
        1 => Just(RestartCause::Operator)
    ];
    let which = (0..KNOWN, 0..2_u128).prop_map(|(who, which)| (workspace(who), restart(who * 4 + which)));
    prop_oneof![
        6 => (which.clone(), cause).prop_map(|((workspace, restart), cause)| Command::RequestAdmission {
            workspace,
            restart,
            cause,
            forced: false,
        }),
        4 => (which.clone(), outcome).prop_map(|((workspace, restart), outcome)| Command::SettleRestart {
            workspace,
            restart,
            outcome,
        }),
        3 => which.prop_map(|(workspace, restart)| Command::ProveRestart { workspace, restart }),
        3 => (0..15_u32, any::<bool>(), 0..60_u64).prop_map(|(score, listed, calm)| {
            Command::RecordSurvey(Survey {
                cell: CELL,
                listed,
                suspects: Vec::new(),
                dead: Vec::new(),
                score: score.saturating_sub(8),
                circuit_open: false,
                calm_for: Duration::from_secs(calm),
            })
        }),
        2 => Just(Command::RecordDeadline),
        1 => (any::<bool>(), 1..120_u64).prop_map(|(emergency, lasts)| Command::SetHold {
            scope: Scope::Fleet,
            reason: "r".to_owned(),
            lasts: Duration::from_secs(lasts),
            emergency: emergency && lasts < 10,
        }),
        1 => any::<bool>().prop_map(|act| Command::SetMode {
            scope: Scope::Fleet,
            mode: if act { Mode::Act } else { Mode::Advise },
            reason: "r".to_owned(),
        }),
        1 => Just(Command::ReleaseBrake { cell: CELL }),
    ]
}

proptest! {
    #[test]
    fn both_sides_see_the_same_and_as_many_begin_as_are_said_to(
        story in prop::collection::vec((command(), 0..8_i64), 0..80),
    ) {
        let mut both = Both::new();
        for (command, seconds) in &story {
            both.now += TimeDelta::seconds(*seconds);
            both.when(command);
            both.assert_same()?;
        }
        let said = both.around().cell(CELL).allowed.death;
        let mut begun = 0;
        let stopped = loop {
            let number = KNOWN + u128::from(begun) + 1;
            let (workspace, restart) = (workspace(number), restart(number * 4));
            let wish =
                Command::RequestAdmission { workspace, restart, cause: RestartCause::Death, forced: false };
            match both.when(&wish).into_iter().next() {
                Some(Event::RestartAdmitted(_)) => begun += 1,
                Some(Event::RestartDeferred(e)) => break e.rule,
                Some(Event::RestartSuppressed(e)) => break e.rule,
                other => return Err(TestCaseError::fail(format!("{other:?}"))),
            }
        };
        prop_assert_eq!((said.restarts, said.limited_by), (begun, stopped.as_str()));
    }
}
