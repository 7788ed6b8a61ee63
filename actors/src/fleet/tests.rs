//! Decisions about the fleet, as given / when / then.

use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use covalence_events::fleet::{EngineLost, Event, Mode, PlatformStarted, RestartOutcome, Scope};
use covalence_events::workspace::{BackendKind, RestartCause};
use covalence_events::{
    BootId, CorrelationId, EventId, Fact, Meta, Position, Principal, Recorded, RestartId, StreamId,
    Timestamp, Version, WorkspaceId,
};
use uuid::Uuid;

use super::{Command, Effect, State, Survey, deadline, decide, evolve, outstanding, react};
use crate::context::{Context, ObserverView, Origin};
use crate::effect::Moment;
use crate::scenario::Everybody;
use crate::workspace::Rejection;

mod braking;
mod flights;
mod freeze;
mod incidents;
mod tokens;
mod turns;

struct Fleet {
    state: State,
    everybody: Everybody,
    now: Timestamp,
    /// What is drawn for each decision.
    chance: f64,
    version: u64,
    effects: Vec<Effect>,
    /// Id, cause and tag of each fact, in order.
    chain: Vec<(EventId, Option<EventId>, &'static str)>,
}

impl Fleet {
    fn of(size: u32) -> Self {
        Self {
            state: State::default(),
            everybody: Everybody::of(BackendKind::Process, size),
            now: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            chance: 0.5,
            version: 0,
            effects: Vec::new(),
            chain: Vec::new(),
        }
    }

    fn after(&mut self, time: Duration) -> &mut Self {
        self.now += TimeDelta::from_std(time).unwrap();
        self
    }

    fn when(&mut self, command: &Command) -> Vec<Event> {
        self.try_when(command).unwrap()
    }

    fn try_when(&mut self, command: &Command) -> Result<Vec<Event>, Rejection> {
        self.try_when_because(None, command)
    }

    fn when_because(&mut self, causation: Option<EventId>, command: &Command) -> Vec<Event> {
        self.try_when_because(causation, command).unwrap()
    }

    fn try_when_because(
        &mut self,
        causation: Option<EventId>,
        command: &Command,
    ) -> Result<Vec<Event>, Rejection> {
        let origin = Origin {
            principal: Principal::System,
            correlation: CorrelationId(Uuid::from_u128(1)),
            causation,
        };
        let policy = self.state.policy.clone();
        let cx = Context {
            now: Moment { at: self.now, mono_ns: 0 },
            boot: BootId(Uuid::from_u128(2)),
            origin: &origin,
            policy: &policy,
            policy_hash: policy.hash(),
            observer: ObserverView::well(self.now),
            stopped: self.state.is_stopped(),
            roster: &self.everybody,
            ids: Uuid::from_u128(u128::from(self.version + 1) << 32),
            chance: self.chance,
        };
        let decision = decide(&self.state, command, &cx)?;
        self.chain.extend(decision.facts().iter().map(|fact| (fact.id, fact.cause, fact.event.tag())));
        let events: Vec<Event> = decision.facts().iter().map(|fact| fact.event.clone()).collect();
        self.effects.clear();
        for new in decision.map(Fact::Fleet).into_new_events(&cx) {
            self.version += 1;
            let recorded = record(self.version, new.meta, new.fact);
            self.state = evolve(std::mem::take(&mut self.state), &recorded).unwrap();
            self.effects.extend(react(&recorded, &self.state));
        }
        Ok(events)
    }

    fn ask(&mut self, workspace: u128, restart: u128) -> Vec<&'static str> {
        let command = request(workspace, restart, RestartCause::Death);
        self.when(&command).iter().map(Event::tag).collect()
    }

    fn due_after(&mut self, seconds: u64) -> Vec<Event> {
        self.after(Duration::from_secs(seconds)).when(&Command::RecordDeadline)
    }

    fn settle(&mut self, workspace: u128, restart: u128, outcome: RestartOutcome) -> Vec<&'static str> {
        let command = Command::SettleRestart {
            workspace: WorkspaceId(Uuid::from_u128(workspace)),
            restart: RestartId(Uuid::from_u128(restart)),
            outcome,
        };
        self.when(&command).iter().map(Event::tag).collect()
    }
}

fn tags(events: &[Event]) -> Vec<&'static str> {
    events.iter().map(Event::tag).collect()
}

fn workspace(number: u128) -> WorkspaceId {
    WorkspaceId(Uuid::from_u128(number))
}

/// A list in which nothing speaks for a brake, long since.
fn calm() -> Survey {
    Survey {
        cell: BackendKind::Process,
        listed: true,
        suspects: Vec::new(),
        dead: Vec::new(),
        score: 0,
        circuit_open: false,
        calm_for: Duration::from_secs(60),
    }
}

fn record(version: u64, meta: Meta, fact: Fact) -> Recorded {
    Recorded { position: Position(version), stream: StreamId::Fleet, version: Version(version), meta, fact }
}

