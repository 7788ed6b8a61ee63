//! What evidence, silence and the fleet's answers lead to.

use std::time::Duration;

use covalence_events::workspace::{
    BackendKind, CallFinished, CallOutcome, Event, EvidenceClass, EvidenceObserved, EvidenceSource,
    RestartCause,
};
use covalence_events::{CallId, Generation, Position, Principal, RestartId};
use uuid::Uuid;

use super::{asked, beat, begin, confirmed, create, evidence, online, provisioned};
use crate::scenario::Scenario;
use crate::workspace::command::Restart;
use crate::workspace::{Command, Effect, Rejection, Status};

/// So many steady heartbeats, thirty seconds apart.
pub(super) fn steady(mut story: Scenario, beats: usize) -> Scenario {
    for _ in 0..beats {
        story = story.after(Duration::from_secs(30));
        story.when(&beat(1)).unwrap();
    }
    story
}

pub(super) fn probed(class: EvidenceClass) -> Command {
    Command::RecordEvidence(Box::new(EvidenceObserved {
        source: EvidenceSource::Probe,
        class,
        generation: Generation(1),
        instance: None,
        code: "timeout".to_owned(),
        detail: String::new(),
        exit_status: None,
    }))
}

/// R10, R12: the chain that an operator reads.
#[test]
fn proof_of_death_leads_from_evidence_to_a_restart_request_each_caused_by_the_one_before() {
    let mut story = online();
    let tags = story.tags_when(&evidence(EvidenceClass::Death, 1));
    assert_eq!(
        tags,
        [
            "workspace.evidence_observed.v1",
            "workspace.verdict_reached.v1",
            "workspace.went_offline.v1",
            "workspace.restart_requested.v1",
        ]
    );
    let chain = &story.story[story.story.len() - 4..];
    assert_eq!(chain[1].meta.causation, Some(chain[0].meta.id));
    assert_eq!(chain[2].meta.causation, Some(chain[1].meta.id));
    assert_eq!(chain[3].meta.causation, Some(chain[1].meta.id));
    assert!(matches!(story.effects[..], [Effect::RequestAdmission { .. }]));
}

/// R10: an error is never evidence of death.
#[test]
fn an_observers_failure_keeps_it_on_its_alive_path_and_is_recorded() {
    let mut story = online();
    let tags = story.tags_when(&evidence(EvidenceClass::ObserverFailure, 1));
    assert_eq!(tags, ["workspace.evidence_observed.v1", "workspace.verdict_reached.v1"]);
    assert_eq!(story.state().status, Status::Online);
    assert!(story.effects.is_empty());
}

#[test]
fn suspicion_alone_restarts_nothing() {
    let mut story = online();
    story.when(&evidence(EvidenceClass::Suspicion, 1)).unwrap();
    assert_eq!((story.state().status, &story.state().restart), (Status::Online, &None));
}

#[test]
fn evidence_about_an_older_generation_is_recorded_and_changes_nothing() {
    let mut story = online();
    story.when(&evidence(EvidenceClass::Death, 1)).unwrap();
    let restart = asked(&story);
    begin(&mut story, restart);
    story.when(&provisioned(2)).unwrap();
    story.when(&beat(2)).unwrap();
    let before = story.state().clone();
    assert_eq!(story.tags_when(&evidence(EvidenceClass::Death, 1)), ["workspace.evidence_observed.v1"]);
    assert_eq!(story.state(), &before);
}

#[test]
fn a_second_proof_of_the_same_death_says_nothing_new() {
    let mut story = online();
    story.when(&evidence(EvidenceClass::Death, 1)).unwrap();
    assert!(story.when(&evidence(EvidenceClass::Death, 1)).unwrap().is_empty());
}

#[test]
fn a_beat_that_was_under_way_when_the_process_died_does_not_resurrect_it() {
    let mut story = online();
    story.when(&evidence(EvidenceClass::Death, 1)).unwrap();
    assert_eq!(story.tags_when(&beat(1)), ["workspace.heartbeat_received.v1"]);
    assert_eq!(story.state().status, Status::Offline);
}

