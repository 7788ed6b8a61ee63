//! What the observer asks and reports, turn by turn.

use chrono::{DateTime, TimeDelta};
use covalence_events::workspace::{EvidenceClass, EvidenceSource};
use uuid::Uuid;

use super::*;
use crate::effect::ListedState;

fn at(seconds: i64) -> Timestamp {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn id(n: u128) -> WorkspaceId {
    WorkspaceId(Uuid::from_u128(n))
}

fn instance(n: u128) -> InstanceRef {
    InstanceRef { id: format!("instance-{n}") }
}

fn running(n: u128) -> Seen {
    Seen {
        workspace: id(n),
        generation: Generation(1),
        desired: true,
        between: false,
        instance: Some(instance(n)),
        url: Some("http://127.0.0.1:4000".to_owned()),
        heard: at(0),
        suspect: None,
        unknown: None,
    }
}

fn listed(n: u128, state: ListedState) -> Listed {
    Listed {
        workspace: Some(id(n)),
        generation: Some(Generation(1)),
        instance: instance(n),
        name: format!("w{n}"),
        state,
        url: Some("http://127.0.0.1:4000".to_owned()),
    }
}

const STOPPED: ListedState = ListedState::Stopped { exit_status: Some(137) };

/// A watch with what it sees, at a moment.
struct Story {
    watch: Watch,
    seen: Vec<Seen>,
    now: Timestamp,
}

impl Story {
    fn of(count: u128) -> Self {
        let watch = Watch::new(BackendKind::Docker, at(0));
        Self { watch, seen: (1..=count).map(running).collect(), now: at(0) }
    }

    fn tell(&mut self, input: Input) -> Vec<Output> {
        self.watch.handle(&Policy::default(), input, &self.seen, self.now)
    }

    fn list(&mut self, listed: Vec<Listed>) -> Vec<Output> {
        self.tell(Input::Listed { result: Ok(listed), took: Duration::from_millis(1) })
    }

    fn fail(&mut self) -> Vec<Output> {
        let error = BackendError { code: "timeout", detail: String::new() };
        self.tell(Input::Listed { result: Err(error), took: Duration::from_secs(3) })
    }

    /// Turns, a second apart, with agents that go on beating; what was said on the way.
    fn turns(&mut self, count: i64) -> Vec<Output> {
        let mut out = Vec::new();
        for _ in 0..count {
            self.now += TimeDelta::seconds(1);
            out.extend(self.tell(Input::Turn));
        }
        out
    }
}

fn evidence(out: &[Output]) -> Vec<(WorkspaceId, EvidenceSource, EvidenceClass)> {
    let of = |output: &Output| match output {
        Output::Evidence { workspace, evidence } => Some((*workspace, evidence.source, evidence.class)),
        _ => None,
    };
    out.iter().filter_map(of).collect()
}

fn lists(out: &[Output]) -> usize {
    out.iter().filter(|output| **output == Output::List).count()
}

#[test]
fn one_list_every_five_seconds_however_many_there_are() {
    for count in [1, 1000] {
        let mut story = Story::of(count);
        let mut asked = 0;
        for _ in 0..60 {
            let out = story.turns(1);
            asked += lists(&out);
            if lists(&out) > 0 {
                story.list((1..=count).map(|n| listed(n, ListedState::Running)).collect());
            }
        }
        assert_eq!(asked, 12, "{count} workspaces");
    }
}

#[test]
fn what_a_list_does_not_show_is_looked_at_by_its_id_two_at_a_time() {
    let mut story = Story::of(5);
    story.turns(1);
    let looks = |out: &[Output]| out.iter().filter(|o| matches!(o, Output::Inspect { .. })).count();
    let out = story.list(Vec::new());
    assert_eq!((looks(&out), evidence(&out).len()), (2, 0), "absence from a list is no evidence");
    let gone = Inspection::NotThere { code: "not_found", detail: String::new(), exit_status: None };
    let out = story.tell(Input::Inspected {
        workspace: id(1),
        generation: Generation(1),
        instance: instance(1),
        inspection: gone,
        took: Duration::from_millis(1),
    });
    assert_eq!(evidence(&out), [(id(1), EvidenceSource::Inspect, EvidenceClass::Death)]);
    assert_eq!(looks(&out), 1, "the next one");
}

#[test]
fn many_deaths_in_one_list_are_announced_before_the_first_is_reported() {
    let mut story = Story::of(6);
    story.turns(1);
    let out = story.list((1..=6).map(|n| listed(n, STOPPED)).collect());
    let survey = out
        .iter()
        .position(|o| matches!(o, Output::Fleet(Command::RecordSurvey(survey)) if survey.dead.len() == 6));
    let first = out.iter().position(|o| matches!(o, Output::Evidence { .. }));
    assert!(survey.is_some() && survey < first, "{out:?}");
    assert_eq!(evidence(&out).len(), 6);
}

#[test]
fn an_engine_that_fails_twice_is_asked_less_and_nobody_is_blamed() {
    let mut story = Story::of(3);
    story.turns(1);
    let mut out = story.fail();
    out.extend(story.turns(5));
    out.extend(story.fail());
    assert!(evidence(&out).is_empty());
    assert!(out.iter().any(|o| matches!(o, Output::Fleet(Command::RecordCircuit(_)))));
    let out = story.turns(4);
    assert_eq!(lists(&out), 0, "the circuit is open");
    let out = story.turns(2);
    assert_eq!(lists(&out), 1, "one probe");
    let out = story.list((1..=3).map(|n| listed(n, ListedState::Running)).collect());
    assert!(out.iter().any(|o| matches!(o, Output::Fleet(Command::RecordEngineFound { .. }))));
    assert_eq!(story.watch.circuit(), CircuitState::Closed);
}

#[test]
fn after_a_pause_of_our_own_nothing_is_concluded_and_silence_begins_anew() {
    let mut story = Story::of(3);
    story.turns(2);
    story.now += TimeDelta::seconds(8);
    let (policy, now) = (Policy::default(), story.now);
    let eye = story.watch.eye(now);
    assert!(eye.is_quiet(&policy, now), "whoever is quicker than its turn knows it too");
    assert_eq!(eye.since(&policy, now), now);
    let out = story.tell(Input::Turn);
    let told = out.iter().find_map(|o| match o {
        Output::Fleet(Command::RecordObserver(changed)) => Some((changed.score, changed.pause_ms)),
        _ => None,
    });
    assert_eq!(told, Some((8, Some(7_000))));
    let eye = story.watch.eye(now);
    assert!(eye.is_quiet(&policy, now));
    assert_eq!(eye.since(&policy, now), now);
    let later = now + TimeDelta::seconds(6);
    assert!(!eye.is_quiet(&policy, later), "a turn that is five seconds late is no pause");
    assert_eq!(eye.since(&policy, later), now);
}

#[test]
fn while_the_log_is_shut_silence_does_not_begin_and_we_are_too_unwell_to_restart() {
    let mut story = Story::of(3);
    for _ in 0..600 {
        story.now += TimeDelta::seconds(1);
        story.tell(Input::LogShut);
        story.tell(Input::Turn);
    }
    let (policy, now) = (Policy::default(), story.now);
    let eye = story.watch.eye(now);
    assert_eq!(eye.since(&policy, now), now);
    assert!(eye.score >= policy.score_brake);
    story.turns(31);
    let eye = story.watch.eye(story.now);
    assert_eq!((eye.since(&policy, story.now), eye.score), (now, 0), "silence counts from the end");
}

#[test]
fn a_late_agent_is_asked_for_its_card_and_three_silences_are_a_reason_for_suspicion() {
    let mut story = Story::of(1);
    let asked = |out: &[Output]| out.iter().any(|o| matches!(o, Output::Probe { .. }));
    assert!(!asked(&story.turns(74)));
    assert!(asked(&story.turns(5)));
    let silent = || Probe::Silent { code: "refused", detail: String::new() };
    for tries in 1..=3 {
        let (workspace, generation) = (id(1), Generation(1));
        let out = story.tell(Input::Probed { workspace, generation, probe: silent(), took: Duration::ZERO });
        let expected =
            if tries < 3 { vec![] } else { vec![(id(1), EvidenceSource::Probe, EvidenceClass::Suspicion)] };
        assert_eq!(evidence(&out), expected);
        assert!(asked(&story.turns(5)));
    }
    let probe = Probe::Answered { status: 500 };
    let out = story.tell(Input::Probed {
        workspace: id(1),
        generation: Generation(1),
        probe,
        took: Duration::ZERO,
    });
    assert_eq!(evidence(&out), [(id(1), EvidenceSource::Probe, EvidenceClass::Life)], "any answer is life");
}

#[test]
fn our_own_failure_to_ask_an_agent_is_no_evidence() {
    let mut story = Story::of(1);
    story.turns(80);
    let probe = Probe::Unknown(BackendError { code: "invalid_url", detail: String::new() });
    for _ in 0..5 {
        let (workspace, generation) = (id(1), Generation(1));
        assert!(
            evidence(&story.tell(Input::Probed {
                workspace,
                generation,
                probe: probe.clone(),
                took: Duration::ZERO
            }))
            .is_empty()
        );
        story.turns(5);
    }
}

/// Rule V6.
#[test]
fn a_start_of_unknown_outcome_is_found_by_a_list_or_given_up_after_a_minute() {
    let mut story = Story::of(1);
    story.seen[0].instance = None;
    story.seen[0].unknown = Some(Unknown { since: at(0), start: true });
    let outcome = |out: &[Output]| {
        out.iter().find_map(|o| match o {
            Output::Outcome { outcome, .. } => Some(outcome.clone()),
            _ => None,
        })
    };
    story.turns(1);
    assert_eq!(outcome(&story.list(Vec::new())), None, "the engine may still be at it");
    let found = outcome(&story.list(vec![listed(1, ListedState::Running)]));
    assert!(matches!(found, Some(Outcome::Started { .. })), "{found:?}");
    story.now = at(61);
    assert_eq!(outcome(&story.list(vec![listed(1, ListedState::Between)])), None, "it is at it");
    assert_eq!(outcome(&story.list(Vec::new())), Some(Outcome::NotStarted));
}

#[test]
fn a_stranger_is_told_of_once() {
    let mut story = Story::of(0);
    story.turns(1);
    let strangers = |out: &[Output]| {
        out.iter().filter(|o| matches!(o, Output::Fleet(Command::RecordStranger(_)))).count()
    };
    assert_eq!(strangers(&story.list(vec![listed(9, ListedState::Running)])), 1);
    assert_eq!(strangers(&story.list(vec![listed(9, ListedState::Running)])), 0);
}
