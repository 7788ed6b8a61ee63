//! A shutdown that takes the workspaces with it, and the start after it.

use std::collections::BTreeSet;

use covalence_events::workspace::{Event, RestartCause};
use covalence_events::{Fact, Recorded, RestartId, fleet};

use super::*;

/// More than may start at once.
const TEAM: usize = 5;

async fn facts(log: &MemoryLog) -> Vec<Arc<Recorded>> {
    log.read_all(Position(1), usize::MAX).await.unwrap()
}

async fn second(first: &Platform, log: Arc<MemoryLog>) -> Platform {
    platform_over(log, Arc::clone(&first.engine), Settings::default()).await
}

/// The log as if no fact with this tag had been recorded.
async fn without(log: &MemoryLog, tag: &str) -> Arc<MemoryLog> {
    let rest = Arc::new(MemoryLog::new());
    for recorded in facts(log).await.iter().filter(|recorded| recorded.fact.tag() != tag) {
        let event = NewEvent { meta: recorded.meta.clone(), fact: recorded.fact.clone() };
        let append = Append { stream: recorded.stream, expected: Expected::Any, events: vec![event] };
        rest.append(vec![append], Ack::Durable).await.unwrap();
    }
    rest
}

/// The most restarts that were in flight at any moment.
fn most_in_flight(facts: &[Arc<Recorded>]) -> usize {
    let mut open = BTreeSet::<RestartId>::new();
    let mut most = 0;
    for recorded in facts {
        match &recorded.fact {
            Fact::Fleet(fleet::Event::RestartAdmitted(e)) => drop(open.insert(e.restart)),
            Fact::Fleet(fleet::Event::RestartSettled(e)) => drop(open.remove(&e.restart)),
            _ => {}
        }
        most = most.max(open.len());
    }
    most
}

async fn all_back(platform: &Platform, team: &[WorkspaceId]) {
    // Heard from one by one, as slots come free.
    let mut waiting = team.to_vec();
    for _ in 0..2000 {
        for id in std::mem::take(&mut waiting) {
            let state = platform.runtime.peek(id).await.unwrap();
            if state.generation == Generation(2) && state.url.is_some() {
                platform.beat(id).await;
            } else {
                waiting.push(id);
            }
        }
        if waiting.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not back within ten seconds: {waiting:?}");
}

fn deaths(facts: &[Arc<Recorded>]) -> Vec<&Recorded> {
    let is_death = |fact: &Fact| match fact {
        Fact::Workspace(Event::VerdictReached(_)) => true,
        Fact::Workspace(Event::RestartRequested(e)) => e.cause != RestartCause::Shutdown,
        _ => false,
    };
    facts.iter().map(AsRef::as_ref).filter(|recorded| is_death(&recorded.fact)).collect()
}

#[actix::test]
async fn what_went_down_with_the_platform_comes_back_as_many_at_a_time_as_may_and_counts_as_no_death() {
    let first = platform().await;
    let mut team = Vec::new();
    for _ in 0..TEAM {
        team.push(first.online().await);
    }
    first.runtime.shut_down(true).await;
    assert!(first.engine.running.lock().unwrap().is_empty(), "everything is stopped");
    for id in &team {
        let tags = first.tags(*id).await;
        let last = &tags[tags.len() - 3..];
        assert_eq!(
            last,
            ["workspace.stop_requested.v1", "workspace.went_offline.v1", "workspace.instance_stopped.v1"]
        );
    }

    let second = second(&first, left_behind(&first.log, None).await).await;
    all_back(&second, &team).await;
    let facts = facts(&second.log).await;
    assert_eq!(deaths(&facts), Vec::<&Recorded>::new());
    assert_eq!(most_in_flight(&facts), 2, "the cap holds, and is used");
}

#[actix::test]
async fn a_platform_killed_in_the_middle_of_the_stop_finishes_it_and_brings_everything_back() {
    let first = platform().await;
    let team = [first.online().await, first.online().await];
    first.runtime.shut_down(true).await;
    // As the kill left it: one is still running, and nothing says that the other is gone.
    let survivor = facts(&first.log)
        .await
        .iter()
        .find_map(|recorded| match (&recorded.fact, recorded.stream) {
            (Fact::Workspace(Event::InstanceStopped(_)), covalence_events::StreamId::Workspace(id)) => {
                Some(id)
            }
            _ => None,
        })
        .unwrap();
    first.engine.running.lock().unwrap().insert(survivor, Generation(1));

    let log = without(&first.log, "workspace.instance_stopped.v1").await;
    let second = second(&first, log).await;
    all_back(&second, &team).await;
    let facts = facts(&second.log).await;
    assert_eq!(deaths(&facts), Vec::<&Recorded>::new());
    let running = second.engine.running.lock().unwrap().clone();
    assert_eq!(running, team.map(|id| (id, Generation(2))).into());
}
