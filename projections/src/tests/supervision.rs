//! What each fact does to the picture of the supervisor.

use covalence_events::fleet::{
    AdmissionInputs, AlarmRaised, AlarmResolved, BrakeEngaged, BrakeMode, BrakeReading, BrakeReleased,
    BrakeTrigger, CircuitChanged, CircuitState, Event, GraceEnded, GraceStarted, HoldReleased, HoldSet, Mode,
    ModeSet, ObserverChanged, PlatformStarted, PolicyChanged, QuarantineLifted, QuarantineProbed,
    RestartAdmitted, RestartDeferred, RestartOutcome, RestartProved, RestartSettled, RestartSuppressed,
    Scope, Strategy, StrategySet,
};
use covalence_events::workspace::{
    BackendKind, EvidenceClass, EvidenceObserved, EvidenceSource, Removed, RestartCause, SuspicionCleared,
    SuspicionRaised, VerdictWithheld,
};
use covalence_events::{Generation, HoldId, PolicyHash, Position, RestartId};
use serde_json::json;
use uuid::Uuid;

use crate::Projection;
use crate::supervision::{DECISIONS_PER_WORKSPACE, Decided, POLICIES_MAX, Supervision, TrialOutcome};
use crate::testing::{self, History, at, created, id};

const CELL: BackendKind = BackendKind::Process;

fn fold(history: &History) -> Supervision {
    let mut supervision = Supervision::default();
    for recorded in &history.0 {
        supervision.apply(recorded).unwrap();
    }
    supervision
}

fn fleet(events: impl IntoIterator<Item = Event>) -> Supervision {
    let mut history = History::default();
    for event in events {
        history.fleet(event);
    }
    fold(&history)
}

fn restart(number: u128) -> RestartId {
    RestartId(Uuid::from_u128(number))
}

fn inputs(tokens: f64) -> AdmissionInputs {
    AdmissionInputs { tokens, ..AdmissionInputs::quiet(CELL, at(0)) }
}

fn admitted(number: u128, tokens: f64) -> Event {
    RestartAdmitted {
        restart: restart(number),
        inputs: Some(Box::new(inputs(tokens))),
        cost: Some(1.0),
        ..testing::admitted(number)
    }
    .into()
}

fn deferred(number: u128, rule: &str) -> Event {
    RestartDeferred {
        restart: restart(number),
        inputs: Some(Box::new(inputs(0.5))),
        ..testing::deferred(number, rule)
    }
    .into()
}

fn suppressed(number: u128, rule: &str) -> Event {
    RestartSuppressed {
        workspace: id(number),
        restart: restart(number),
        cause: RestartCause::Death,
        rule: rule.to_owned(),
        recent: 5,
        recent_max: 5,
        window_s: 600,
        inputs: None,
        until: None,
    }
    .into()
}

fn settled(number: u128, outcome: RestartOutcome) -> Event {
    RestartSettled { workspace: id(number), restart: restart(number), outcome }.into()
}

fn proved(number: u128) -> Event {
    RestartProved { workspace: id(number), restart: restart(number), cell: CELL }.into()
}

fn brake(mode: BrakeMode, trigger: BrakeTrigger) -> Event {
    BrakeEngaged {
        cell: CELL,
        mode,
        trigger,
        count: 5,
        of: 15,
        threshold: 3,
        members: vec![id(1)],
        reading: BrakeReading::default(),
    }
    .into()
}

fn platform_started() -> Event {
    PlatformStarted {
        version: "1".to_owned(),
        backend: "process".to_owned(),
        workspaces: 0,
        head: Position(0),
    }
    .into()
}

#[test]
fn an_admission_takes_tokens_and_what_comes_of_it_gives_some_back() {
    let supervision = fleet([
        admitted(1, 3.0),
        settled(1, RestartOutcome::Online),
        proved(1),
        admitted(2, 2.5),
        settled(2, RestartOutcome::Abandoned),
    ]);
    let tokens = supervision.cell(CELL).unwrap().tokens.clone().unwrap();
    assert_eq!((tokens.level, tokens.at), (1.5, at(4)), "as the last admission left it");
    assert_eq!(tokens.rewards, [at(5)], "what was not needed costs nothing");
    assert_eq!(supervision.in_flight().count(), 0);
}

#[test]
fn a_restart_waits_from_its_first_deferral_until_it_is_admitted() {
    let waiting = fleet([deferred(1, "backoff"), deferred(1, "tokens")]);
    let (_, one) = waiting.waiting().next().unwrap();
    assert_eq!((one.since, one.rule.as_str(), one.until), (at(1), "tokens", Some(at(60))));
    let going = fleet([deferred(1, "tokens"), admitted(1, 1.0)]);
    assert_eq!((going.waiting().count(), going.in_flight().count()), (0, 1));
    let refused = fleet([deferred(1, "tokens"), suppressed(1, "advise_only")]);
    assert_eq!((refused.waiting().count(), refused.quarantined().count()), (0, 0));
}

