//! What each fact does to a row.

use std::sync::Arc;

use covalence_events::workspace::{
    CallOutcome, CardUpdated, Degraded, DirectoryChanged, Event, Folded, HeartbeatReceived, InstanceAdopted,
    InstanceRef, InstanceStopped, OnlineVia, Paused, Placed, ProvisionFailed, Quarantined,
    Removed as RemovedFact, Renamed, RestartAbandoned, RestartCause, RestartRequested, RestartStarted,
    Resumed, RoleChanged, RuntimeChanged, StopFailed, StopReason, StopRequested, TierChanged, Verdict,
    VerdictReached, WentOffline,
};
use covalence_events::{Generation, Position, Principal};
use serde_json::json;

use crate::roster::{Condition, FindError, Instance, Removed, RestartStage, Roster, Row, Status};
use crate::testing::{
    History, admitted, at, beat, call, created, deferred, external, id, online, provision, registered,
    restart, started,
};
use crate::{ApplyError, Projection};

pub(super) fn fold(history: &History) -> Roster {
    let mut roster = Roster::default();
    for recorded in &history.0 {
        roster.apply(recorded).unwrap();
    }
    roster
}

/// The row of workspace 1 after `created` and what is given.
fn row(events: Vec<Event>) -> Arc<Row> {
    let mut history = History::default();
    history.of(1, created("a", None));
    for event in events {
        history.of(1, event);
    }
    fold(&history).get(id(1)).unwrap()
}

fn running() -> Vec<Event> {
    vec![
        provision(1).into(),
        started(1).into(),
        beat(1).into(),
        online(OnlineVia::Heartbeat, "provisioning").into(),
    ]
}

fn after_running(events: Vec<Event>) -> Arc<Row> {
    row(running().into_iter().chain(events).collect())
}

fn failed(code: &str) -> ProvisionFailed {
    ProvisionFailed {
        generation: Generation(1),
        code: code.to_owned(),
        message: "no such image".to_owned(),
        retryable: false,
        command: Some("docker pull x".to_owned()),
    }
}

fn verdict(rule: &str) -> VerdictReached {
    VerdictReached {
        verdict: Verdict::Dead,
        rule: rule.to_owned(),
        generation: Generation(1),
        evidence: Vec::new(),
        observer_score: None,
    }
}

fn requested() -> RestartRequested {
    RestartRequested {
        restart: restart(),
        cause: RestartCause::Death,
        generation: Generation(1),
        reset_session: false,
        evidence: Vec::new(),
        forced: false,
        reason: None,
    }
}

#[test]
fn a_new_workspace_has_the_status_that_its_backend_implies() {
    let mut history = History::default();
    history.of(1, created("ours", None));
    history.of(2, external("theirs", Some("https://agent.example")));
    history.of(3, external("later", None));
    let roster = fold(&history);
    let status = |number| roster.get(id(number)).unwrap().status;
    assert_eq!(status(1), Status::Provisioning);
    assert_eq!(status(2), Status::Online);
    assert_eq!(status(3), Status::AwaitingAgent);
    assert_eq!(roster.get(id(2)).unwrap().url.as_deref(), Some("https://agent.example"));
}

#[test]
fn each_fact_leads_to_its_wire_status() {
    let offline = WentOffline { rule: "liveness_ttl".to_owned(), message: Some("silent".to_owned()) };
    let degraded =
        Degraded { error_rate: 0.7, sample_error: "boom".to_owned(), runtime_state: String::new() };
    let quarantined =
        Quarantined { restart: restart(), rule: "intensity".to_owned(), message: "quarantined".to_owned() };
    let removed = RemovedFact { cascade_deleted: None, purge: false, forwarded_to: None };
    for (event, status, error) in [
        (Event::from(offline), Status::Offline, "silent"),
        (degraded.into(), Status::Degraded, "boom"),
        (provision(2).into(), Status::Provisioning, ""),
        (failed("image_missing").into(), Status::Failed, "no such image"),
        (quarantined.into(), Status::Failed, "quarantined"),
        (Paused {}.into(), Status::Paused, ""),
        (removed.into(), Status::Removed, ""),
        (registered(Some("http://elsewhere")).into(), Status::Online, ""),
    ] {
        let tag = event.tag();
        let row = after_running(vec![event]);
        assert_eq!((row.status, row.last_sample_error.as_str()), (status, error), "{tag}");
    }
}