#[test]
fn an_admitted_restart_starts_the_next_generation_and_ends_when_it_is_heard_from() {
    let mut story = online();
    story.when(&evidence(EvidenceClass::Death, 1)).unwrap();
    let restart = asked(&story);
    let admit = Command::RecordAdmission { restart, admission: Position(9) };
    assert_eq!(story.tags_when(&admit), ["workspace.confirm_requested.v1"]);
    assert!(matches!(story.effects[..], [Effect::Confirm { .. }]));
    assert!(story.when(&admit).unwrap().is_empty(), "a repeated grant changes nothing");
    assert_eq!(
        story.tags_when(&confirmed(restart, EvidenceClass::Death)),
        [
            "workspace.evidence_observed.v1",
            "workspace.restart_started.v1",
            "workspace.provision_requested.v1"
        ]
    );
    assert!(story.when(&admit).unwrap().is_empty(), "nor does it once it has begun");
    story.when(&provisioned(2)).unwrap();
    let events = story.when(&beat(2)).unwrap();
    let Some(Event::CameOnline(back)) = events.last() else { panic!("expected to come online: {events:?}") };
    assert_eq!(back.restart, Some(restart));
    assert!(matches!(story.effects[..], [Effect::SettleRestart { .. }, Effect::Announce { .. }]));
    assert_eq!(story.state().restart, None);
}

/// A start that a crash cut off clears its half-made instance away before it makes another: that is no death.
#[test]
fn what_ends_while_a_start_is_under_way_is_expected() {
    let mut story = Scenario::new();
    story.when(&create(BackendKind::Docker)).unwrap();
    assert_eq!(story.tags_when(&evidence(EvidenceClass::Death, 1)), ["workspace.evidence_observed.v1"]);
    assert_eq!((story.state().status, &story.state().restart), (Status::Provisioning, &None));
    story.when(&provisioned(1)).unwrap();
    story.when(&evidence(EvidenceClass::Death, 1)).unwrap();
    assert!(story.state().restart.is_some(), "once it runs, its death counts");
}

#[test]
fn a_grant_for_a_restart_that_is_over_is_refused_so_that_its_slot_is_given_back() {
    let mut story = online();
    let stray = Command::RecordAdmission { restart: RestartId(Uuid::from_u128(7)), admission: Position(9) };
    assert_eq!(story.when(&stray), Err(Rejection::RestartNotPending));
}

#[test]
fn death_before_the_first_sign_of_life_settles_the_restart_and_asks_for_another() {
    let mut story = online();
    story.when(&evidence(EvidenceClass::Death, 1)).unwrap();
    let first = asked(&story);
    begin(&mut story, first);
    story.when(&provisioned(2)).unwrap();
    let tags = story.tags_when(&evidence(EvidenceClass::Death, 2));
    assert!(
        tags.ends_with(&["workspace.restart_abandoned.v1", "workspace.restart_requested.v1"]),
        "{tags:?}"
    );
    assert_ne!(asked(&story), first);
    assert!(matches!(story.effects[..], [Effect::SettleRestart { .. }, Effect::RequestAdmission { .. }]));
}

#[test]
fn a_suppressed_restart_quarantines_it_until_somebody_steps_in() {
    let mut story = online();
    story.when(&evidence(EvidenceClass::Death, 1)).unwrap();
    let restart = asked(&story);
    let rule = "intensity".to_owned();
    let command = Command::RecordSuppression { restart, rule, message: "five times".to_owned() };
    assert_eq!(story.tags_when(&command), ["workspace.quarantined.v1"]);
    assert_eq!(story.state().status, Status::Failed);
    assert_eq!(story.tags_when(&beat(1)), ["workspace.heartbeat_received.v1"], "not lifted by an old beat");
    let by_hand = Command::Restart(Restart::because_of(RestartCause::Operator));
    assert_eq!(story.tags_when(&by_hand), ["workspace.restart_requested.v1"]);
}

