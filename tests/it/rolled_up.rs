//! Old heartbeats and what was said long ago leave the log, and nobody who folds it can tell: actors, projections, and the answers
//! of the real server.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use chrono::TimeDelta;
use covalence_actors::simulation::storm::Plan;
use covalence_actors::{fleet, workspace};
use covalence_events::log::sled::{Options, SledLog};
use covalence_events::log::{Ack, Append, EventLog, Expected};
use covalence_events::retention::{ACTIVITY_DEFAULT, Rules};
use covalence_events::workspace::{
    BackendKind, CameOnline, Created, DeliveryMode, Event, HeartbeatReceived, Notified, OnlineVia,
    Registered, Renamed, WorkspaceAccess,
};
use covalence_events::{
    BootId, CorrelationId, EventId, Fact, Generation, Meta, NewEvent, Position, Principal, StreamId,
    Timestamp, WorkspaceId,
};
use covalence_projections::roster::Removed;
use covalence_projections::{History, Rebuilder};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::client::Client;
use super::support::eventually::eventually;
use super::support::platform::{ONLINE_LIMIT, Platform, Settings};
use super::support::rebuilt;

/// Storms whose logs are rolled up. Every second one is followed by hours of calm, so that rhythms come from before and after.
const SEEDS: u64 = 8;
const CALM_MS: u64 = 2 * 3_600_000;
/// Facts in one database: small enough that parts of the archive end in the middle of everything.
const PART: u64 = 150;

/// A log in a directory that has these facts, and most of them in its archive.
pub(super) async fn recorded(path: &Path, facts: impl Iterator<Item = (StreamId, NewEvent)>) -> SledLog {
    let options = Options { roll_events: Some(PART), ..Options::default() };
    let (log, _) = SledLog::open(path, &options).unwrap();
    let mut under_way = Vec::new();
    for (stream, event) in facts {
        let append = Append { stream, expected: Expected::Any, events: vec![event] };
        under_way.push(log.append(vec![append], Ack::Durable));
        if under_way.len() == 50 {
            for appended in under_way.drain(..) {
                appended.await.unwrap();
            }
            // Else a busy machine makes longer parts, of which nothing is old enough as a whole.
            log.prepared().await;
            log.settle().await;
        }
    }
    for appended in under_way {
        appended.await.unwrap();
    }
    log.settle().await;
    log
}

