//! An agent that was restarted is told so, once.

use covalence_events::workspace::{CallOutcome, DeliveryMode, Event, RestartAnnounced};
use covalence_events::{Fact, StreamId};

use super::*;
use crate::workspace::command::Register;

impl Platform {
    /// Killed, brought back, and heard from.
    async fn restarted(&self, id: WorkspaceId) {
        let before = self.runtime.peek(id).await.unwrap().generation;
        self.engine.signal(self.engine.kill(id)).await;
        self.until(id, "the next generation runs", |state| {
            state.generation == before.next() && state.url.is_some()
        })
        .await;
        self.beat(id).await;
    }

    async fn announced(&self, id: WorkspaceId) -> Vec<RestartAnnounced> {
        let events = self.log.read(StreamId::Workspace(id), Version(1), usize::MAX).await.unwrap();
        let announced = events.iter().filter_map(|recorded| match &recorded.fact {
            Fact::Workspace(Event::RestartAnnounced(e)) => Some(e.clone()),
            _ => None,
        });
        announced.collect()
    }

    async fn all_told(&self, id: WorkspaceId) {
        self.until(id, "it was told", |state| state.untold.is_none()).await;
    }
}

#[actix::test]
async fn an_agent_is_told_once_for_each_restart_and_never_of_its_first_start() {
    let platform = platform().await;
    let id = platform.online().await;
    assert_eq!(platform.runtime.peek(id).await.unwrap().untold, None);
    platform.restarted(id).await;
    platform.all_told(id).await;
    platform.beat(id).await;
    let announced = platform.announced(id).await;
    let told = platform.engine.told.lock().unwrap().clone();
    let [RestartAnnounced { restart, outcome: CallOutcome::Answered, error: None, .. }] = announced[..]
    else {
        panic!("{announced:?}")
    };
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].request["params"]["message"]["messageId"], restart.to_string());
}

#[actix::test]
async fn it_is_told_though_every_slot_is_taken_and_takes_none() {
    let platform = platform().await;
    let id = platform.online().await;
    let request = PermitRequest { caller: Principal::Admin, method: "message/send".to_owned() };
    let max = platform.runtime.peek(id).await.unwrap().profile.max_concurrent_tasks;
    let mut permits = Vec::new();
    for _ in 0..max {
        permits.push(platform.runtime.permit(id, request.clone(), by_admin()).unwrap());
    }
    platform.restarted(id).await;
    platform.all_told(id).await;
    assert_eq!(platform.engine.told.lock().unwrap().len(), 1);
    drop(permits.pop());
    platform.runtime.permit(id, request, by_admin()).unwrap();
}

#[actix::test]
async fn one_that_can_not_be_reached_yet_is_told_when_it_can() {
    let platform = platform().await;
    let id = platform.online().await;
    platform.engine.deaf.lock().unwrap().push(NoticeError::NotDelivered("refused".to_owned()));
    platform.restarted(id).await;
    platform.all_told(id).await;
    assert_eq!(platform.announced(id).await[0].outcome, CallOutcome::Answered);
}

#[actix::test]
async fn a_failure_to_tell_is_recorded_and_is_no_evidence() {
    let platform = platform().await;
    let id = platform.online().await;
    platform.engine.deaf.lock().unwrap().push(NoticeError::Unknown("cut off".to_owned()));
    platform.restarted(id).await;
    platform.all_told(id).await;
    let announced = platform.announced(id).await;
    assert_eq!(announced.len(), 1, "not tried again: {announced:?}");
    assert_eq!(announced[0].error.as_deref(), Some("delivered, perhaps: cut off"));
    let state = platform.runtime.peek(id).await.unwrap();
    assert_eq!((state.status, state.generation), (Status::Online, Generation(2)));
}

#[actix::test]
async fn a_platform_killed_before_it_told_tells_at_its_next_start_and_then_never_again() {
    let first = platform().await;
    let id = first.online().await;
    first.restarted(id).await;
    first.all_told(id).await;
    let log = left_behind(&first.log, Some("workspace.restart_announced.v1")).await;
    let second = platform_over(log, Arc::clone(&first.engine), Settings::default()).await;
    second.all_told(id).await;
    let told = first.engine.told.lock().unwrap().clone();
    assert_eq!(told.len(), 2);
    assert_eq!(told[0], told[1], "the same message, so that an agent can tell");
    let log = left_behind(&second.log, None).await;
    let third = platform_over(log, Arc::clone(&first.engine), Settings::default()).await;
    third.beat(id).await;
    assert_eq!(third.announced(id).await.len(), 1);
    assert_eq!(first.engine.told.lock().unwrap().len(), 2);
}

#[actix::test]
async fn an_agent_that_asks_for_its_messages_is_not_called_and_the_log_says_so() {
    let platform = platform().await;
    let id = platform.online().await;
    let register = Register {
        url: None,
        agent_card: serde_json::json!({}),
        delivery_mode: Some(DeliveryMode::Poll),
        generation: Some(Generation(1)),
        mint: None,
        enrolment: chrono::TimeDelta::zero(),
    };
    platform.runtime.command(id, Command::Register(Box::new(register)), by_admin()).await.unwrap();
    platform.restarted(id).await;
    platform.all_told(id).await;
    assert_eq!(platform.announced(id).await[0].outcome, CallOutcome::NotDelivered);
    assert!(platform.engine.told.lock().unwrap().is_empty());
}
