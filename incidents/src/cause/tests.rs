//! Kinds of cause that the simulator does not know, and what is said where nothing speaks clearly.

use covalence_events::fleet::{ParameterChange, PolicyChanged};
use covalence_events::workspace::{
    FailureKind, FailureSign, Paused, ProvisionFailed, RestartCause, RestartRequested, RuntimeChanged,
    SessionPoisoned,
};
use covalence_events::{CallId, Generation, PolicyHash};
use uuid::Uuid;

use super::{CauseKind, Sure};
use crate::report::{self, About, Report};
use crate::testing::{LEAD, Story, at, restart, who};
use crate::{Moment, incident};

async fn report(story: &Story) -> Report {
    let log = story.log().await;
    let (since, until) = (Moment::Time(at(60_000)), Moment::Time(story.now()));
    let about = About::Span { since, until, workspaces: [].into() };
    report::show(&log, &about, story.now(), &who(&log).await).await.unwrap()
}

fn wish(story: &mut Story, number: u128, cause: RestartCause) {
    let (restart, generation) = (restart(number), Generation(1));
    let (reset_session, evidence, forced, reason) = (false, Vec::new(), false, None);
    story
        .of(number, RestartRequested { restart, cause, generation, reset_session, evidence, forced, reason });
}

fn failed(story: &mut Story, number: u128) {
    story.of(
        number,
        ProvisionFailed {
            generation: Generation(2),
            code: "image_missing".to_owned(),
            message: "no such image".to_owned(),
            retryable: false,
            command: None,
        },
    );
}

#[tokio::test]
async fn where_nothing_happened_the_cause_is_unknown_and_not_sure() {
    let mut story = Story::of_lead();
    story.after(300_000);
    let report = report(&story).await;
    assert_eq!((report.causes[0].kind, report.causes[0].sure), (CauseKind::Unknown, Sure::Low));
}

#[tokio::test]
async fn a_start_that_can_t_be_is_blamed_on_what_was_to_be_started() {
    let mut story = Story::of_lead();
    story.after(100_000);
    failed(&mut story, LEAD);
    let report = report(&story).await;
    assert_eq!(report.causes[0].kind, CauseKind::StartFailed, "{:#?}", report.causes);
    assert!(report.causes[0].reason.contains("image_missing"));
}

#[tokio::test]
async fn what_fails_only_after_its_runtime_was_changed_is_blamed_on_the_change() {
    let mut story = Story::of_lead();
    story.after(100_000).by_admin().of(LEAD, RuntimeChanged { runtime: "other".to_owned() });
    story.after(5_000);
    failed(&mut story, LEAD);
    let report = report(&story).await;
    assert_eq!(report.causes[0].kind, CauseKind::ConfigurationChange, "{:#?}", report.causes);
}

#[tokio::test]
async fn restarts_after_another_policy_are_blamed_on_it_though_not_surely() {
    let mut story = Story::of_lead();
    story.created(0xb, "coder");
    story.after(100_000).by_admin().fleet(PolicyChanged {
        hash: PolicyHash(1),
        from: PolicyHash(2),
        parameters: serde_json::Value::Null,
        changed: vec![ParameterChange {
            name: "liveness_ttl".to_owned(),
            from: "180s".to_owned(),
            to: "10s".to_owned(),
        }],
        reason: "quicker".to_owned(),
        origin: "set".to_owned(),
    });
    story.after(12_000);
    wish(&mut story, LEAD, RestartCause::Hung);
    wish(&mut story, 0xb, RestartCause::Hung);
    let report = report(&story).await;
    assert_eq!(report.causes[0].kind, CauseKind::PolicyChange, "{:#?}", report.causes);
    assert_ne!(report.causes[0].sure, Sure::High);
}

#[tokio::test]
async fn a_poisoned_session_is_the_cause_of_the_restart_that_it_leads_to() {
    let mut story = Story::of_lead();
    let failure = FailureSign {
        kind: FailureKind::Process,
        fingerprint: "0".repeat(16),
        excerpt: "boom".to_owned(),
        message: None,
    };
    story.after(100_000).of(
        LEAD,
        SessionPoisoned {
            call: CallId(Uuid::from_u128(1)),
            failure,
            in_a_row: 3,
            after_reset: false,
            message: "throw it away".to_owned(),
        },
    );
    wish(&mut story, LEAD, RestartCause::Session);
    let report = report(&story).await;
    assert_eq!(report.causes[0].kind, CauseKind::SessionPoisoned, "{:#?}", report.causes);
}

#[tokio::test]
async fn what_a_person_paused_is_blamed_on_the_person() {
    let mut story = Story::of_lead();
    story.after(100_000).by_admin().of(LEAD, Paused {});
    let report = report(&story).await;
    assert_eq!((report.causes[0].kind, report.causes[0].sure), (CauseKind::Operator, Sure::High));
}

#[tokio::test]
async fn an_incident_of_a_brake_begins_with_its_first_sign_and_leaves_older_ones_out() {
    let mut story = Story::of_lead();
    story.created(0xb, "coder");
    story.after(100_000).death(0xb, restart(1));
    story.after(400_000);
    let first = story.now();
    story.death(LEAD, restart(2));
    story.after(5_000);
    let brake = story.brake(&[LEAD]);
    story.incident(brake);
    story.after(30_000);
    let log = story.log().await;
    let who = who(&log).await;
    let known = incident::list(&log, 5, &who).await.unwrap().incidents;
    assert_eq!(known.len(), 1);
    let about = About::Incident(known[0].id);
    let report = report::show(&log, &about, story.now(), &who).await.unwrap();
    assert_eq!((report.since, report.goes_on), (first, true));
    assert_eq!(report.impact.workspaces, 1, "{:?}", report.impact);
}
