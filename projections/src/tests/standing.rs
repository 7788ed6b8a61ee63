//! The word that stands beside the status: what each fact does to it.

use std::sync::Arc;

use covalence_events::fleet::PlatformStarted;
use covalence_events::workspace::{
    CameOnline, ConfirmRequested, DeathRefuted, Event, EvidenceSource, InstanceAdopted, InstanceRef,
    InstanceStopped, OnlineVia, OutcomeUnknown, Paused, ProvisionFailed, ProvisionOrigin, ProvisionRequested,
    Quarantined, RestartAbandoned, RestartCause, RestartProved, RestartRequested, RestartStarted, StopReason,
    StopRequested, SuspicionCleared, SuspicionRaised, Verdict, VerdictReached, WentOffline,
};
use covalence_events::{Generation, Position, fleet};

use super::roster::fold;
use crate::roster::{Condition, Instance, Row};
use crate::testing::{
    History, admitted, beat, created, deferred, external, id, online, provision, restart, started,
};

fn instance() -> InstanceRef {
    InstanceRef { id: "42:1:boot".to_owned() }
}

/// Workspace 1 in the making.
struct Life(History);

impl Life {
    fn running() -> Self {
        let mut life = Self(History::default());
        life.0.of(1, created("a", None));
        life.and(provision(1)).and(started(1)).and(beat(1)).and(online(OnlineVia::Heartbeat, "provisioning"))
    }

    fn dead() -> Self {
        Self::running().and(dead()).and(offline()).and(requested(RestartCause::Death))
    }

    fn and(mut self, event: impl Into<Event>) -> Self {
        self.0.of(1, event);
        self
    }

    fn fleet(mut self, event: impl Into<fleet::Event>) -> Self {
        self.0.fleet(event);
        self
    }

    fn row(&self) -> Arc<Row> {
        fold(&self.0).get(id(1)).unwrap()
    }

    /// Word and rule.
    fn stands(&self) -> (&'static str, Option<String>) {
        let row = self.row();
        (row.standing.condition.as_str(), row.standing.rule.as_deref().map(str::to_owned))
    }
}

fn with(word: &'static str, rule: &str) -> (&'static str, Option<String>) {
    (word, Some(rule.to_owned()))
}

fn raised() -> SuspicionRaised {
    SuspicionRaised {
        generation: Generation(1),
        source: EvidenceSource::Heartbeat,
        phi: Some(8.2),
        silent_ms: 76_000,
        observer_score: 0,
        evidence: Vec::new(),
    }
}

fn cleared(by: &str) -> SuspicionCleared {
    SuspicionCleared { generation: Generation(1), by: by.to_owned(), lasted_ms: 1000 }
}

fn dead() -> VerdictReached {
    VerdictReached {
        verdict: Verdict::Dead,
        rule: "proof_of_death".to_owned(),
        generation: Generation(1),
        evidence: Vec::new(),
        observer_score: Some(0),
    }
}

fn offline() -> WentOffline {
    WentOffline { rule: "proof_of_death".to_owned(), message: None }
}

fn requested(cause: RestartCause) -> RestartRequested {
    RestartRequested {
        restart: restart(),
        cause,
        generation: Generation(1),
        reset_session: false,
        evidence: Vec::new(),
        forced: false,
        reason: None,
    }
}

fn confirm() -> ConfirmRequested {
    ConfirmRequested {
        restart: restart(),
        admission: Position(9),
        generation: Generation(1),
        instance: instance(),
    }
}

fn begun(life: Life) -> Life {
    life.and(RestartStarted { restart: restart(), admission: Position(9) }).and(ProvisionRequested {
        origin: ProvisionOrigin::Restart,
        restart: Some(restart()),
        ..provision(2)
    })
}

fn back(life: Life) -> Life {
    let online = CameOnline { restart: Some(restart()), ..online(OnlineVia::Heartbeat, "provisioning") };
    life.and(started(2)).and(online)
}

fn abandoned(reason: &str) -> RestartAbandoned {
    RestartAbandoned { restart: restart(), reason: reason.to_owned() }
}

#[test]
fn a_new_workspace_is_unknown_until_it_is_heard_from() {
    let mut life = Life(History::default());
    life.0.of(1, created("a", None));
    assert_eq!(life.stands(), ("unknown", None));
    let life = life.and(provision(1)).and(started(1)).and(beat(1));
    assert_eq!(life.stands(), ("unknown", None), "a beat before it counts as online");
    assert_eq!(Life::running().stands(), ("healthy", None));
}

#[test]
fn a_suspicion_stands_until_it_is_cleared() {
    let suspect = Life::running().and(raised());
    assert_eq!(suspect.stands(), with("suspect", "heartbeat"));
    assert_eq!(suspect.and(cleared("heartbeat")).stands(), ("healthy", None));
}

#[test]
fn a_death_leads_through_every_word_to_healthy_again() {
    let candidate = Life::dead();
    assert_eq!(candidate.stands(), with("candidate", "proof_of_death"));
    let held = candidate.fleet(deferred(1, "tokens"));
    assert_eq!(held.stands(), with("held", "tokens"));
    let let_through = held.fleet(admitted(1));
    assert_eq!(let_through.stands(), with("candidate", "death"));
    let confirming = let_through.and(confirm());
    assert_eq!(confirming.stands(), ("confirming", None));
    let restarting = begun(confirming);
    assert_eq!(restarting.stands(), ("restarting", None));
    let probation = back(restarting);
    assert_eq!(probation.stands(), ("probation", None));
    let proved = RestartProved { restart: restart(), generation: Generation(2), after_ms: 20_000 };
    assert_eq!(probation.and(proved).stands(), ("healthy", None));
}

