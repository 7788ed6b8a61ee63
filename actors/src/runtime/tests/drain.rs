//! What works is drained before it is replaced: permits, time limits, and a crash in between.

use std::sync::Arc;
use std::time::Duration;

use covalence_events::workspace::{CallOutcome, DrainOutcome, Event, RestartCause};
use covalence_events::{Fact, Generation, Principal, StreamId, Version, WorkspaceId};

use super::{Platform, by_admin, left_behind, platform, platform_over};
use crate::policy::Policy;
use crate::runtime::{CallReport, Permit, PermitRefused, PermitRequest, Settings};
use crate::workspace::Command;
use crate::workspace::command::{Remove, Restart};

fn ask(platform: &Platform, id: WorkspaceId) -> Result<Permit, PermitRefused> {
    let request = PermitRequest { caller: Principal::Admin, method: "message/send".to_owned() };
    platform.runtime.permit(id, request, by_admin())
}

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

/// Asks for a restart of something that has a call open, and waits until it is drained.
async fn draining(platform: &Platform) -> (WorkspaceId, Permit) {
    let id = platform.online().await;
    let open = ask(platform, id).unwrap();
    let restart = Command::Restart(Restart::because_of(RestartCause::Operator));
    platform.runtime.command(id, restart, by_admin()).await.unwrap();
    let is_draining = |state: &crate::workspace::State| {
        state.restart.as_ref().is_some_and(|pending| pending.drain.is_some())
    };
    platform.until(id, "it is drained", is_draining).await;
    (id, open)
}

impl Platform {
    async fn drain_ended(&self, id: WorkspaceId) -> Option<(DrainOutcome, Option<u32>)> {
        use covalence_events::log::EventLog as _;
        let facts = self.log.read(StreamId::Workspace(id), Version(1), usize::MAX).await.unwrap();
        facts.iter().find_map(|recorded| match &recorded.fact {
            Fact::Workspace(Event::DrainEnded(ended)) => Some((ended.outcome, ended.open)),
            _ => None,
        })
    }

    async fn replaced(&self, id: WorkspaceId) {
        self.until(id, "the next generation runs", |state| {
            state.generation == Generation(2) && state.url.is_some()
        })
        .await;
    }
}

#[actix::test]
async fn a_call_under_way_finishes_before_the_restart_and_no_new_one_begins() {
    let platform = platform().await;
    let (id, open) = draining(&platform).await;
    let refused = ask(&platform, id).unwrap_err();
    let PermitRefused::Restarting { restart } = refused else { panic!("{refused:?}") };
    let state = platform.runtime.peek(id).await.unwrap();
    assert_eq!(state.restart.map(|pending| pending.restart), Some(restart));
    assert_eq!(state.generation, Generation(1));
    open.finish(answered());
    platform.replaced(id).await;
    assert_eq!(platform.drain_ended(id).await, Some((DrainOutcome::Drained, Some(0))));
    assert!(ask(&platform, id).is_ok(), "the next generation takes calls");
}

#[actix::test]
async fn a_call_that_outlasts_the_drain_does_not_hold_the_restart_up() {
    let policy = Policy { drain_timeout: Duration::from_millis(100), ..Policy::default() };
    let settings = Settings { policy, ..Settings::default() };
    let platform = platform_over(Arc::default(), Arc::default(), settings).await;
    let (id, open) = draining(&platform).await;
    platform.replaced(id).await;
    assert_eq!(platform.drain_ended(id).await, Some((DrainOutcome::TimedOut, Some(1))));
    drop(open);
}

#[actix::test]
async fn a_crash_in_the_middle_of_a_drain_goes_on_with_the_restart() {
    let first = platform().await;
    let (id, _open) = draining(&first).await;
    let log = left_behind(&first.log, None).await;
    let second = platform_over(log, Arc::clone(&first.engine), Settings::default()).await;
    second.replaced(id).await;
    assert_eq!(
        second.drain_ended(id).await,
        Some((DrainOutcome::Drained, Some(0))),
        "its calls ended with it"
    );
}

#[actix::test]
async fn a_pause_and_a_removal_do_not_wait_for_a_drain() {
    for command in [Command::Pause, Command::Remove(Remove::default())] {
        let platform = platform().await;
        let (id, _open) = draining(&platform).await;
        platform.runtime.command(id, command, by_admin()).await.unwrap();
        platform
            .until(id, "its instance is gone", |state| {
                state.instance == crate::workspace::state::Instance::None
            })
            .await;
        assert_eq!(platform.drain_ended(id).await, Some((DrainOutcome::Overtaken, None)));
    }
}