#[test]
fn a_brake_remembers_since_when_it_has_been_on_over_its_modes() {
    let supervision = fleet([
        brake(BrakeMode::Freeze, BrakeTrigger::Suspicion),
        admitted(1, 3.0),
        brake(BrakeMode::Canary, BrakeTrigger::Deaths),
    ]);
    let engaged = supervision.cell(CELL).unwrap().brake.clone().unwrap();
    assert_eq!((engaged.since, engaged.mode_since, engaged.last_let), (at(1), at(3), Some(at(2))));
    let released = BrakeReleased {
        cell: CELL,
        reason: "trigger_gone".to_owned(),
        after_ms: 1,
        reading: BrakeReading::default(),
    };
    let off = fleet([brake(BrakeMode::Freeze, BrakeTrigger::Suspicion), released.into()]);
    assert_eq!(off.cell(CELL).unwrap().brake, None);
}

#[test]
fn the_canary_is_followed_to_its_end() {
    let outcome = |events: Vec<Event>| {
        let all = [brake(BrakeMode::Canary, BrakeTrigger::Deaths), admitted(1, 3.0)];
        let supervision = fleet(all.into_iter().chain(events));
        supervision.cell(CELL).unwrap().trial.map(|trial| trial.outcome)
    };
    assert_eq!(outcome(vec![]), Some(TrialOutcome::Starting));
    assert_eq!(outcome(vec![settled(1, RestartOutcome::Online)]), Some(TrialOutcome::Heard));
    assert_eq!(outcome(vec![settled(1, RestartOutcome::Online), proved(1)]), Some(TrialOutcome::Proved));
    assert_eq!(outcome(vec![settled(1, RestartOutcome::Failed)]), Some(TrialOutcome::Failed));
    assert_eq!(outcome(vec![settled(1, RestartOutcome::Abandoned)]), None);
    let Event::RestartDeferred(again) = deferred(1, "brake") else { panic!("no deferral") };
    let again = RestartDeferred { restart: restart(77), ..again };
    assert_eq!(outcome(vec![settled(1, RestartOutcome::Online), again.into()]), Some(TrialOutcome::Failed));
}

#[test]
fn a_new_run_of_the_platform_forgets_how_well_the_last_one_saw() {
    let score = ObserverChanged { cell: Some(CELL), score: 5, from: 2, engine: 5, ..Default::default() };
    let open = CircuitChanged {
        cell: CELL,
        state: CircuitState::Open,
        rule: "error_rate".to_owned(),
        calls: 20,
        failed: 12,
        p95_ms: 3000,
        probe_at: Some(at(9)),
    };
    let facts = [Event::from(score), open.into(), brake(BrakeMode::Freeze, BrakeTrigger::Observer)];
    let sick = fleet(facts.clone());
    let cell = sick.cell(CELL).unwrap();
    assert_eq!((cell.score(), cell.circuit_state()), (5, CircuitState::Open));
    let fresh = fleet(facts.into_iter().chain([platform_started()]));
    let cell = fresh.cell(CELL).unwrap();
    assert_eq!((cell.score(), cell.circuit_state()), (0, CircuitState::Closed));
    assert!(cell.brake.is_some(), "a brake outlives the run that engaged it");
}

#[test]
fn the_grace_lasts_for_each_cell_until_that_cell_was_seen() {
    let started = GraceStarted { workspaces: 3, until: at(60) };
    let ended = GraceEnded { cell: CELL, after_ms: 61_000 };
    let supervision = fleet([started.into(), ended.into()]);
    assert!(supervision.grace(CELL).is_none());
    assert_eq!(supervision.grace(BackendKind::Docker).unwrap().until, at(60));
}

#[test]
fn holds_alarms_modes_and_strategies_are_on_until_they_are_taken_back() {
    let hold = HoldId(Uuid::from_u128(8));
    let set = HoldSet {
        hold,
        scope: Scope::Subtree(id(1)),
        reason: "maintenance".to_owned(),
        until: Some(at(99)),
        emergency: false,
    };
    let raised = AlarmRaised { kind: "brake:docker".to_owned(), workspace: None, message: "m".to_owned() };
    let advise = ModeSet { scope: Scope::Fleet, mode: Mode::Advise, reason: "new".to_owned() };
    let strategy = StrategySet { team: id(1), strategy: Strategy::OneForAll };
    let facts = [Event::from(set), raised.into(), advise.into(), strategy.into()];
    let on = fleet(facts.clone());
    assert_eq!(on.hold(hold).unwrap().reason, "maintenance");
    assert_eq!(on.alarms().next().unwrap().since, at(2));
    assert_eq!(on.advised()[0].scope, Scope::Fleet);
    assert_eq!(on.strategy(id(1)), Strategy::OneForAll);

    let back = [
        Event::from(HoldReleased { hold, reason: "released".to_owned(), comment: None }),
        AlarmResolved { kind: "brake:docker".to_owned(), workspace: None }.into(),
        ModeSet { scope: Scope::Fleet, mode: Mode::Act, reason: "seen enough".to_owned() }.into(),
        StrategySet { team: id(1), strategy: Strategy::OneForOne }.into(),
    ];
    let off = fleet(facts.into_iter().chain(back));
    assert_eq!((off.holds().count(), off.alarms().count(), off.advised().len()), (0, 0, 0));
    assert_eq!(off.strategy(id(1)), Strategy::OneForOne);
}