#[test]
fn an_external_workspace_that_is_resumed_waits_for_its_agent() {
    let mut history = History::default();
    history.of(1, external("theirs", Some("https://agent.example")));
    history.of(1, Paused {});
    history.of(1, Resumed {});
    assert_eq!(fold(&history).get(id(1)).unwrap().status, Status::AwaitingAgent);
    assert_eq!(row(vec![Paused {}.into(), Resumed {}.into()]).status, Status::Paused);
}

#[test]
fn descriptive_facts_change_their_field_and_the_time_of_the_last_change() {
    let row = row(vec![
        Renamed { name: "b".to_owned() }.into(),
        RoleChanged { role: Some("tester".to_owned()) }.into(),
        TierChanged { tier: 3 }.into(),
        RuntimeChanged { runtime: "command".to_owned() }.into(),
        DirectoryChanged { workspace_dir: Some("/srv/b".to_owned()) }.into(),
        Placed { x: 1.5, y: -2.0 }.into(),
        Folded { collapsed: true }.into(),
        CardUpdated { agent_card: json!({"name": "new"}) }.into(),
    ]);
    assert_eq!((row.name.as_str(), row.role.as_deref(), row.tier), ("b", Some("tester"), 3));
    assert_eq!((&*row.runtime, row.workspace_dir.as_deref()), ("command", Some("/srv/b")));
    assert_eq!((row.x, row.y, row.collapsed), (1.5, -2.0, true));
    assert_eq!(row.agent_card.as_ref().unwrap().to_value(), json!({"name": "new"}));
    assert_eq!((row.created_at, row.updated_at), (at(1), at(9)));
}

#[test]
fn an_address_from_our_own_backend_is_kept_when_the_agent_states_another() {
    let row =
        row(vec![provision(1).into(), started(1).into(), registered(Some("http://inside:8000")).into()]);
    assert_eq!(row.url.as_deref(), Some("http://127.0.0.1:9000"));
    assert!(row.url_trusted);
    assert_eq!(row.agent_card.as_ref().unwrap().to_value(), json!({"name": "the card"}));
    assert_eq!(row.image.as_deref(), Some("covalence-agent"));
}

#[test]
fn a_stop_takes_address_and_instance_away_and_a_failed_one_says_why() {
    let stop = StopRequested { generation: Generation(1), reason: StopReason::Pause };
    let asked = after_running(vec![stop.clone().into()]);
    assert_eq!((&asked.url, asked.url_trusted), (&None, false));
    assert_eq!(asked.instance, Instance::Stopping { reason: StopReason::Pause, error: None });
    let fail = StopFailed { generation: Generation(1), message: "device busy".to_owned() };
    assert_eq!(after_running(vec![stop.clone().into(), fail.into()]).stop_failure(), Some("device busy"));
    let stopped = InstanceStopped { generation: Generation(1) };
    assert_eq!(after_running(vec![stop.into(), stopped.into()]).instance, Instance::None);
}

#[test]
fn an_adopted_instance_is_the_running_one() {
    let instance = InstanceRef { id: "77:1:boot".to_owned() };
    let row = row(vec![
        provision(1).into(),
        InstanceAdopted { generation: Generation(1), instance: instance.clone() }.into(),
    ]);
    assert_eq!(row.instance, Instance::Running { instance: Some(instance) });
}

