//! Whose turn it is: who goes on waiting, who goes first, who is taken along, and who is tried again.

use covalence_events::fleet::{RestartAdmitted, Strategy};

use super::*;
use crate::policy::admission::{BACKOFF, HOLD, IN_FLIGHT, INTENSITY, ORDER, TOKENS};

const LIFTED: &str = "fleet.quarantine_lifted.v1";
const RESOLVED: &str = "fleet.alarm_resolved.v1";

fn child_of(fleet: &mut Fleet, parent: u128, child: u128) {
    fleet.everybody.parents.insert(workspace(child), workspace(parent));
    fleet.everybody.created.push(workspace(child));
}

/// The rules by which restarts were deferred, or refused, in one decision.
fn rules(events: &[Event]) -> Vec<&str> {
    let rules = events.iter().filter_map(|event| match event {
        Event::RestartDeferred(deferred) => Some(deferred.rule.as_str()),
        Event::RestartSuppressed(suppressed) => Some(suppressed.rule.as_str()),
        _ => None,
    });
    rules.collect()
}

fn asks(fleet: &mut Fleet, workspace: u128, restart: u128, cause: RestartCause) -> Vec<Event> {
    fleet.when(&request(workspace, restart, cause))
}

fn dies(fleet: &mut Fleet, workspace: u128, restart: u128) -> Vec<Event> {
    asks(fleet, workspace, restart, RestartCause::Death)
}

fn hold(scope: Scope) -> Command {
    Command::SetHold { scope, reason: "test".to_owned(), lasts: Duration::from_secs(60), emergency: false }
}

#[test]
fn nothing_is_said_about_one_that_goes_on_waiting_for_the_same_reason() {
    let mut fleet = Fleet::of(15);
    let asked: Vec<_> = (1..=3).flat_map(|n| fleet.ask(n, n)).collect();
    assert_eq!(asked, [ADMITTED, ADMITTED, DEFERRED]);
    assert!(fleet.ask(3, 3).is_empty());
    assert_eq!(fleet.due_after(30), []);
}

/// The moment that a deferral names is a promise: when it has come, either it goes on or another moment is named.
#[test]
fn one_that_waits_for_tokens_is_told_a_new_moment_when_the_old_one_has_come() {
    let mut fleet = Fleet::of(100);
    for n in 1..=5 {
        fleet.ask(n, n);
    }
    let first = deadline(&fleet.state).unwrap();
    assert_eq!(fleet.due_after(5), []);
    fleet.now = first;
    let events = fleet.due_after(0);
    assert_eq!((tags(&events), rules(&events)), (vec![ADMITTED, DEFERRED], vec![TOKENS]));
    let second = deadline(&fleet.state).unwrap();
    assert!(second > first + TimeDelta::seconds(9), "{second}");
    fleet.now = second + TimeDelta::seconds(1);
    assert_eq!(tags(&fleet.due_after(0)), [ADMITTED], "a timer that rings late does no harm");
}

/// Jitter is drawn for each decision; who has waited long enough for one draw waits for no other.
#[test]
fn a_backoff_is_sat_out_once() {
    let mut fleet = Fleet::of(15);
    fleet.ask(1, 1);
    fleet.settle(1, 1, RestartOutcome::Online);
    fleet.chance = 0.0;
    assert_eq!(rules(&dies(&mut fleet, 1, 2)), [BACKOFF]);
    fleet.chance = 1.0;
    assert_eq!(fleet.due_after(3), []);
    assert_eq!(tags(&fleet.due_after(1)), [ADMITTED]);
}

#[test]
fn a_backoff_that_was_sat_out_is_not_begun_again_while_it_waits_for_something_else() {
    let mut fleet = Fleet::of(15);
    fleet.ask(1, 1);
    fleet.settle(1, 1, RestartOutcome::Online);
    fleet.chance = 0.0;
    assert_eq!(rules(&dies(&mut fleet, 1, 4)), [BACKOFF]);
    fleet.ask(2, 2);
    fleet.ask(3, 3);
    assert_eq!(rules(&fleet.due_after(4)), [TOKENS]);
    fleet.chance = 1.0;
    assert_eq!(fleet.settle(2, 2, RestartOutcome::Abandoned), [SETTLED, ADMITTED], "it costs nothing");
}

#[test]
fn what_is_below_a_restart_waits_for_it_and_others_do_not() {
    let mut fleet = Fleet::of(100);
    child_of(&mut fleet, 1, 2);
    child_of(&mut fleet, 2, 3);
    assert_eq!(fleet.ask(1, 1), [ADMITTED]);
    assert_eq!(rules(&dies(&mut fleet, 3, 3)), [ORDER], "an ancestor, though not the parent");
    assert_eq!(fleet.ask(4, 4), [ADMITTED]);
    assert_eq!(fleet.settle(1, 1, RestartOutcome::Online), [SETTLED, ADMITTED]);
}

#[test]
fn what_is_below_one_that_waits_for_its_turn_waits_too() {
    let mut fleet = Fleet::of(15);
    child_of(&mut fleet, 3, 4);
    for n in [1, 2] {
        fleet.ask(n, n);
    }
    assert_eq!(rules(&dies(&mut fleet, 3, 3)), [IN_FLIGHT]);
    assert_eq!(rules(&dies(&mut fleet, 4, 4)), [ORDER]);
    fleet.settle(1, 1, RestartOutcome::Abandoned);
    assert_eq!(
        fleet.settle(2, 2, RestartOutcome::Abandoned),
        [SETTLED],
        "a slot is free, and its parent takes one"
    );
    assert_eq!(fleet.settle(3, 3, RestartOutcome::Online), [SETTLED, ADMITTED]);
}

