//! That stepping through the log shows what the projections show at every position, and that a step can be taken back.

use covalence_events::fleet::{
    self, AlarmRaised, AlarmResolved, BrakeEngaged, BrakeMode, BrakeReading, BrakeReleased, BrakeTrigger,
    GraceEnded, GraceStarted, HoldReleased, HoldSet, Mode, ModeSet, ObserverChanged, PlatformStarted,
    PolicyChanged, QuarantineLifted, RestartAdmitted, RestartDeferred, RestartOutcome, RestartProved,
    RestartSettled, RestartSuppressed, Scope, Strategy as TeamStrategy, StrategySet,
};
use covalence_events::workspace::{
    BackendKind, CallOutcome, Event, EvidenceClass, EvidenceObserved, EvidenceSource, OnlineVia, Paused,
    Removed as RemovedFact, Renamed, RestartCause, RestartRequested, SuspicionCleared, WentOffline,
};
use covalence_events::{Fact, Generation, HoldId, PolicyHash, Position, Principal, RestartId};
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::Views;
use crate::picture::{Change, Picture, Subject, Walk};
use crate::testing::{
    History, admitted, at, beat, call, created, deferred, id, online, provision, registered, started,
};

const WORKSPACES: u128 = 4;
const CELL: BackendKind = BackendKind::Process;

fn of_workspace() -> impl Strategy<Value = Event> {
    prop_oneof![
        (1_u64..4).prop_map(|generation| provision(generation).into()),
        (1_u64..4).prop_map(|generation| started(generation).into()),
        (1_u64..4).prop_map(|generation| beat(generation).into()),
        Just(registered(Some("http://x")).into()),
        Just(online(OnlineVia::Heartbeat, "offline").into()),
        Just(WentOffline { rule: "r".to_owned(), message: None }.into()),
        Just(Paused {}.into()),
        Just(RemovedFact { cascade_deleted: None, purge: false, forwarded_to: None }.into()),
        "[a-c]{1,2}".prop_map(|name| Renamed { name }.into()),
        (0..WORKSPACES)
            .prop_map(|caller| call(Principal::Workspace(id(caller)), CallOutcome::Answered, 7).into()),
        Just(SuspicionCleared { generation: Generation(1), by: "beat".to_owned(), lasted_ms: 5 }.into()),
        Just(evidence().into()),
        Just(requested().into()),
    ]
}

/// A restart belongs to one workspace.
fn own(number: u128) -> RestartId {
    RestartId(Uuid::from_u128(number))
}

fn evidence() -> EvidenceObserved {
    EvidenceObserved {
        generation: Generation(1),
        instance: None,
        class: EvidenceClass::Suspicion,
        source: EvidenceSource::Heartbeat,
        code: "late".to_owned(),
        detail: "nothing heard".to_owned(),
        exit_status: None,
    }
}

fn requested() -> RestartRequested {
    RestartRequested {
        restart: own(0),
        cause: RestartCause::Death,
        generation: Generation(1),
        reset_session: false,
        evidence: Vec::new(),
        forced: false,
        reason: None,
    }
}

fn of_fleet() -> impl Strategy<Value = fleet::Event> {
    let number = 0..WORKSPACES;
    prop_oneof![
        number.clone().prop_map(|number| RestartAdmitted { restart: own(number), ..admitted(number) }.into()),
        number.clone().prop_map(|number| RestartDeferred {
            restart: own(number),
            ..deferred(number, "tokens")
        }
        .into()),
        number.clone().prop_map(|number| suppressed(number).into()),
        number.clone().prop_map(|number| settled(number).into()),
        number.clone().prop_map(|number| QuarantineLifted {
            workspace: id(number),
            reason: "operator".to_owned()
        }
        .into()),
        number
            .clone()
            .prop_map(|number| StrategySet { team: id(number), strategy: TeamStrategy::OneForAll }.into()),
        number.prop_map(
            |number| RestartProved { cell: CELL, workspace: id(number), restart: own(number) }.into()
        ),
        Just(brake().into()),
        Just(
            BrakeReleased {
                cell: CELL,
                reason: "calm".to_owned(),
                after_ms: 5,
                reading: BrakeReading::default()
            }
            .into()
        ),
        Just(hold(Scope::Fleet).into()),
        Just(
            HoldReleased { hold: HoldId(Uuid::from_u128(9)), reason: "released".to_owned(), comment: None }
                .into()
        ),
        Just(
            ModeSet { scope: Scope::Workspace(id(1)), mode: Mode::Advise, reason: "look".to_owned() }.into()
        ),
        Just(ModeSet { scope: Scope::Workspace(id(1)), mode: Mode::Act, reason: "go".to_owned() }.into()),
        Just(AlarmRaised { kind: "k".to_owned(), workspace: None, message: "m".to_owned() }.into()),
        Just(AlarmResolved { kind: "k".to_owned(), workspace: None }.into()),
        (0_u32..3).prop_map(|score| ObserverChanged { score, ..ObserverChanged::default() }.into()),
        Just(GraceStarted { workspaces: 1, until: at(90) }.into()),
        Just(GraceEnded { cell: CELL, after_ms: 3 }.into()),
        (1_u64..4).prop_map(|seconds| policy(seconds).into()),
        Just(platform_started().into()),
    ]
}

fn suppressed(number: u128) -> RestartSuppressed {
    RestartSuppressed {
        workspace: id(number),
        restart: own(number),
        cause: RestartCause::Death,
        rule: "intensity".to_owned(),
        recent: 5,
        recent_max: 5,
        window_s: 600,
        inputs: None,
        until: None,
    }
}

