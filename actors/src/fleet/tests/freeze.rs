//! What a freeze lets through, and how soon.

use covalence_events::fleet::{BrakeMode, CircuitChanged, CircuitState};

use super::*;

fn frozen(trigger: impl Fn(&mut Survey, Timestamp)) -> Fleet {
    let mut fleet = Fleet::of(15);
    let mut survey = Survey { calm_for: Duration::ZERO, ..calm() };
    trigger(&mut survey, fleet.now);
    let engaged = fleet.when(&Command::RecordSurvey(survey));
    assert!(
        matches!(&engaged[..], [Event::BrakeEngaged(e), Event::IncidentOpened(_)] if e.mode == BrakeMode::Freeze),
        "{engaged:?}"
    );
    fleet
}

/// Scenario 3 in the storm: who died while the engine was silent must not wait a minute for another who did.
#[test]
fn under_a_freeze_about_the_engine_the_next_death_follows_when_the_one_before_is_back() {
    let mut fleet = frozen(|survey, _| survey.score = 4);
    assert_eq!((fleet.ask(1, 1), fleet.ask(2, 2)), (vec![ADMITTED], vec![DEFERRED]));
    assert_eq!(fleet.settle(1, 1, RestartOutcome::Online), [SETTLED, ADMITTED]);
    assert_eq!(fleet.ask(3, 3), [DEFERRED], "one at a time");
    assert_eq!(fleet.settle(2, 2, RestartOutcome::Unstarted), [SETTLED], "the engine could not: a minute");
    let closed = CircuitChanged {
        cell: BackendKind::Process,
        state: CircuitState::Closed,
        rule: "probe".to_owned(),
        calls: 9,
        failed: 0,
        p95_ms: 1,
        probe_at: None,
    };
    let events = fleet.when(&Command::RecordCircuit(closed));
    let tags: Vec<_> = events.iter().map(Event::tag).collect();
    assert_eq!(tags, ["fleet.circuit_changed.v1", ADMITTED], "it answers again");
}

/// Decision 20: where many are suspect the pace is what protects them, whatever became of the one before.
#[test]
fn under_a_freeze_about_suspicion_proven_deaths_follow_a_minute_apart() {
    let mut fleet = frozen(|survey, now| {
        survey.suspects = (5..9).map(|n| (WorkspaceId(Uuid::from_u128(n)), now)).collect();
    });
    assert_eq!((fleet.ask(1, 1), fleet.ask(2, 2)), (vec![ADMITTED], vec![DEFERRED]));
    assert_eq!(fleet.settle(1, 1, RestartOutcome::Online), [SETTLED]);
}