fn request(workspace: u128, restart: u128, cause: RestartCause) -> Command {
    Command::RequestAdmission {
        workspace: WorkspaceId(Uuid::from_u128(workspace)),
        restart: RestartId(Uuid::from_u128(restart)),
        cause,
        forced: false,
    }
}

const ADMITTED: &str = "fleet.restart_admitted.v1";
const DEFERRED: &str = "fleet.restart_deferred.v1";
const SUPPRESSED: &str = "fleet.restart_suppressed.v1";
const SETTLED: &str = "fleet.restart_settled.v1";

#[test]
fn the_first_death_is_admitted_at_once() {
    let mut fleet = Fleet::of(15);
    assert_eq!(fleet.ask(1, 1), [ADMITTED]);
    assert!(matches!(fleet.effects[..], [Effect::Grant { .. }]));
}

#[test]
fn asking_again_for_the_same_restart_changes_nothing() {
    let mut fleet = Fleet::of(15);
    fleet.ask(1, 1);
    assert!(fleet.ask(1, 1).is_empty());
}

#[test]
fn a_mass_death_starts_two_at_a_time_in_the_order_of_the_requests() {
    let mut fleet = Fleet::of(15);
    let answers: Vec<_> = (1..=4).flat_map(|n| fleet.ask(n, n)).collect();
    assert_eq!(answers, [ADMITTED, ADMITTED, DEFERRED, DEFERRED]);
    assert_eq!(
        fleet.settle(1, 1, RestartOutcome::Online),
        [SETTLED, ADMITTED, DEFERRED],
        "the fourth waits for a token"
    );
    assert_eq!(fleet.state.in_flight.len(), 2);
    let granted: Vec<_> = fleet
        .effects
        .iter()
        .map(|effect| match effect {
            Effect::Grant { restart, .. } | Effect::Deny { restart, .. } => restart.0.as_u128(),
            Effect::TryAgain { .. }
            | Effect::TakeAlong { .. }
            | Effect::SpreadSecrets { .. }
            | Effect::RecordFlight(_) => 0,
        })
        .collect();
    assert_eq!(granted, [3]);
}

/// T2 does not wait for a survey: deaths that come one by one engage it with the one that is too many.
#[test]
fn deaths_that_come_one_by_one_engage_the_brake_without_a_survey() {
    let mut fleet = Fleet::of(15);
    let answers: Vec<_> = (1..=5).flat_map(|n| fleet.ask(n, n)).collect();
    assert_eq!(answers, [ADMITTED, ADMITTED, DEFERRED, DEFERRED, DEFERRED]);
    assert_eq!(fleet.ask(6, 6), ["fleet.brake_engaged.v1", "fleet.incident_opened.v1", DEFERRED]);
    assert!(fleet.ask(6, 6).is_empty());
}

#[test]
fn an_admission_after_a_wait_comes_from_the_deferral_of_that_restart() {
    let mut fleet = Fleet::of(15);
    fleet.ask(1, 1);
    fleet.ask(2, 2);
    assert_eq!(fleet.ask(3, 3), [DEFERRED]);
    let by_slot = fleet.chain.last().unwrap().0;
    fleet.settle(1, 1, RestartOutcome::Online);
    let (_, cause, tag) = *fleet.chain.last().unwrap();
    assert_eq!((cause, tag), (Some(by_slot), ADMITTED), "not from the restart whose slot it got");

    assert_eq!(fleet.ask(1, 4), [DEFERRED]);
    let by_backoff = fleet.chain.last().unwrap().0;
    fleet.settle(2, 2, RestartOutcome::Online);
    fleet.settle(3, 3, RestartOutcome::Online);
    fleet.after(Duration::from_secs(30)).when(&Command::RecordDeadline);
    let (_, cause, tag) = *fleet.chain.last().unwrap();
    assert_eq!((cause, tag), (Some(by_backoff), ADMITTED), "not from nowhere, because a timer rang");
}

#[test]
fn a_crash_loop_is_spaced_out_and_then_refused() {
    let mut fleet = Fleet::of(15);
    for n in 1..=5 {
        if fleet.ask(1, n) == [DEFERRED] {
            let until = deadline(&fleet.state).unwrap();
            fleet.now = until;
            let events = fleet.when(&Command::RecordDeadline);
            assert_eq!(events.iter().map(Event::tag).collect::<Vec<_>>(), [ADMITTED], "restart {n}");
        }
        fleet.settle(1, n, RestartOutcome::Online);
    }
    assert_eq!(fleet.ask(1, 6), [SUPPRESSED, "fleet.alarm_raised.v1"]);
    assert!(matches!(fleet.effects[..], [Effect::Deny { .. }]));
}

#[test]
fn ten_quiet_minutes_forget_the_crashes() {
    let mut fleet = Fleet::of(15);
    for n in 1..=2 {
        fleet.ask(1, n);
        fleet.after(Duration::from_secs(10)).when(&Command::RecordDeadline);
        fleet.settle(1, n, RestartOutcome::Online);
    }
    fleet.after(Duration::from_secs(601));
    assert_eq!(fleet.ask(1, 9), [ADMITTED]);
}