/// R12: silence is suspicious early, and amounts to something only when another source agrees.
#[test]
fn silence_for_the_liveness_window_is_a_verdict_when_two_sources_agree_and_a_beat_takes_it_back() {
    let mut story = steady(online(), 6).after(Duration::from_secs(77));
    assert_eq!(
        story.tags_when(&Command::RecordDeadline),
        ["workspace.evidence_observed.v1", "workspace.suspicion_raised.v1"]
    );
    assert_eq!(story.state().status, Status::Online, "suspicion is internal");
    assert_eq!(story.tags_when(&probed(EvidenceClass::Suspicion)), ["workspace.evidence_observed.v1"]);
    let mut story = story.after(Duration::from_secs(104));
    let tags = story.tags_when(&Command::RecordDeadline);
    assert!(tags.contains(&"workspace.restart_requested.v1"), "{tags:?}");
    assert_eq!(story.state().restart.as_ref().map(|pending| pending.cause), Some(RestartCause::Hung));
    let tags = story.tags_when(&beat(1));
    assert_eq!(
        tags,
        ["workspace.heartbeat_received.v1", "workspace.came_online.v1", "workspace.restart_abandoned.v1"]
    );
    assert_eq!(story.state().status, Status::Online);
}

#[test]
fn silence_that_only_one_source_speaks_of_is_withheld_and_said_once() {
    let mut story = steady(online(), 6).after(Duration::from_secs(77));
    story.when(&Command::RecordDeadline).unwrap();
    let mut story = story.after(Duration::from_secs(104));
    assert_eq!(story.tags_when(&Command::RecordDeadline), ["workspace.verdict_withheld.v1"]);
    assert!(story.when(&Command::RecordDeadline).unwrap().is_empty());
    story.when(&probed(EvidenceClass::Suspicion)).unwrap();
    let tags = story.tags_when(&Command::RecordDeadline);
    assert!(tags.contains(&"workspace.restart_requested.v1"), "{tags:?}");
}

#[test]
fn an_unwell_observer_a_brake_and_our_own_start_withhold_the_verdict() {
    let unwell = |observer: &mut crate::context::ObserverView, which: &str| match which {
        "observer_unwell" => observer.score = 2,
        "brake" => observer.braked = true,
        _ => observer.in_grace = true,
    };
    for rule in ["observer_unwell", "brake", "grace"] {
        let mut story = steady(online(), 6).after(Duration::from_secs(77));
        story.when(&Command::RecordDeadline).unwrap();
        story.when(&probed(EvidenceClass::Suspicion)).unwrap();
        let mut story = story.after(Duration::from_secs(104));
        unwell(&mut story.observer, rule);
        let events = story.when(&Command::RecordDeadline).unwrap();
        assert!(matches!(&events[..], [Event::VerdictWithheld(e)] if e.rule == rule), "{rule}: {events:?}");
    }
}

#[test]
fn an_answer_to_a_probe_clears_the_suspicion_and_an_outage_teaches_nothing() {
    let mut story = steady(online(), 6).after(Duration::from_secs(77));
    story.when(&Command::RecordDeadline).unwrap();
    let known = story.state().beats.clone();
    assert_eq!(
        story.tags_when(&probed(EvidenceClass::Life)),
        ["workspace.evidence_observed.v1", "workspace.suspicion_cleared.v1"]
    );
    assert!(story.state().doubts.is_empty());
    let mut story = story.after(Duration::from_secs(77));
    story.when(&Command::RecordDeadline).unwrap();
    assert_eq!(
        story.tags_when(&beat(1)),
        ["workspace.heartbeat_received.v1", "workspace.suspicion_cleared.v1"]
    );
    assert_eq!(story.state().beats, known);
}

/// R10, rule V4: what lives is taken back as it was.
#[test]
fn a_fresh_look_that_finds_it_running_refutes_its_death() {
    let mut story = online();
    story.when(&evidence(EvidenceClass::Death, 1)).unwrap();
    let restart = asked(&story);
    story.when(&Command::RecordAdmission { restart, admission: Position(9) }).unwrap();
    let tags = story.tags_when(&confirmed(restart, EvidenceClass::Life));
    assert_eq!(
        tags,
        [
            "workspace.evidence_observed.v1",
            "workspace.death_refuted.v1",
            "workspace.came_online.v1",
            "workspace.restart_abandoned.v1"
        ]
    );
    assert_eq!((story.state().status, story.generation()), (Status::Online, Generation(1)));
    assert!(story.state().url.is_some(), "calls reach it again");
    assert!(matches!(story.effects[..], [Effect::SettleRestart { .. }]));
}