fn settled(number: u128) -> RestartSettled {
    RestartSettled { workspace: id(number), restart: own(number), outcome: RestartOutcome::Online }
}

fn brake() -> BrakeEngaged {
    BrakeEngaged {
        cell: CELL,
        mode: BrakeMode::Freeze,
        trigger: BrakeTrigger::Deaths,
        count: 3,
        of: 4,
        threshold: 3,
        members: vec![id(0)],
        reading: BrakeReading::default(),
    }
}

fn hold(scope: Scope) -> HoldSet {
    HoldSet {
        hold: HoldId(Uuid::from_u128(9)),
        scope,
        reason: "new disk".to_owned(),
        until: None,
        emergency: false,
    }
}

fn policy(seconds: u64) -> PolicyChanged {
    PolicyChanged {
        hash: PolicyHash(seconds),
        from: PolicyHash(0),
        parameters: json!({"backoff": {"base_s": seconds}, "name": "default"}),
        changed: Vec::new(),
        reason: "test".to_owned(),
        origin: "set".to_owned(),
    }
}

fn platform_started() -> PlatformStarted {
    PlatformStarted {
        version: "0".to_owned(),
        backend: "process".to_owned(),
        workspaces: 1,
        head: Position(1),
    }
}

fn history() -> impl Strategy<Value = History> {
    let fact = prop_oneof![
        2 => (0..WORKSPACES, of_workspace()).prop_map(|(number, event)| (number, Fact::Workspace(event))),
        1 => of_fleet().prop_map(|event| (0, Fact::Fleet(event))),
    ];
    proptest::collection::vec(fact, 0..80).prop_map(|facts| {
        let mut history = History::default();
        for number in 0..WORKSPACES {
            history.of(number, created("w", None));
        }
        for (number, fact) in facts {
            match fact {
                Fact::Workspace(Event::RestartRequested(e)) => {
                    history.of(number, RestartRequested { restart: own(number), ..e })
                }
                Fact::Workspace(event) => history.of(number, event),
                Fact::Fleet(event) => history.fleet(event),
            };
        }
        history
    })
}

fn picture(views: &Views) -> Picture {
    Picture::of(&views.roster.read(), &views.supervision.read())
}

/// One change, on plain values.
fn apply(shown: &mut Vec<(Subject, String, Value)>, change: &Change, forwards: bool) {
    let (gone, come) =
        if forwards { (&change.before, &change.after) } else { (&change.after, &change.before) };
    let place =
        shown.iter().position(|(subject, field, _)| *subject == change.subject && *field == change.field);
    match place {
        Some(place) => assert_eq!(shown.remove(place).2, *gone),
        None => assert_eq!(*gone, Value::Null),
    }
    if !come.is_null() {
        shown.push((change.subject.clone(), change.field.to_string(), come.clone()));
    }
}

fn flat(picture: &Picture) -> Vec<(Subject, String, Value)> {
    let fields = picture.subjects().flat_map(|(subject, fields)| {
        fields.iter().map(|(field, value)| (subject.clone(), field.to_string(), value.clone()))
    });
    let mut fields: Vec<_> = fields.collect();
    fields.sort_by_key(|(subject, field, _)| (subject.clone(), field.clone()));
    fields
}

proptest! {
    #[test]
    fn a_walk_shows_what_the_projections_show_at_every_position(history in history(), begin in 0_usize..80) {
        let begin = begin.min(history.0.len());
        let mut views = Views::new();
        for recorded in &history.0[..begin] {
            views.fold(recorded);
        }
        let mut walk = Walk::from(&views);
        for recorded in &history.0[begin..] {
            let before = walk.picture().clone();
            let changes = walk.step(recorded).unwrap();
            views.fold(recorded);
            prop_assert_eq!(walk.picture(), &picture(&views));
            prop_assert_eq!(&changes, &before.changes_to(walk.picture()));
        }
    }

    #[test]
    fn changes_lead_forwards_and_back_again(history in history()) {
        let mut walk = Walk::from(&Views::new());
        let steps: Vec<_> = history.0.iter().map(|recorded| walk.step(recorded).unwrap()).collect();
        let mut shown = Vec::new();
        for change in steps.iter().flatten() {
            apply(&mut shown, change, true);
        }
        let mut sorted = shown.clone();
        sorted.sort_by_key(|(subject, field, _)| (subject.clone(), field.clone()));
        prop_assert_eq!(sorted, flat(walk.picture()));
        for change in steps.iter().flatten().rev() {
            apply(&mut shown, change, false);
        }
        prop_assert!(shown.is_empty(), "{shown:?}");
    }
}

#[test]
fn a_changed_policy_differs_in_the_parameters_that_changed() {
    let mut history = History::default();
    history.fleet(policy(1));
    let mut views = Views::new();
    views.fold(&history.0[0]);
    let before = picture(&views);
    views.fold(&history.fleet(policy(2)));
    let changes = before.changes_to(&picture(&views));
    let fields: Vec<&str> = changes.iter().map(|change| change.field.as_ref()).collect();
    assert_eq!(fields, ["hash", "parameters.backoff.base_s", "since"]);
    assert!(changes.iter().all(|change| change.subject == Subject::Policy));
}

#[test]
fn a_fact_that_was_taken_in_changes_nothing_again() {
    let mut history = History::default();
    history.of(1, created("w", None));
    let mut walk = Walk::from(&Views::new());
    assert!(!walk.step(&history.0[0]).unwrap().is_empty());
    assert_eq!(walk.step(&history.0[0]).unwrap(), []);
    assert_eq!(walk.position(), Position(1));
}