#[test]
fn only_proof_of_death_takes_the_instance_away() {
    assert_eq!(after_running(vec![verdict("proof_of_death").into()]).instance, Instance::None);
    let silent = after_running(vec![verdict("liveness_ttl").into()]);
    assert!(matches!(silent.instance, Instance::Running { .. }));
    assert_eq!(silent.standing.condition, Condition::Candidate);
    assert_eq!(silent.standing.rule.as_deref(), Some("liveness_ttl"));
}

#[test]
fn a_start_that_ran_out_of_time_leaves_what_runs_and_other_failures_do_not() {
    let late = row(vec![provision(1).into(), started(1).into(), failed("timeout").into()]);
    assert!(matches!(late.instance, Instance::Running { .. }));
    let missing = row(vec![provision(1).into(), failed("image_missing").into()]);
    assert_eq!(missing.instance, Instance::None);
    let failure = missing.failure.as_deref().unwrap();
    assert_eq!((failure.code.as_str(), failure.command.as_deref()), ("image_missing", Some("docker pull x")));
}

#[test]
fn a_failure_stays_readable_until_the_agent_is_heard_from() {
    let up = vec![provision(1).into(), started(1).into(), failed("timeout").into(), beat(1).into()];
    assert_eq!(row(up.clone()).last_sample_error, "no such image");
    let lifted = row(up.into_iter().chain([online(OnlineVia::Heartbeat, "failed").into()]).collect());
    assert_eq!((lifted.status, lifted.last_sample_error.as_str()), (Status::Online, ""));
    assert!(lifted.failure.is_none());
}

#[test]
fn a_heartbeat_says_how_the_agent_fares() {
    let beat = HeartbeatReceived {
        error_rate: 0.25,
        sample_error: "slow".to_owned(),
        active_tasks: 2,
        uptime_seconds: 60,
        current_task: "reading".to_owned(),
        monthly_spend: Some(12),
        agent_card: Some(json!({"name": "late"})),
        generation: Some(Generation(1)),
        ..HeartbeatReceived::default()
    };
    let row = row(vec![provision(1).into(), beat.into(), HeartbeatReceived::default().into()]);
    assert_eq!((row.active_tasks, row.monthly_spend), (0, 12), "spend stays when it is not stated");
    assert_eq!(row.agent_card.as_ref().unwrap().to_value(), json!({"name": "late"}));
    assert_eq!(row.last_heartbeat_at, Some(at(4)));
}

#[test]
fn a_heartbeat_of_a_replaced_instance_changes_nothing() {
    let late = HeartbeatReceived { active_tasks: 9, ..beat(1) };
    let row = after_running(vec![provision(2).into(), late.into()]);
    assert_eq!((row.active_tasks, row.last_heartbeat_at), (0, Some(at(4))));
}

#[test]
fn a_call_touches_the_row_of_the_workspace_that_made_it() {
    let mut history = History::default();
    history.of(1, created("callee", None));
    history.of(2, created("caller", None));
    history.of(1, call(Principal::Workspace(id(2)), CallOutcome::Answered, 5));
    history.of(1, call(Principal::Workspace(id(99)), CallOutcome::Answered, 5));
    let roster = fold(&history);
    assert_eq!(roster.get(id(2)).unwrap().last_outbound_at, Some(at(3)));
    assert_eq!(roster.get(id(1)).unwrap().last_outbound_at, None);
}

#[test]
fn a_restart_is_shown_from_its_request_to_its_outcome() {
    let mut history = History::default();
    history.of(1, created("a", None));
    history.of(1, requested());
    let stage =
        |history: &History| fold(history).get(id(1)).unwrap().restart.as_ref().map(|it| it.stage.clone());
    assert_eq!(stage(&history), Some(RestartStage::Requested));
    history.fleet(deferred(1, "backoff"));
    assert_eq!(
        stage(&history),
        Some(RestartStage::Deferred { rule: "backoff".to_owned(), until: Some(at(60)) })
    );
    history.fleet(admitted(1));
    assert_eq!(stage(&history), Some(RestartStage::Admitted));
    history.of(1, RestartStarted { restart: restart(), admission: Position(4) });
    assert_eq!(stage(&history), Some(RestartStage::Started));
    let mut ended = online(OnlineVia::Register, "provisioning");
    ended.restart = Some(restart());
    history.of(1, ended);
    assert_eq!(stage(&history), None);
    assert_eq!(fold(&history).get(id(1)).unwrap().restarts, 1);
    let abandoned = RestartAbandoned { restart: restart(), reason: "paused".to_owned() };
    assert!(row(vec![requested().into(), abandoned.into()]).restart.is_none());
}

