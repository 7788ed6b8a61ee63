//! Permits at the mailbox's door, and what becomes of the outcomes of calls.

use std::sync::Arc;
use std::time::Duration;

use covalence_events::log::memory::MemoryLog;
use covalence_events::workspace::{BackendKind, CallOutcome, Event, EvidenceClass, EvidenceSource};
use covalence_events::{Fact, Principal, WorkspaceId};

use super::super::cell::EARLY_ANSWERS_MAX;
use super::super::{CallReport, PermitRefused, Settings};
use super::full_log::FullAtFirst;
use super::{by_admin, platform, platform_over, platform_writing_to};
use crate::policy::Policy;
use crate::workspace::tests::create;
use crate::workspace::{Command, Rejection, Status};

const FINISHED: &str = "workspace.call_finished.v1";

fn answered() -> CallReport {
    CallReport {
        outcome: CallOutcome::Answered,
        status: Some(200),
        request_bytes: 1,
        response_bytes: 1,
        error: None,
        failure: None,
    }
}

#[actix::test]
async fn permits_are_bounded_and_a_dropped_one_comes_back() {
    let platform = platform().await;
    let id = platform.online().await;
    let mut open: Vec<_> = (0..5).map(|_| platform.permit(id, Principal::Admin).unwrap()).collect();
    assert!(matches!(
        platform.permit(id, Principal::Admin),
        Err(PermitRefused::Full { open: 5, max: 5, .. })
    ));
    assert!(platform.permit(id, Principal::Workspace(id)).is_ok(), "a self-call takes no slot");
    open.pop();
    assert!(platform.permit(id, Principal::Admin).is_ok());
    let missing = WorkspaceId::generate();
    assert!(matches!(
        platform.permit(missing, Principal::Admin),
        Err(PermitRefused::Rejected(Rejection::NotFound))
    ));
}

#[actix::test]
async fn whoever_has_heard_of_a_pause_or_a_removal_gets_no_permit_after_it() {
    let platform = platform().await;
    let id = platform.online().await;
    platform.runtime.command(id, Command::Pause, by_admin()).await.unwrap();
    assert!(matches!(
        platform.permit(id, Principal::Admin),
        Err(PermitRefused::NoUrl { status: Status::Paused })
    ));
    platform.runtime.command(id, Command::Resume, by_admin()).await.unwrap();
    platform.until(id, "it runs again", |state| state.url.is_some()).await;
    let permit = platform.permit(id, Principal::Admin).unwrap();
    assert_eq!((&*permit.url, permit.trusted), ("http://127.0.0.1:1", true));
    let remove = Command::Remove(crate::workspace::command::Remove::default());
    platform.runtime.command(id, remove, by_admin()).await.unwrap();
    assert!(matches!(
        platform.permit(id, Principal::Admin),
        Err(PermitRefused::Rejected(Rejection::Removed))
    ));
}

#[actix::test]
async fn outcomes_are_recorded_once_each_and_in_their_order() {
    const CALLS: usize = 300;
    let platform = platform().await;
    let id = platform.online().await;
    let mut calls = Vec::new();
    for _ in 0..CALLS {
        let permit = platform.permit(id, Principal::Admin).unwrap();
        calls.push(permit.call);
        permit.finish(answered());
    }
    platform.runtime.outcomes_recorded().await;
    let events = platform.events(id).await;
    let recorded: Vec<_> = events
        .iter()
        .filter_map(|recorded| match &recorded.fact {
            Fact::Workspace(Event::CallFinished(call)) => Some(call.call),
            _ => None,
        })
        .collect();
    assert_eq!(recorded, calls);
}

#[actix::test]
async fn an_outcome_that_a_full_log_refuses_is_recorded_later() {
    let log = Arc::new(MemoryLog::new());
    let full = FullAtFirst::refusing(3, FINISHED, Arc::clone(&log));
    let platform = platform_writing_to(Arc::new(full), log, Arc::default(), Settings::default()).await;
    let id = platform.online().await;
    drop(platform.permit(id, Principal::Admin).unwrap());
    platform.until_tagged(id, FINISHED).await;
}

#[actix::test]
async fn an_outcome_that_ends_just_before_the_platform_is_recorded_before_the_log_closes() {
    let platform = platform().await;
    let id = platform.online().await;
    platform.permit(id, Principal::Admin).unwrap().finish(answered());
    platform.runtime.shut_down(false).await;
    assert!(platform.tags(id).await.contains(&FINISHED));
}

#[actix::test]
async fn beats_are_answered_before_the_log_takes_them_only_while_few_wait_there() {
    let log = Arc::new(MemoryLog::new());
    let silent = FullAtFirst::silent("workspace.heartbeat_received.v1", Arc::clone(&log));
    let platform = platform_writing_to(Arc::new(silent), log, Arc::default(), Settings::default()).await;
    let id = WorkspaceId::generate();
    platform.runtime.command(id, create(BackendKind::External), by_admin()).await.unwrap();
    let beat = || platform.runtime.command(id, Command::Heartbeat(Box::default()), by_admin());
    // The first brings it online, which is no telemetry.
    for _ in 0..=EARLY_ANSWERS_MAX {
        beat().await.unwrap();
    }
    let late = tokio::time::timeout(Duration::from_millis(50), beat()).await;
    assert!(late.is_err(), "{late:?}");
}

/// R13: an agent that is deep in its work and beats late goes on answering, and its bytes say so.
#[actix::test]
async fn bytes_of_an_open_answer_are_a_sign_of_life_once_nothing_else_was_heard_for_a_beat() {
    let policy = Policy { heartbeat_interval: Duration::from_millis(50), ..Policy::default() };
    let settings = Settings { policy, ..Settings::default() };
    let platform = platform_over(Arc::default(), Arc::default(), settings).await;
    let id = platform.online().await;
    let mut permit = platform.permit(id, Principal::Admin).unwrap();
    permit.progressed();
    let lives = async || {
        let facts = platform.events(id).await;
        let is_life = |fact: &Fact| {
            matches!(fact, Fact::Workspace(Event::EvidenceObserved(e))
                if e.class == EvidenceClass::Life && e.source == EvidenceSource::Call)
        };
        facts.iter().filter(|recorded| is_life(&recorded.fact)).count()
    };
    let mut others = Vec::new();
    for _ in 0..2000 {
        // Another call, since one call is looked at only now and then.
        let mut other = platform.permit(id, Principal::Workspace(id)).unwrap();
        other.progressed();
        others.push(other);
        if lives().await > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let recorded = lives().await;
    assert!(recorded > 0 && recorded < others.len(), "{recorded} of {}: only what is news", others.len());
    let heard = platform.runtime.peek(id).await.unwrap().last_life.unwrap();
    let beat = platform.events(id).await.iter().rev().find_map(|recorded| {
        matches!(recorded.fact, Fact::Workspace(Event::HeartbeatReceived(_))).then_some(recorded.meta.at)
    });
    assert!(heard > beat.unwrap(), "it counts as heard");
}
