//! A task that is handed to another agent is sent at most once, and ends in one way.

use covalence_events::workspace::{DelegationEnded, DelegationOutcome, DelegationRunner, Event};
use covalence_events::{DelegationId, Fact};

use super::*;
use crate::workspace::command::{Delegate, Remove};

impl Platform {
    /// One workspace hands a task to another.
    pub(super) async fn hand_on(&self, source: WorkspaceId, target: WorkspaceId) -> DelegationId {
        let delegation = DelegationId::generate();
        let delegate = Delegate {
            delegation,
            target,
            task: "dig".to_owned(),
            key: None,
            runner: DelegationRunner::Platform,
            denied: false,
        };
        self.runtime.command(source, Command::Delegate(Box::new(delegate)), by_admin()).await.unwrap();
        delegation
    }

    async fn ended(&self, source: WorkspaceId, delegation: DelegationId) -> DelegationEnded {
        self.until(source, "it ended", |state| state.delegations.get(delegation).is_none()).await;
        let events = self.events(source).await;
        let mut ended = events.iter().filter_map(|recorded| match &recorded.fact {
            Fact::Workspace(Event::DelegationEnded(e)) if e.delegation == delegation => Some(e.clone()),
            _ => None,
        });
        let first = ended.next().expect("it ended");
        assert!(ended.next().is_none(), "it ended once");
        first
    }

    fn sent(&self) -> usize {
        self.engine.sent.lock().unwrap().len()
    }
}

#[actix::test]
async fn what_the_other_agent_answers_is_the_result_or_the_failure() {
    let reply = |status, body: &str| {
        Ok(AgentReply { status, body: body.to_owned().into(), cut: false, failure: None })
    };
    let platform = platform().await;
    let (source, target) = (platform.online().await, platform.online().await);
    let cases = [
        (reply(200, r#"{"result":{"parts":[{"kind":"text","text":"dug"}]}}"#), None),
        (reply(200, r#"{"error":{"code":-32603,"message":"boom"}}"#), Some("agent_error")),
        (reply(500, r#"{"error":"broken"}"#), Some("agent_error")),
        (reply(200, ""), Some("empty_response")),
        (Err(NoticeError::Unknown("cut off".to_owned())), Some("outcome_unknown")),
    ];
    for (answer, reason) in cases {
        let before = platform.sent();
        platform.engine.replies.lock().unwrap().push(answer);
        let delegation = platform.hand_on(source, target).await;
        let ended = platform.ended(source, delegation).await;
        assert_eq!(ended.reason.as_deref(), reason);
        assert_eq!(ended.outcome == DelegationOutcome::Completed, reason.is_none());
        assert_eq!(ended.response.map(|said| said.text).as_deref(), reason.is_none().then_some("dug"));
        assert_eq!(platform.sent(), before + 1, "sent once, whatever came of it");
    }
}

#[actix::test]
async fn one_that_did_not_arrive_or_met_a_busy_agent_is_brought_again() {
    let platform = platform().await;
    let (source, target) = (platform.online().await, platform.online().await);
    let busy = AgentReply { status: 503, body: "busy".into(), cut: false, failure: None };
    let refused = NoticeError::NotDelivered("refused".to_owned());
    platform.engine.replies.lock().unwrap().extend([Ok(busy), Err(refused)]);
    let delegation = platform.hand_on(source, target).await;
    assert_eq!(platform.ended(source, delegation).await.outcome, DelegationOutcome::Completed);
    assert_eq!(platform.sent(), 3);
}

#[actix::test]
async fn one_for_a_workspace_without_a_free_slot_waits_for_it() {
    let platform = platform().await;
    let (source, target) = (platform.online().await, platform.online().await);
    let max = platform.runtime.peek(target).await.unwrap().profile.max_concurrent_tasks;
    let permits: Vec<_> = (0..max).map(|_| platform.permit(target, Principal::Admin).unwrap()).collect();
    let delegation = platform.hand_on(source, target).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(platform.sent(), 0);
    drop(permits);
    assert_eq!(platform.ended(source, delegation).await.outcome, DelegationOutcome::Completed);
}

#[actix::test]
async fn one_whose_target_is_removed_while_it_waits_fails_with_that_reason() {
    let platform = platform().await;
    let (source, target) = (platform.online().await, platform.online().await);
    platform.runtime.command(target, Command::Pause, by_admin()).await.unwrap();
    let delegation = platform.hand_on(source, target).await;
    platform.runtime.command(target, Command::Remove(Remove::default()), by_admin()).await.unwrap();
    let ended = platform.ended(source, delegation).await;
    assert_eq!((ended.outcome, ended.reason.as_deref()), (DelegationOutcome::Failed, Some("target_removed")));
    assert_eq!(platform.sent(), 0);
}

#[actix::test]
async fn a_platform_killed_before_it_sent_it_sends_it_at_its_next_start() {
    let first = platform().await;
    let (source, target) = (first.online().await, first.online().await);
    let delegation = first.hand_on(source, target).await;
    first.ended(source, delegation).await;
    let log = left_behind(&first.log, Some("workspace.delegation_dispatched.v1")).await;
    let second = platform_over(log, Arc::clone(&first.engine), Settings::default()).await;
    assert_eq!(second.ended(source, delegation).await.outcome, DelegationOutcome::Completed);
    assert_eq!(first.sent(), 2, "the log of the first run ends before it");
}

#[actix::test]
async fn a_platform_killed_while_the_other_agent_worked_says_that_nobody_knows_and_does_not_send_it_again() {
    let first = platform().await;
    let (source, target) = (first.online().await, first.online().await);
    let delegation = first.hand_on(source, target).await;
    first.ended(source, delegation).await;
    let log = left_behind(&first.log, Some("workspace.delegation_ended.v1")).await;
    let second = platform_over(log, Arc::clone(&first.engine), Settings::default()).await;
    let ended = second.ended(source, delegation).await;
    assert_eq!(
        (ended.outcome, ended.reason.as_deref()),
        (DelegationOutcome::Failed, Some("outcome_unknown"))
    );
    assert_eq!(first.sent(), 1);
    let log = left_behind(&second.log, None).await;
    let third = platform_over(log, Arc::clone(&first.engine), Settings::default()).await;
    third.ended(source, delegation).await;
    assert_eq!(first.sent(), 1);
}