#[test]
fn lists_are_in_order_of_creation_and_leave_removed_ones_out() {
    let mut history = History::default();
    for number in [3, 1, 2, 4] {
        history.of(number, created("w", None));
    }
    history.of(1, RemovedFact { cascade_deleted: None, purge: false, forwarded_to: None });
    let roster = fold(&history);
    let numbers = |rows: Vec<Arc<Row>>| rows.iter().map(|row| row.id.0.as_u128()).collect::<Vec<_>>();
    assert_eq!(numbers(roster.list(Removed::Hide)), [3, 2, 4]);
    assert_eq!(numbers(roster.list(Removed::Show)), [3, 1, 2, 4]);
    assert_eq!(roster.get(id(1)).unwrap().removed_at, Some(at(5)));
    let first = roster.page(None, 2, Removed::Hide);
    assert_eq!((numbers(first.rows), first.next), (vec![3, 2], Some(id(2))));
    let second = roster.page(first.next, 2, Removed::Hide);
    assert_eq!((numbers(second.rows), second.next), (vec![4], None));
    assert_eq!((roster.counts().present(), roster.counts().of(Status::Removed)), (3, 1));
}

#[test]
fn a_person_names_a_workspace_by_id_name_or_unique_prefix() {
    let mut history = History::default();
    history.of(0xaaaa_0000_0000_0000_0000_0000_0000_0001, created("writer", None));
    history.of(0xbbbb_0000_0000_0000_0000_0000_0000_0002, created("write", None));
    history.of(0xcccc_0000_0000_0000_0000_0000_0000_0003, created("reader", None));
    let roster = fold(&history);
    let found = |text: &str| roster.find(text).map(|row| row.name.clone());
    assert_eq!(found("write").unwrap(), "write", "a whole name wins over a prefix");
    assert_eq!(found("re").unwrap(), "reader");
    assert_eq!(found("AAAA").unwrap(), "writer");
    assert_eq!(found("cccc0000-0000-0000-0000-000000000003").unwrap(), "reader");
    assert!(matches!(found("wri"), Err(FindError::Ambiguous { candidates, .. }) if candidates.len() == 2));
    assert!(matches!(found("nobody"), Err(FindError::Unknown(_))));
    assert!(matches!(found(""), Err(FindError::Unknown(_))));
}

#[test]
fn a_reader_keeps_the_row_that_it_was_given() {
    let mut history = History::default();
    history.of(1, created("before", None));
    let mut roster = fold(&history);
    let held = roster.get(id(1)).unwrap();
    roster.apply(&history.of(1, Renamed { name: "after".to_owned() })).unwrap();
    assert_eq!((held.name.as_str(), roster.get(id(1)).unwrap().name.as_str()), ("before", "after"));
}

#[test]
fn a_fact_that_cannot_follow_is_refused_and_changes_nothing() {
    let mut history = History::default();
    history.of(1, created("a", None));
    let mut roster = fold(&history);
    let before = roster.clone();
    let twice = roster.apply(&history.of(1, created("again", None)));
    assert!(matches!(twice, Err(ApplyError::CreatedTwice { .. })));
    let stranger = roster.apply(&history.of(2, Paused {}));
    assert!(matches!(stranger, Err(ApplyError::UnknownWorkspace { .. })));
    assert_eq!(roster, before);
}