#[test]
fn a_fresh_look_that_sees_nothing_restarts_nothing_and_lists_decide() {
    let mut story = online();
    story.when(&evidence(EvidenceClass::Death, 1)).unwrap();
    let restart = asked(&story);
    story.when(&Command::RecordAdmission { restart, admission: Position(9) }).unwrap();
    let tags = story.tags_when(&confirmed(restart, EvidenceClass::ObserverFailure));
    assert_eq!(tags, ["workspace.evidence_observed.v1", "workspace.restart_abandoned.v1"]);
    let tags = story.tags_when(&evidence(EvidenceClass::Death, 1));
    assert!(tags.contains(&"workspace.restart_requested.v1"), "the next list asks again: {tags:?}");
}

#[test]
fn a_restarted_workspace_has_proved_itself_after_the_probation() {
    let mut story = online();
    story.when(&evidence(EvidenceClass::Death, 1)).unwrap();
    let restart = asked(&story);
    begin(&mut story, restart);
    story.when(&provisioned(2)).unwrap();
    story.when(&beat(2)).unwrap();
    let mut story = story.after(Duration::from_secs(19));
    assert!(story.when(&Command::RecordDeadline).unwrap().is_empty());
    let mut story = story.after(Duration::from_secs(1));
    assert_eq!(story.tags_when(&Command::RecordDeadline), ["workspace.restart_proved.v1"]);
    assert!(matches!(story.effects[..], [Effect::ProveRestart { .. }]));
}

/// Rule V6.
#[test]
fn while_the_outcome_of_a_start_is_unknown_nothing_else_is_asked_for() {
    let mut story = Scenario::new();
    story.when(&create(BackendKind::Docker)).unwrap();
    let unknown = Command::RecordOutcomeUnknown {
        generation: Generation(1),
        operation: "provision",
        detail: "timeout".to_owned(),
    };
    assert_eq!(story.tags_when(&unknown), ["workspace.outcome_unknown.v1"]);
    assert!(crate::workspace::outstanding(story.state()).is_empty());
    assert_eq!(story.tags_when(&evidence(EvidenceClass::Death, 1)), ["workspace.evidence_observed.v1"]);
    assert_eq!(story.tags_when(&provisioned(1)), ["workspace.instance_started.v1"], "a list found it");
}

#[test]
fn silence_shorter_than_the_window_is_nothing() {
    let mut story = online().after(Duration::from_secs(179));
    assert!(story.when(&Command::RecordDeadline).unwrap().is_empty());
}

fn answered() -> Command {
    Command::RecordCallFinished(
        Box::new(CallFinished {
            call: CallId(Uuid::from_u128(5)),
            caller: Principal::Admin,
            method: "message/send".to_owned(),
            outcome: CallOutcome::Answered,
            status: Some(200),
            duration_ms: 3,
            request_bytes: 1,
            response_bytes: 1,
            error: None,
            tries: 1,
            failure: None,
        }),
        None,
    )
}

/// R13's neighbour: traffic is life.
#[test]
fn an_answered_call_counts_as_life() {
    let mut story = online().after(Duration::from_secs(170));
    story.when(&answered()).unwrap();
    let mut story = story.after(Duration::from_secs(100));
    assert!(story.when(&Command::RecordDeadline).unwrap().is_empty());
}

#[test]
fn an_answer_of_the_generation_before_brings_no_new_one_online() {
    let mut story = online();
    story.when(&evidence(EvidenceClass::Death, 1)).unwrap();
    let restart = asked(&story);
    begin(&mut story, restart);
    story.when(&answered()).unwrap();
    assert_eq!(story.tags_when(&provisioned(2)), ["workspace.instance_started.v1"]);
}

/// Three requests are unanswered, and the last of them was under way when the agent was heard from.
#[test]
fn what_was_asked_before_the_last_beat_makes_nobody_suspect() {
    let mut story = steady(online(), 6).after(Duration::from_secs(90));
    story.when(&beat(1)).unwrap();
    assert!(story.when(&probed(EvidenceClass::Suspicion)).unwrap().is_empty());
}