/// Nobody knows when a hold or a crash loop of the parent ends; its children's restarts need not.
#[test]
fn what_is_below_one_that_is_held_or_backs_off_does_not_wait_for_it() {
    let mut fleet = Fleet::of(15);
    child_of(&mut fleet, 1, 2);
    fleet.when(&hold(Scope::Workspace(workspace(1))));
    assert_eq!(rules(&dies(&mut fleet, 1, 1)), [HOLD]);
    assert_eq!(fleet.ask(2, 2), [ADMITTED]);

    let mut fleet = Fleet::of(15);
    child_of(&mut fleet, 1, 2);
    fleet.ask(1, 1);
    fleet.settle(1, 1, RestartOutcome::Online);
    assert_eq!(rules(&dies(&mut fleet, 1, 3)), [BACKOFF]);
    assert_eq!(fleet.ask(2, 2), [ADMITTED]);
}

#[test]
fn a_team_is_taken_along_by_its_strategy_when_a_member_dies() {
    let taken = |strategy, cause| {
        let mut fleet = Fleet::of(100);
        for member in [1, 2, 3, 4] {
            child_of(&mut fleet, 10, member);
        }
        child_of(&mut fleet, 20, 5);
        fleet.when(&Command::SetStrategy { team: workspace(10), strategy });
        let events = asks(&mut fleet, 2, 2, cause);
        let [Event::RestartAdmitted(RestartAdmitted { ref taken_along, .. })] = events[..] else {
            panic!("not admitted: {events:?}");
        };
        taken_along.iter().map(|id| id.0.as_u128()).collect::<Vec<_>>()
    };
    assert_eq!(taken(Strategy::OneForOne, RestartCause::Death), [0_u128; 0]);
    assert_eq!(taken(Strategy::RestForOne, RestartCause::Death), [3, 4]);
    assert_eq!(taken(Strategy::OneForAll, RestartCause::Death), [1, 3, 4]);
    assert_eq!(taken(Strategy::OneForAll, RestartCause::Hung), [1, 3, 4]);
    for cause in [RestartCause::Operator, RestartCause::Team, RestartCause::Configuration] {
        assert_eq!(taken(Strategy::OneForAll, cause), [0_u128; 0], "{cause:?} replaces one alone");
    }
}

/// A fleet in which one workspace has just been quarantined for dying a sixth time.
fn quarantined() -> Fleet {
    let mut fleet = Fleet::of(15);
    for n in 1..=5 {
        if fleet.ask(1, n) == [DEFERRED] {
            fleet.now = deadline(&fleet.state).unwrap();
            fleet.when(&Command::RecordDeadline);
        }
        fleet.settle(1, n, RestartOutcome::Online);
    }
    assert_eq!(fleet.ask(1, 6), [SUPPRESSED, "fleet.alarm_raised.v1"]);
    fleet
}

#[test]
fn a_quarantine_is_tried_three_times_a_quarter_of_an_hour_apart_and_then_never() {
    let mut fleet = quarantined();
    for attempt in 1..=3 {
        assert_eq!(fleet.due_after(899), []);
        let events = fleet.due_after(1);
        let [Event::QuarantineProbed(ref probed)] = events[..] else { panic!("not tried: {events:?}") };
        assert_eq!((probed.attempt, probed.attempts_max), (attempt, 3));
        assert_eq!(fleet.due_after(0), [], "called for once");
        let restart = 10 + u128::from(attempt);
        assert_eq!(fleet.ask(1, restart), [ADMITTED]);
        fleet.settle(1, restart, RestartOutcome::Online);
        assert_eq!(rules(&dies(&mut fleet, 1, 20 + restart)), [INTENSITY]);
    }
    assert_eq!(fleet.due_after(100_000), []);
}

#[test]
fn a_try_that_has_not_been_taken_up_is_not_called_for_again() {
    let mut fleet = quarantined();
    assert_eq!(fleet.due_after(900).len(), 1);
    assert_eq!(fleet.due_after(900), []);
}

#[test]
fn a_death_counts_as_the_crash_loops_for_ten_minutes_after_the_last() {
    let after = |seconds| {
        let mut fleet = quarantined();
        fleet.after(Duration::from_secs(seconds)).ask(1, 7)
    };
    assert_eq!(after(0), [SUPPRESSED]);
    assert_eq!(after(599), [SUPPRESSED]);
    assert_eq!(after(600), [ADMITTED]);
    assert_eq!(after(601), [ADMITTED]);
}

#[test]
fn only_a_persons_restart_lifts_a_quarantine() {
    let mut fleet = quarantined();
    assert_eq!(tags(&asks(&mut fleet, 1, 7, RestartCause::Configuration)), [ADMITTED]);
    fleet.settle(1, 7, RestartOutcome::Online);
    assert_eq!(tags(&asks(&mut fleet, 1, 8, RestartCause::Operator)), [ADMITTED, LIFTED, RESOLVED]);
}

#[test]
fn a_refused_person_is_no_crash_loop() {
    let mut fleet = Fleet::of(15);
    fleet.when(&hold(Scope::Fleet));
    let events = asks(&mut fleet, 1, 1, RestartCause::Operator);
    assert_eq!((tags(&events), rules(&events)), (vec![SUPPRESSED], vec![HOLD]));
}