#[test]
fn a_quarantine_counts_its_tries_until_it_is_lifted() {
    let probed = QuarantineProbed { workspace: id(1), attempt: 2, attempts_max: 3 };
    let facts = [suppressed(1, "intensity"), probed.into()];
    let quarantined = fleet(facts.clone());
    let quarantine = quarantined.quarantine(id(1)).unwrap();
    assert_eq!((quarantine.since, quarantine.tries, quarantine.tries_max), (at(1), 2, Some(3)));
    let lifted = QuarantineLifted { workspace: id(1), reason: "proved".to_owned() };
    assert_eq!(fleet(facts.into_iter().chain([lifted.into()])).quarantined().count(), 0);
}

#[test]
fn the_policy_in_force_is_the_last_one_and_as_many_are_kept_as_can_be_gone_back_to() {
    let change = |number: u64| {
        Event::from(PolicyChanged {
            hash: PolicyHash(number),
            from: PolicyHash(number.saturating_sub(1)),
            parameters: json!({"grace": "60s"}),
            changed: Vec::new(),
            reason: "r".to_owned(),
            origin: "set".to_owned(),
        })
    };
    let many = POLICIES_MAX as u64 + 3;
    let supervision = fleet((1..=many).map(change));
    assert_eq!(supervision.policy().unwrap().hash, PolicyHash(many));
    let kept: Vec<_> = supervision.policies().map(|policy| policy.hash.0).collect();
    assert_eq!(kept, (4..=many).rev().collect::<Vec<_>>());
}

#[test]
fn decisions_are_kept_with_their_numbers_newest_first_and_not_without_end() {
    let supervision = fleet([admitted(1, 3.0), deferred(2, "tokens"), suppressed(1, "intensity")]);
    let last = supervision.decisions(10);
    let words: Vec<_> = last.iter().map(|d| (d.decided.as_str(), d.rule.as_deref())).collect();
    assert_eq!(words, [("suppressed", Some("intensity")), ("deferred", Some("tokens")), ("admitted", None)]);
    assert_eq!(last[2].inputs.as_deref(), Some(&inputs(3.0)));
    assert_eq!(supervision.decisions_about(id(2), 10).len(), 1);
    let many = fleet((0..100).map(|_| deferred(1, "tokens")));
    assert_eq!(many.decisions_about(id(1), usize::MAX).len(), DECISIONS_PER_WORKSPACE);
}

fn evidence(class: EvidenceClass) -> EvidenceObserved {
    EvidenceObserved {
        source: EvidenceSource::Probe,
        class,
        generation: Generation(1),
        instance: None,
        code: "timeout".to_owned(),
        detail: "no answer".to_owned(),
        exit_status: None,
    }
}

#[test]
fn what_speaks_against_a_workspace_is_kept_until_something_speaks_for_it() {
    let mut history = History::default();
    history.of(1, created("a", None));
    history.of(1, evidence(EvidenceClass::Suspicion));
    history.of(1, evidence(EvidenceClass::Life));
    history.of(
        1,
        SuspicionRaised {
            generation: Generation(1),
            source: EvidenceSource::Probe,
            phi: None,
            silent_ms: 50_000,
            observer_score: 1,
            evidence: Vec::new(),
        },
    );
    history.of(
        1,
        VerdictWithheld {
            generation: Generation(1),
            rule: "one_source".to_owned(),
            sources: vec![EvidenceSource::Probe],
            silent_ms: 180_000,
            observer_score: 1,
        },
    );
    let suspect = fold(&history);
    let watch = suspect.watch(id(1)).unwrap();
    assert_eq!(watch.doubts[&EvidenceSource::Probe].code, "timeout");
    assert_eq!(watch.suspicion.as_ref().unwrap().since, at(4));
    assert_eq!(watch.withheld.as_ref().unwrap().rule, "one_source");
    assert_eq!(watch.seen.len(), 1, "signs of life are not kept");
    assert_eq!(suspect.suspects().count(), 1);
    assert_eq!(suspect.decisions_about(id(1), 1)[0].decided, Decided::Withheld);

    history.of(1, SuspicionCleared { generation: Generation(1), by: "answer".to_owned(), lasted_ms: 1 });
    let cleared = fold(&history);
    let watch = cleared.watch(id(1)).unwrap();
    assert!(watch.doubts.is_empty() && watch.suspicion.is_none() && watch.withheld.is_none());
    assert_eq!(watch.seen.len(), 1, "what was said stays readable");
    history.of(1, Removed { cascade_deleted: None, purge: false, forwarded_to: None });
    assert!(fold(&history).watch(id(1)).is_none());
}
