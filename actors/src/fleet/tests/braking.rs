//! Brakes as they are engaged, changed and released, with who and how many it was.

use covalence_events::fleet::{BrakeEngaged, BrakeMode, BrakeTrigger, PlatformStarted};

use super::*;

const ENGAGED: &str = "fleet.brake_engaged.v1";
const OPENED: &str = "fleet.incident_opened.v1";
const RELEASED: &str = "fleet.brake_released.v1";
const RAISED: &str = "fleet.alarm_raised.v1";

fn surveyed(fleet: &mut Fleet, survey: Survey) -> Vec<Event> {
    fleet.when(&Command::RecordSurvey(survey))
}

/// Suspects since then.
fn suspects(numbers: std::ops::RangeInclusive<u128>, since: Timestamp) -> Vec<(WorkspaceId, Timestamp)> {
    numbers.map(|number| (workspace(number), since)).collect()
}

fn numbers(members: &[WorkspaceId]) -> Vec<u128> {
    members.iter().map(|id| id.0.as_u128()).collect()
}

fn engaged(events: &[Event]) -> Vec<&BrakeEngaged> {
    let engaged = events.iter().filter_map(|event| match event {
        Event::BrakeEngaged(engaged) => Some(engaged),
        _ => None,
    });
    engaged.collect()
}

/// A fleet of fifteen whose observer is unwell, and so frozen.
fn frozen() -> Fleet {
    let mut fleet = Fleet::of(15);
    assert_eq!(tags(&surveyed(&mut fleet, Survey { score: 4, ..calm() })), [ENGAGED, OPENED]);
    fleet
}

/// A fleet of fifteen in which six died while it was held. The hold is over: the first of them is the canary.
fn canary_sent() -> Fleet {
    let mut fleet = Fleet::of(15);
    hold(&mut fleet, Scope::Fleet);
    // One after the other, so that they are no mass death by themselves.
    for n in 1..=6 {
        fleet.after(Duration::from_secs(20)).ask(n, n);
    }
    let events = release_hold(&mut fleet);
    assert_eq!(tags(&events)[..4], ["fleet.hold_released.v1", ENGAGED, OPENED, ADMITTED]);
    fleet
}

fn hold(fleet: &mut Fleet, scope: Scope) {
    let lasts = Duration::from_secs(3600);
    fleet.when(&Command::SetHold { scope, reason: "test".to_owned(), lasts, emergency: false });
}

fn release_hold(fleet: &mut Fleet) -> Vec<Event> {
    let hold = fleet.state.holds.iter().find(|(_, hold)| hold.scope == Scope::Fleet).map(|(id, _)| *id);
    fleet.when(&Command::ReleaseHold { hold: hold.unwrap(), comment: None })
}

fn mode(fleet: &Fleet) -> Option<BrakeMode> {
    fleet.state.brake_mode(BackendKind::Process)
}

#[test]
fn a_brake_says_who_engaged_it() {
    let mut fleet = Fleet::of(15);
    let recent = fleet.now;
    let events = surveyed(&mut fleet, Survey { suspects: suspects(1..=3, recent), ..calm() });
    let [brake] = engaged(&events)[..] else { panic!("{events:?}") };
    assert_eq!((brake.trigger, numbers(&brake.members)), (BrakeTrigger::Suspicion, vec![1, 2, 3]));

    let mut fleet = Fleet::of(15);
    let events = surveyed(&mut fleet, Survey { circuit_open: true, ..calm() });
    let [brake] = engaged(&events)[..] else { panic!("{events:?}") };
    assert_eq!((brake.trigger, numbers(&brake.members)), (BrakeTrigger::Observer, vec![]));

    let mut fleet = Fleet::of(15);
    for n in 1..=5 {
        fleet.ask(n, n);
    }
    let events = surveyed(&mut fleet, Survey { dead: vec![workspace(5), workspace(6)], ..calm() });
    let [brake] = engaged(&events)[..] else { panic!("{events:?}") };
    assert_eq!((brake.trigger, brake.count, brake.of), (BrakeTrigger::Deaths, 6, 15));
    assert_eq!(numbers(&brake.members), [1, 2, 3, 4, 5, 6], "each once, whether reported or about to be");
}