/// R52: a remote agent is shown offline after 90 s, and nobody restarts what we don't run.
#[test]
fn a_silent_external_workspace_goes_offline_without_a_restart() {
    let mut story = Scenario::new();
    story.when(&create(BackendKind::External)).unwrap();
    story.when(&Command::Heartbeat(Box::default())).unwrap();
    assert_eq!(story.state().status, Status::Online);
    let mut story = story.after(Duration::from_secs(91));
    let tags = story.tags_when(&Command::RecordDeadline);
    assert_eq!(tags, ["workspace.evidence_observed.v1", "workspace.went_offline.v1"]);
    assert_eq!(story.state().restart, None);
    assert_eq!(
        story.tags_when(&Command::Heartbeat(Box::default())),
        ["workspace.heartbeat_received.v1", "workspace.came_online.v1"]
    );
}

#[test]
fn a_start_that_is_never_heard_from_fails_with_a_reason_and_a_late_beat_lifts_it() {
    let mut story = Scenario::new();
    story.when(&create(BackendKind::Process)).unwrap();
    story.when(&provisioned(1)).unwrap();
    let mut story = story.after(Duration::from_secs(601));
    assert_eq!(story.tags_when(&Command::RecordDeadline), ["workspace.provision_failed.v1"]);
    assert_eq!(story.state().status, Status::Failed);
    story.when(&beat(1)).unwrap();
    assert_eq!(story.state().status, Status::Online);
}

#[test]
fn a_report_about_an_overtaken_start_is_refused() {
    let mut story = online();
    let error = story.when(&provisioned(1)).unwrap_err();
    assert_eq!(error.code(), "stale_generation");
}

/// A look that says nothing calls the restart off; the next silence is judged like any other.
#[test]
fn silence_is_judged_again_after_a_restart_was_called_off_for_want_of_a_look() {
    let mut story = steady(online(), 6).after(Duration::from_secs(77));
    story.when(&Command::RecordDeadline).unwrap();
    story.when(&probed(EvidenceClass::Suspicion)).unwrap();
    let mut story = story.after(Duration::from_secs(104));
    story.when(&Command::RecordDeadline).unwrap();
    let restart = asked(&story);
    story.when(&Command::RecordAdmission { restart, admission: Position(9) }).unwrap();
    let tags = story.tags_when(&confirmed(restart, EvidenceClass::ObserverFailure));
    assert_eq!(tags, ["workspace.evidence_observed.v1", "workspace.restart_abandoned.v1"]);
    assert_eq!(story.state().status, Status::Offline);
    story.when(&probed(EvidenceClass::Suspicion)).unwrap();
    for _ in 0..3 {
        story.when(&Command::RecordDeadline).unwrap();
    }
    assert!(story.state().restart.is_some(), "{:?}", story.state());
}

#[test]
fn a_persons_wish_that_is_refused_does_not_cost_a_dead_workspace_its_own_restart() {
    let mut story = online();
    story.when(&evidence(EvidenceClass::Death, 1)).unwrap();
    let by_hand = Command::Restart(Restart { forced: true, ..Restart::because_of(RestartCause::Operator) });
    story.when(&by_hand).unwrap();
    let restart = asked(&story);
    let (rule, message) = ("emergency_stop".to_owned(), "everything is stopped".to_owned());
    let events = story.when(&Command::RecordSuppression { restart, rule, message }).unwrap();
    let Some(Event::RestartRequested(again)) = events.last() else { panic!("not asked again: {events:?}") };
    assert_eq!((again.cause, again.evidence.len()), (RestartCause::Death, 1));
}

#[test]
fn a_restart_whose_start_the_engine_never_answered_for_is_asked_for_again() {
    let mut story = online();
    story.when(&evidence(EvidenceClass::Death, 1)).unwrap();
    let restart = asked(&story);
    begin(&mut story, restart);
    let (generation, detail) = (Generation(2), "no answer".to_owned());
    story.when(&Command::RecordOutcomeUnknown { generation, operation: "provision", detail }).unwrap();
    let mut story = story.after(Duration::from_secs(601));
    assert_eq!(
        story.tags_when(&Command::RecordDeadline),
        ["workspace.provision_failed.v1", "workspace.restart_abandoned.v1", "workspace.restart_requested.v1"]
    );
}