#[test]
fn a_suspicion_during_probation_goes_back_to_probation() {
    let suspect = back(begun(Life::dead().fleet(admitted(1)).and(confirm()))).and(raised());
    assert_eq!(suspect.stands().0, "suspect");
    assert_eq!(suspect.and(cleared("answer")).stands(), ("probation", None));
}

#[test]
fn a_refuted_death_gives_instance_and_address_back() {
    let refuted = DeathRefuted {
        restart: restart(),
        generation: Generation(1),
        instance: instance(),
        url: Some("http://127.0.0.1:9000".to_owned()),
    };
    let life = Life::dead().fleet(admitted(1)).and(confirm()).and(refuted);
    let life = life.and(online(OnlineVia::Inspect, "offline")).and(abandoned("evidence_refuted"));
    assert_eq!(life.stands(), ("healthy", None));
    let row = life.row();
    assert_eq!(row.instance, Instance::Running { instance: Some(instance()) });
    assert_eq!(row.url.as_deref(), Some("http://127.0.0.1:9000"));
    assert!(row.url_trusted && row.restart.is_none());
}

#[test]
fn what_a_fresh_look_could_not_confirm_is_unknown_and_may_still_run() {
    let life = Life::dead().fleet(admitted(1)).and(confirm()).and(abandoned("evidence_unconfirmed"));
    assert_eq!(life.stands(), with("unknown", "evidence_unconfirmed"));
    assert!(matches!(life.row().instance, Instance::Running { .. }));
}

#[test]
fn what_is_dead_and_not_restarted_is_held_with_the_rule() {
    assert_eq!(Life::dead().and(abandoned("advise_only")).stands(), with("held", "advise_only"));
    let failed = ProvisionFailed {
        generation: Generation(1),
        code: "image_missing".to_owned(),
        message: String::new(),
        retryable: false,
        command: None,
    };
    assert_eq!(Life::running().and(failed).stands(), with("held", "image_missing"));
}

#[test]
fn a_refused_wish_leaves_a_running_workspace_as_it_was() {
    let asked = Life::running().and(requested(RestartCause::Operator));
    assert_eq!(asked.stands(), with("candidate", "operator"));
    assert_eq!(asked.and(abandoned("hold")).stands(), ("healthy", None));
}

#[test]
fn an_operation_without_an_outcome_is_unknown_until_the_lists_tell() {
    let unknown = |operation: &str| OutcomeUnknown {
        generation: Generation(1),
        operation: operation.to_owned(),
        detail: "timeout".to_owned(),
    };
    let starting = begun(Life::dead()).and(unknown("provision"));
    assert_eq!(starting.stands(), with("outcome_unknown", "provision"));
    assert_eq!(starting.and(started(2)).stands(), ("restarting", None));
    let stop = StopRequested { generation: Generation(1), reason: StopReason::Pause };
    let stopping = Life::running().and(stop).and(Paused {}).and(unknown("stop"));
    assert_eq!(stopping.stands(), with("outcome_unknown", "stop"));
    let stopped = stopping.and(InstanceStopped { generation: Generation(1) });
    assert_eq!(stopped.stands(), with("stopped", "paused"));
}

#[test]
fn a_crash_loop_is_quarantined_until_it_is_tried_again() {
    let quarantined =
        Quarantined { restart: restart(), rule: "intensity".to_owned(), message: "six times".to_owned() };
    let life = Life::dead().and(quarantined);
    assert_eq!(life.stands(), with("quarantined", "intensity"));
    assert_eq!(life.and(requested(RestartCause::Death)).stands(), with("candidate", "death"));
}

#[test]
fn after_the_platforms_own_start_the_healthy_are_unknown_until_heard_from() {
    let started = || PlatformStarted {
        version: "1".to_owned(),
        backend: "process".to_owned(),
        workspaces: 1,
        head: Position(5),
    };
    let unknown = Life::running().fleet(started());
    assert_eq!(unknown.stands(), ("unknown", None));
    let adopted = InstanceAdopted { generation: Generation(1), instance: instance() };
    assert_eq!(unknown.and(adopted).stands(), ("healthy", None));
    assert_eq!(Life::running().fleet(started()).and(beat(1)).stands(), ("healthy", None));
    let dead = Life::dead().fleet(started());
    assert_eq!(dead.stands(), with("candidate", "proof_of_death"), "what was proved stays proved");
}

#[test]
fn a_silent_external_workspace_is_suspect_because_silence_proves_nothing() {
    let mut life = Life(History::default());
    life.0.of(1, external("far", Some("https://agent.example")));
    let life = life.and(online(OnlineVia::Create, "online"));
    assert_eq!(life.stands(), ("healthy", None));
    let stale = WentOffline { rule: "heartbeat_stale".to_owned(), message: None };
    assert_eq!(life.and(stale).stands(), with("suspect", "heartbeat_stale"));
}

#[test]
fn every_condition_has_a_word_of_its_own() {
    let mut words: Vec<_> = Condition::ALL.iter().map(|condition| condition.as_str()).collect();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), Condition::ALL.len());
}