#[test]
fn only_what_happened_within_the_window_counts_as_together() {
    let old = |seconds: i64| {
        let mut fleet = Fleet::of(15);
        let since = fleet.now - TimeDelta::seconds(seconds);
        engaged(&surveyed(&mut fleet, Survey { suspects: suspects(1..=3, since), ..calm() })).len()
    };
    assert_eq!([0, 29, 30, 31].map(old), [1, 1, 0, 0]);

    let spread = |seconds| {
        let mut fleet = Fleet::of(15);
        for n in 1..=5 {
            fleet.ask(n, n);
        }
        let later = fleet.after(Duration::from_secs(seconds));
        engaged(&later.when(&request(6, 6, RestartCause::Death))).len()
    };
    assert_eq!([0, 29, 30, 31].map(spread), [1, 1, 0, 0]);
}

#[test]
fn the_grace_ends_with_the_first_list_after_its_time() {
    let mut fleet = Fleet::of(15);
    let started = PlatformStarted {
        version: String::new(),
        backend: "process".to_owned(),
        workspaces: 15,
        head: Position(0),
    };
    fleet.when(&Command::RecordStart(started));
    fleet.after(Duration::from_secs(59));
    assert_eq!(surveyed(&mut fleet, calm()), [], "not yet");
    fleet.after(Duration::from_secs(1));
    assert_eq!(surveyed(&mut fleet, Survey { listed: false, ..calm() }), [], "nothing has been seen yet");
    fleet.after(Duration::from_secs(2));
    let events = surveyed(&mut fleet, calm());
    let [Event::GraceEnded(ref ended)] = events[..] else { panic!("{events:?}") };
    assert_eq!((ended.cell, ended.after_ms), (BackendKind::Process, 62_000));
    assert_eq!(surveyed(&mut fleet, calm()), [], "once");
}

#[test]
fn a_freeze_becomes_an_alarm_when_it_lasts_which_ends_with_it() {
    let mut fleet = frozen();
    assert_eq!(deadline(&fleet.state), Some(fleet.now + TimeDelta::seconds(300)), "to be told in time");
    assert_eq!(fleet.due_after(299), []);
    let events = fleet.due_after(1);
    let [Event::AlarmRaised(ref alarm)] = events[..] else { panic!("{events:?}") };
    assert_eq!((alarm.kind.as_str(), alarm.workspace), ("brake:process", None));
    assert_eq!(alarm.message, "restarts on the process backend have been held back for 5 min");
    assert_eq!(deadline(&fleet.state), None, "told once");
    assert_eq!(fleet.due_after(60), []);
    let events = surveyed(fleet.after(Duration::from_secs(60)), calm());
    assert_eq!(tags(&events), [RELEASED, "fleet.alarm_resolved.v1"]);
    let Event::BrakeReleased(released) = &events[0] else { panic!("{events:?}") };
    assert_eq!((released.reason.as_str(), released.after_ms), ("trigger_gone", 420_000));
    assert!(fleet.state.alarms.is_empty());
}

#[test]
fn an_alarm_that_nobody_rang_for_in_time_is_raised_late() {
    let mut fleet = frozen();
    assert_eq!(tags(&fleet.due_after(301)), [RAISED]);
}

#[test]
fn a_silence_of_everybody_is_an_alarm_at_once() {
    let mut fleet = Fleet::of(15);
    let long_since = fleet.now - TimeDelta::seconds(100);
    let events = surveyed(&mut fleet, Survey { suspects: suspects(1..=15, long_since), ..calm() });
    assert_eq!(tags(&events), [ENGAGED, OPENED, RAISED]);
    let brake = engaged(&events)[0];
    assert_eq!((brake.trigger, brake.members.len()), (BrakeTrigger::Everybody, 15));
}

#[test]
fn a_person_releases_a_brake_and_what_waited_goes_on() {
    let mut fleet = frozen();
    assert_eq!(fleet.ask(1, 1), [ADMITTED], "the one proven death a minute");
    assert_eq!(fleet.ask(2, 2), [DEFERRED]);
    let events = fleet.when(&Command::ReleaseBrake { cell: BackendKind::Process });
    assert_eq!(tags(&events), [RELEASED, ADMITTED]);
}