#[test]
fn a_persons_restart_passes_the_backoff_of_its_workspace() {
    let mut fleet = Fleet::of(15);
    fleet.ask(1, 1);
    fleet.settle(1, 1, RestartOutcome::Online);
    let events = fleet.when(&request(1, 2, RestartCause::Operator));
    assert_eq!(events.iter().map(Event::tag).collect::<Vec<_>>(), [ADMITTED]);
}

#[test]
fn a_restart_that_is_withdrawn_while_it_waits_is_settled_and_forgotten() {
    let mut fleet = Fleet::of(2);
    for n in 1..=3 {
        fleet.ask(n, n);
    }
    assert_eq!(fleet.settle(3, 3, RestartOutcome::Abandoned), [SETTLED]);
    assert!(fleet.state.waiting.is_empty());
    assert!(fleet.settle(3, 3, RestartOutcome::Abandoned).is_empty(), "settled once");
}

/// `mode advise` is for the first week with a new policy: whoever died meanwhile must not stay down for it.
#[test]
fn what_was_only_recorded_waits_until_decisions_are_acted_on_again() {
    let mode = |mode| Command::SetMode { scope: Scope::Fleet, mode, reason: "first week".to_owned() };
    let mut fleet = Fleet::of(15);
    fleet.when(&mode(Mode::Advise));
    assert_eq!(fleet.ask(1, 1), [DEFERRED]);
    assert!(fleet.effects.is_empty());
    let events = fleet.after(Duration::from_secs(3600)).when(&mode(Mode::Act));
    assert_eq!(events.iter().map(Event::tag).collect::<Vec<_>>(), ["fleet.mode_set.v1", ADMITTED]);
}

#[test]
fn a_platform_that_comes_back_grants_again_what_may_not_have_been_heard() {
    let mut fleet = Fleet::of(15);
    fleet.ask(1, 1);
    assert!(matches!(outstanding(&fleet.state)[..], [Effect::Grant { admission: Position(1), .. }]));
}

/// R10: an unknown that lasts is an alarm, and the alarm ends with it.
#[test]
fn an_engine_that_stays_away_raises_one_alarm_that_its_return_resolves() {
    let mut fleet = Fleet::of(15);
    let lost = EngineLost { engine: "docker".into(), code: "timeout".into(), detail: String::new() };
    assert_eq!(fleet.when(&Command::RecordEngineLost(lost.clone())).len(), 1);
    assert!(fleet.when(&Command::RecordEngineLost(lost)).is_empty());
    fleet.after(Duration::from_secs(299));
    assert!(fleet.when(&Command::RecordDeadline).is_empty());
    fleet.after(Duration::from_secs(1));
    assert!(matches!(fleet.when(&Command::RecordDeadline)[..], [Event::AlarmRaised(_)]));
    assert!(fleet.when(&Command::RecordDeadline).is_empty());
    let events = fleet.when(&Command::RecordEngineFound { engine: "docker".into() });
    assert!(matches!(events[..], [Event::EngineFound(_), Event::AlarmResolved(_)]));
}

/// The loops of a run end with it.
#[test]
fn a_start_of_the_platform_ends_alarms_about_loops_of_the_run_before() {
    let mut fleet = Fleet::of(15);
    let raise =
        |kind: &str| Command::RaiseAlarm { kind: kind.to_owned(), workspace: None, message: String::new() };
    fleet.when(&raise("loop_stuck:deadlines"));
    fleet.when(&raise("brake:docker"));
    let started = PlatformStarted {
        version: "1".to_owned(),
        backend: "docker".to_owned(),
        workspaces: 15,
        head: Position(9),
    };
    let events = fleet.when(&Command::RecordStart(started));
    let resolved: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::AlarmResolved(e) => Some(e.kind.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(resolved, ["loop_stuck:deadlines"]);
}

/// Messages are carried at least once; one that comes late must not start what is over.
#[test]
fn a_request_that_comes_again_after_its_restart_has_ended_is_an_echo() {
    let mut fleet = Fleet::of(15);
    fleet.ask(1, 1);
    fleet.settle(1, 1, RestartOutcome::Online);
    assert!(fleet.ask(1, 1).is_empty());
}

/// R10: an engine that can't start it says nothing about the workspace. Its tries are spaced out, and quarantine nobody.
#[test]
fn starts_that_the_engine_could_not_make_are_spaced_out_and_quarantine_nobody() {
    let mut fleet = Fleet::of(15);
    for n in 1..=9 {
        if fleet.ask(1, n) == [DEFERRED] {
            fleet.now = deadline(&fleet.state).unwrap();
            fleet.when(&Command::RecordDeadline);
        }
        assert!(fleet.state.in_flight.len() == 1, "try {n}");
        fleet.settle(1, n, RestartOutcome::Unstarted);
    }
    let started = fleet.now - DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    assert!(started > TimeDelta::seconds(300), "{started}");
    assert!(fleet.state.quarantined.is_empty());
}