/// Everything that is folded of a log: the states of all actors, and what the projections come to.
async fn folded(
    log: &Arc<dyn EventLog>,
) -> (HashMap<WorkspaceId, workspace::State>, fleet::State, Vec<String>) {
    let (mut workspaces, mut whole) = (HashMap::<_, workspace::State>::new(), fleet::State::default());
    for recorded in log.read_all(Position(1), usize::MAX).await.unwrap() {
        match recorded.stream {
            StreamId::Fleet => whole = fleet::evolve(whole, &recorded).unwrap(),
            StreamId::Workspace(id) => {
                let state = workspace::evolve(workspaces.remove(&id), &recorded).unwrap();
                workspaces.insert(id, state);
            }
        }
    }
    let views = History::new(Arc::clone(log), None).at(log.head()).await.unwrap();
    let rebuilder = Rebuilder::new(Arc::clone(&views), Arc::clone(log), tokio::runtime::Handle::current());
    let rows: Vec<_> = views.roster.read().list(Removed::Show).iter().map(|row| format!("{row:?}")).collect();
    let prints = rebuilder.fingerprints().into_iter();
    let prints = prints.map(|(health, print)| format!("{} {print:?}", health.name));
    (workspaces, whole, rows.into_iter().chain(prints).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn actors_and_projections_fold_to_the_same_before_and_after_a_roll_up() {
    let mut gone = 0;
    for seed in 0..SEEDS {
        let (mut world, _) = Plan::draw(seed).live();
        if seed % 2 == 1 {
            let until = world.now() + CALM_MS;
            world.run(until);
        }
        let facts = world.ledger().facts().iter().map(|(_, recorded)| {
            (recorded.stream, NewEvent { meta: recorded.meta.clone(), fact: recorded.fact.clone() })
        });
        let dir = TempDir::new().unwrap();
        let log = recorded(dir.path(), facts).await;
        let (scavenger, later) = (log.scavenger(), world.moment() + TimeDelta::days(30));
        let log: Arc<dyn EventLog> = Arc::new(log);
        let before = folded(&log).await;
        let run = move || {
            scavenger.run((&Rules::default(), later), Position(u64::MAX), u64::MAX, &|_| true).unwrap()
        };
        gone += tokio::task::spawn_blocking(run).await.unwrap().events;
        let after = folded(&log).await;
        for (id, state) in &before.0 {
            assert_eq!(Some(state), after.0.get(id), "seed {seed}: the actor of {id}");
        }
        assert_eq!(before.1, after.1, "seed {seed}: the fleet");
        for (before, after) in before.2.iter().zip(&after.2) {
            assert_eq!(before, after, "seed {seed}: the projections");
        }
    }
    assert!(gone > 1000, "only {gone} heartbeats went, that shows little");
}

/// How far the story goes back: beyond the age at which what was said leaves the log.
const DAYS: i64 = 45;
/// Heartbeats of one day.
const BEATS: i64 = 16;

/// What three agents elsewhere said in the last weeks: a heartbeat each hour and a half, and now and then something else.
pub(super) fn story(now: Timestamp) -> Vec<(StreamId, NewEvent)> {
    let ids: Vec<_> = (0..3).map(|_| WorkspaceId::generate()).collect();
    let (boot, since) = (BootId::generate(), now - TimeDelta::days(DAYS));
    let mut facts = Vec::new();
    let mut say = |id: WorkspaceId, at: Timestamp, event: Event| {
        let meta = Meta {
            id: EventId::generate(),
            at,
            boot,
            mono_ns: u64::try_from((at - since).num_nanoseconds().unwrap()).unwrap(),
            correlation: CorrelationId::generate(),
            causation: None,
            principal: Principal::Workspace(id),
            policy: None,
        };
        facts.push((StreamId::Workspace(id), NewEvent { meta, fact: Fact::Workspace(event) }));
    };
    for (number, &id) in ids.iter().enumerate() {
        say(id, since, created(number).into());
        let card = json!({"name": format!("agent {number}"), "skills": []});
        let (url, delivery_mode) = (Some("https://agents.example/a2a".to_owned()), DeliveryMode::Push);
        say(id, since, Registered { url, agent_card: card, delivery_mode, generation: None }.into());
        let (via, from, generation) = (OnlineVia::Register, "awaiting_agent".to_owned(), Generation(0));
        say(id, since, CameOnline { via, from, generation, restart: None }.into());
    }
    for round in 1..DAYS * BEATS - 1 {
        let at = since + TimeDelta::minutes(24 * 60 / BEATS * round);
        for (number, &id) in ids.iter().enumerate() {
            let mine = i64::try_from(number).unwrap();
            // The last of them fell silent long ago.
            if number == 2 && round > 35 * BEATS {
                continue;
            }
            if round % 97 == mine {
                say(id, at, Renamed { name: format!("agent-{number}-{round}") }.into());
            }
            if round % 20 == mine {
                say(id, at, Notified { message: format!("round {round}"), attachments: None }.into());
            }
            say(id, at, beat(round, mine).into());
        }
    }
    facts
}

fn created(number: usize) -> Created {
    Created {
        name: format!("agent-{number}"),
        role: None,
        tier: 2,
        runtime: "external".to_owned(),
        backend: BackendKind::External,
        model: None,
        template: None,
        entry: None,
        parent: None,
        workspace_dir: None,
        workspace_access: WorkspaceAccess::None,
        url: Some("https://agents.example/a2a".to_owned()),
        delivery_mode: Some(DeliveryMode::Push),
        budget_limit: None,
        max_concurrent_tasks: 5,
        x: 0.0,
        y: 0.0,
    }
}

fn beat(round: i64, mine: i64) -> HeartbeatReceived {
    HeartbeatReceived {
        uptime_seconds: round * 5400,
        active_tasks: round % 3,
        monthly_spend: (round % 50 == mine).then_some(round),
        sample_error: if round % 31 == mine { format!("disk {round}") } else { String::new() },
        ..HeartbeatReceived::default()
    }
}

const NOTIFIED: &str = "workspace.notified.v1";

/// Reads that list the facts themselves, or count them: of what is gone they can't speak.
const OF_SINGLE_FACTS: [&str; 5] =
    ["/admin/case", "/admin/log", "/admin/timeline", "/incidents/span", "/replay"];

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_rolls_up_answers_every_read_as_before_and_says_what_it_did() {
    let mut platform = Platform::prepare(Settings::process());
    std::fs::create_dir_all(platform.data_dir()).unwrap();
    let facts = story(chrono::Utc::now());
    let positions = facts.len() as u64;
    let said: Vec<_> = facts.iter().filter(|(_, new)| new.fact.tag() == NOTIFIED).cloned().collect();
    let log = recorded(&platform.data_dir().join("events"), facts.into_iter()).await;
    log.close().await;
    drop(log);
    platform.launch();
    platform.wait_ready().await;
    let admin = platform.admin();
    let stands = admin.get("/admin/log/retention").await.unwrap().expect(200);
    assert_eq!(stands["heartbeats_seconds"], 7 * 86_400);
    let due = stands["lag"]["positions"].as_u64().unwrap();
    assert!(due > positions / 4 && stands["lag"]["since"].is_string(), "{stands}");
    eventually("everything is exported", ONLINE_LIMIT, async || {
        let ready = admin.get("/ready").await.map_err(|error| error.to_string())?.json();
        if ready["export"]["position"].as_u64() >= Some(positions) { Ok(()) } else { Err(ready.to_string()) }
    })
    .await;

    let at = head(&admin).await;
    assert_eq!(notices(&admin).await.len(), said.len());
    let before = rebuilt::answers(&admin).await;
    let ran = platform.cli(&["log", "retention", "--run"]);
    let words = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{words}{}", String::from_utf8_lossy(&ran.stderr));
    assert!(words.contains("due       nothing") && words.contains(" given back"), "{words}");
    let stands = admin.get("/admin/log/retention").await.unwrap().expect(200);
    let (removed, last) = (&stands["last"]["events"], &stands["last"]["outcome"]);
    assert!(removed.as_u64() > Some(due / 2) && last == "done", "{stands}");
    assert_eq!(stands["lag"]["parts"], 0, "{stands}");
    let metrics = admin.get("/metrics").await.unwrap().text;
    let counted = format!("covalence_log_removed_events_total {removed}");
    assert!(
        metrics.contains(&counted) && metrics.contains("covalence_log_retention_lag_seconds 0"),
        "{metrics}"
    );
    let after = rebuilt::answers(&admin).await;
    assert_eq!(
        head(&admin).await,
        at,
        "the server recorded something meanwhile: {}",
        facts_after(&admin, at).await
    );
    same(&before, &after);
    let verified: Value = serde_json::from_slice(&platform.cli(&["log", "verify", "--json"]).stdout).unwrap();
    assert_eq!(verified["problems"], json!([]), "{verified}");

    let left = notices(&admin).await;
    let gone: Vec<_> = said.iter().filter(|(_, new)| !left.contains(&new.meta.id.to_string())).collect();
    assert!(gone.len() > 10 && gone.len() + left.len() == said.len(), "{} of {}", gone.len(), said.len());
    assert!(gone.iter().all(|(_, new)| chrono::Utc::now() - new.meta.at > ACTIVITY_DEFAULT));
    follows(&admin, gone[0], 410).await;
    follows(&admin, &said[said.len() - 9], 200).await;

    // The next start folds what is left, and what is left is all that is told of these.
    platform.terminate();
    platform.launch();
    platform.wait_ready().await;
    let admin = platform.admin();
    let mut again = rebuilt::answers(&admin).await;
    again.retain(|path, _| path.starts_with("/workspaces") && !path.ends_with("/explain"));
    assert!(again.len() > 10, "{:?}", again.keys());
    for (path, answer) in &again {
        assert_eq!(before.get(path), Some(answer), "`{path}` after a start");
    }
}

/// Ids of the notices that the log has.
async fn notices(admin: &Client) -> Vec<String> {
    let facts = admin.log(None, 0).await.unwrap();
    facts.into_iter().filter(|fact| fact.tag == NOTIFIED).map(|fact| fact.id).collect()
}

/// Asks for what came in a feed after a fact.
async fn follows(admin: &Client, (stream, after): &(StreamId, NewEvent), status: u16) {
    let StreamId::Workspace(id) = stream else { panic!("{stream}") };
    let path = format!("/workspaces/{id}/activity?since_id={}", after.meta.id);
    let reply = admin.get(&path).await.unwrap();
    assert_eq!(reply.status, status, "{path}: {}", reply.text);
}

/// Where the log ends.
async fn head(admin: &Client) -> u64 {
    admin.get("/ready").await.unwrap().expect(200)["head"].as_u64().unwrap()
}

async fn facts_after(admin: &Client, position: u64) -> String {
    admin.get(&format!("/admin/log?after={position}")).await.unwrap().text
}

fn same(before: &rebuilt::Answers, after: &rebuilt::Answers) {
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    let compared = before.iter().filter(|(path, _)| !OF_SINGLE_FACTS.contains(&path.as_str()));
    for (path, answer) in compared {
        assert_eq!(after.get(path), Some(answer), "`{path}` after the roll-up");
    }
}