#[test]
fn a_canary_that_proves_itself_lets_the_others_follow_without_a_survey() {
    let mut fleet = canary_sent();
    let budget = fleet.now + TimeDelta::seconds(60);
    assert_eq!(deadline(&fleet.state), Some(budget), "when it has failed");
    fleet.after(Duration::from_secs(10));
    assert_eq!(fleet.settle(1, 1, RestartOutcome::Online), [SETTLED]);
    assert!(deadline(&fleet.state).unwrap() > budget, "it has been heard from");
    fleet.after(Duration::from_secs(20));
    let events = fleet
        .when(&Command::ProveRestart { workspace: workspace(1), restart: RestartId(Uuid::from_u128(1)) });
    assert_eq!(tags(&events)[..3], ["fleet.restart_proved.v1", ENGAGED, ADMITTED]);
    assert_eq!(mode(&fleet), Some(BrakeMode::SlowStart));
}

#[test]
fn a_canary_that_is_not_heard_from_in_a_minute_freezes_the_others_with_an_alarm() {
    let mut fleet = canary_sent();
    assert_eq!(fleet.due_after(59), []);
    let events = fleet.due_after(1);
    assert_eq!(tags(&events)[..2], [ENGAGED, RAISED]);
    let brake = engaged(&events)[0];
    assert_eq!((brake.mode, brake.trigger), (BrakeMode::Freeze, BrakeTrigger::CanaryFailed));
    assert_eq!(numbers(&brake.members), [1]);
    assert_eq!(deadline(&fleet.state), None, "surveys say when the next one is tried");
}

/// A timer knows nothing of the observer.
#[test]
fn after_a_canary_that_failed_the_next_is_sent_by_a_survey() {
    let mut fleet = canary_sent();
    fleet.settle(1, 1, RestartOutcome::Failed);
    assert_eq!(mode(&fleet), Some(BrakeMode::Freeze));
    assert_eq!(fleet.due_after(300), []);
    let events = surveyed(&mut fleet, calm());
    assert_eq!(tags(&events)[..2], [ENGAGED, ADMITTED]);
    assert_eq!(mode(&fleet), Some(BrakeMode::Canary));
}

#[test]
fn after_a_hold_a_good_part_of_a_cell_that_died_meanwhile_is_started_by_canary() {
    let deaths = |count| {
        let mut fleet = Fleet::of(15);
        hold(&mut fleet, Scope::Fleet);
        for n in 1..=count {
            fleet.after(Duration::from_secs(20)).ask(n, n);
        }
        let events = release_hold(&mut fleet);
        engaged(&events).first().map(|brake| (brake.mode, brake.trigger, numbers(&brake.members)))
    };
    assert_eq!(deaths(3), None);
    assert_eq!(deaths(4), Some((BrakeMode::Canary, BrakeTrigger::Grace, vec![1, 2, 3, 4])));
    assert_eq!(deaths(5), Some((BrakeMode::Canary, BrakeTrigger::Grace, vec![1, 2, 3, 4, 5])));
}

#[test]
fn a_hold_that_ends_counts_only_what_died_in_that_cell_and_may_start_now() {
    let mut fleet = Fleet::of(15);
    fleet.everybody.sizes.insert(BackendKind::Docker, 15);
    fleet.everybody.cells.insert(workspace(20), BackendKind::Docker);
    hold(&mut fleet, Scope::Fleet);
    hold(&mut fleet, Scope::Workspace(workspace(4)));
    for n in [1, 2, 3, 4, 20] {
        fleet.after(Duration::from_secs(20)).ask(n, n);
    }
    fleet.when(&request(5, 5, RestartCause::Configuration));
    let events = release_hold(&mut fleet);
    assert_eq!(engaged(&events).len(), 0, "three died; one is held, one changed, one is of another engine");
}

#[test]
fn a_brake_that_is_on_stays_as_it_is_when_a_hold_ends() {
    let mut fleet = frozen();
    hold(&mut fleet, Scope::Fleet);
    for n in 1..=5 {
        fleet.after(Duration::from_secs(20)).ask(n, n);
    }
    assert_eq!(engaged(&release_hold(&mut fleet)).len(), 0);
    assert_eq!(mode(&fleet), Some(BrakeMode::Freeze));
}
