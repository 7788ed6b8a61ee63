//! A workspace that sleeps is left alone by everybody but who needs it, across kills of the platform too.

use covalence_events::DelegationId;
use covalence_events::Fact;
use covalence_events::workspace::{DelegationEnded, DelegationOutcome, Event};

use super::*;
use crate::workspace::Rejection;

impl Platform {
    async fn asleep(&self) -> WorkspaceId {
        let id = self.online().await;
        self.runtime.hibernate(id, false, by_admin()).await.unwrap();
        self.until(id, "it sleeps", |state| state.status == Status::Hibernated).await;
        assert!(!self.engine.running.lock().unwrap().contains_key(&id));
        id
    }

    async fn ends(&self, source: WorkspaceId, delegation: DelegationId) -> Vec<DelegationEnded> {
        self.until(source, "it ended", |state| state.delegations.get(delegation).is_none()).await;
        let ended = |recorded: &Arc<Recorded>| match &recorded.fact {
            Fact::Workspace(Event::DelegationEnded(e)) => Some(e.clone()),
            _ => None,
        };
        self.events(source).await.iter().filter_map(ended).collect()
    }

    async fn starts(&self, id: WorkspaceId) -> usize {
        self.tags(id).await.iter().filter(|tag| **tag == "workspace.provision_requested.v1").count()
    }
}

#[actix::test]
async fn a_call_under_way_keeps_it_awake_and_one_that_comes_later_finds_it_asleep() {
    let platform = platform().await;
    let id = platform.online().await;
    let permit = platform.permit(id, Principal::Admin).unwrap();
    let refused = platform.runtime.hibernate(id, false, by_admin()).await.unwrap_err();
    assert!(
        matches!(refused, CommandError::Rejected(Rejection::ActiveTasks { active_tasks: 1 })),
        "{refused}"
    );
    platform.permit(id, Principal::Admin).expect("the door is open again");
    drop(permit);
    platform.runtime.hibernate(id, true, by_admin()).await.unwrap();
    let found = platform.permit(id, Principal::Admin);
    assert!(matches!(found, Err(PermitRefused::Asleep { waking: false })), "{found:?}");
    platform.runtime.command(id, Command::Wake, by_admin()).await.unwrap();
    platform.until(id, "it answers", State::is_reachable).await;
    platform.permit(id, Principal::Admin).unwrap();
}

/// Whoever is let in is never cut off by a hibernation that was not forced, however both race.
#[actix::test]
async fn no_call_slips_in_between_the_decision_and_the_sleep() {
    let platform = platform().await;
    for _ in 0..40 {
        let id = platform.online().await;
        let (runtime, origin) = (platform.runtime.clone(), by_admin());
        let sleeping = tokio::spawn(async move { runtime.hibernate(id, false, origin).await });
        let mut let_in = None;
        while !sleeping.is_finished() && let_in.is_none() {
            let_in = platform.permit(id, Principal::Admin).ok();
            tokio::task::yield_now().await;
        }
        let slept = sleeping.await.unwrap().is_ok();
        let tags = platform.tags(id).await;
        let requested = tags.contains(&"workspace.hibernation_requested.v1");
        assert_eq!(slept, requested);
        assert!(!(slept && let_in.is_some()), "a call was let in and its workspace put to sleep");
    }
}

/// R10 for what is stopped on purpose: neither its absence from lists nor an exit that comes late restarts it.
#[actix::test]
async fn the_supervisor_leaves_it_alone() {
    let platform = platform().await;
    let id = platform.asleep().await;
    assert_ne!(
        platform.runtime.examine(id, by_admin()).await.unwrap(),
        Examined::Alive,
        "nothing runs, and nobody says so"
    );
    let late = Signal::Exited {
        workspace: id,
        generation: Generation(1),
        instance: Engine::reference(id, Generation(1)),
        exit_status: Some(0),
        detail: "exited".to_owned(),
    };
    platform.engine.signal(late).await;
    let second = platform_over(
        left_behind(&platform.log, None).await,
        Arc::clone(&platform.engine),
        Settings::default(),
    )
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    for platform in [&platform, &second] {
        assert_eq!(platform.starts(id).await, 1, "{:?}", platform.tags(id).await);
        platform.until(id, "it sleeps on", |state| state.status == Status::Hibernated).await;
    }
}

#[actix::test]
async fn a_task_for_it_wakes_it_and_is_done_once() {
    let platform = platform().await;
    let (source, target) = (platform.online().await, platform.asleep().await);
    let delegation = platform.hand_on(source, target).await;
    let ended = platform.ends(source, delegation).await;
    assert_eq!(ended.iter().map(|e| e.outcome).collect::<Vec<_>>(), [DelegationOutcome::Completed]);
    assert_eq!((platform.starts(target).await, platform.engine.sent.lock().unwrap().len()), (2, 1));
}

/// A kill before each fact of the story: the next start finishes it, with one result and no second instance.
#[actix::test]
async fn a_kill_anywhere_between_the_wish_to_sleep_and_the_result_of_the_task_that_woke_it_loses_nothing() {
    let first = platform().await;
    let (source, target) = (first.online().await, first.asleep().await);
    let delegation = first.hand_on(source, target).await;
    first.ends(source, delegation).await;
    let story = first.log.read_all(Position(1), usize::MAX).await.unwrap();
    let from = story.iter().position(|fact| fact.fact.tag() == "workspace.hibernation_requested.v1").unwrap();
    // What one decision led to is in the log as a whole or not at all.
    let decision = |fact: &Recorded| (fact.stream, fact.meta.boot, fact.meta.mono_ns);
    let whole = |end: &usize| story.get(*end).is_none_or(|next| decision(next) != decision(&story[*end - 1]));
    for end in (from + 1..=story.len()).filter(whole) {
        let engine = Arc::<Engine>::default();
        for id in [source, target] {
            // What runs at that moment is what was last started and not stopped by then.
            let running = story[..end].iter().fold(None, |running, recorded| match &recorded.fact {
                Fact::Workspace(Event::InstanceStarted(e)) if recorded.subject() == Some(id) => {
                    Some(e.generation)
                }
                Fact::Workspace(Event::InstanceStopped(_)) if recorded.subject() == Some(id) => None,
                _ => running,
            });
            if let Some(generation) = running {
                engine.running.lock().unwrap().insert(id, generation);
            }
        }
        let cut = Arc::new(MemoryLog::new());
        for recorded in &story[..end] {
            let event = NewEvent { meta: recorded.meta.clone(), fact: recorded.fact.clone() };
            let append = Append { stream: recorded.stream, expected: Expected::Any, events: vec![event] };
            cut.append(vec![append], Ack::Durable).await.unwrap();
        }
        let second = platform_over(cut, engine, Settings::default()).await;
        let asked = second.tags(source).await.contains(&"workspace.delegation_requested.v1");
        if asked {
            let ended = second.ends(source, delegation).await;
            assert_eq!(ended.len(), 1, "killed after {end} facts");
            let unknown = ended[0].reason.as_deref() == Some("outcome_unknown");
            assert!(ended[0].outcome == DelegationOutcome::Completed || unknown, "{ended:?}");
            assert!(second.starts(target).await <= 2);
        } else {
            second.until(target, "it sleeps", |state| state.status == Status::Hibernated).await;
            assert!(!second.engine.running.lock().unwrap().contains_key(&target));
        }
    }
}
