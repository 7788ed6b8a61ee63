//! `kill -9` of the platform at random instants: workspaces go on, and nothing that was acknowledged is lost.
//!
//! The instants come from a seed that a failure prints. How many rounds: `COVALENCE_KILL_ROUNDS`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};

use super::support::client::Client;
use super::support::docker::ensure_engine;
use super::support::eventually::eventually;
use super::support::platform::{ONLINE_LIMIT, Platform, Settings, kill_rounds};

/// As many workspaces as run while the platform dies.
const TEAM: usize = 20;

/// Callers that send messages meanwhile.
const CALLERS: usize = 4;

/// One seed, so that a failure comes again; another one finds other instants.
const SEED: u64 = 0x00C0_FFEE;

/// What the platform acknowledged, and what it was asked for without an answer.
#[derive(Default)]
struct Witness {
    /// Workspace to the number of its last rename that was answered 200.
    renamed: BTreeMap<String, u32>,
    /// Workspaces whose creation was answered 201.
    created: Vec<String>,
    /// Answers that calls got which they should not have.
    wrong: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_the_platform_again_and_again_restarts_no_process_and_loses_nothing() {
    killed_again_and_again(Platform::start(Settings::process()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_the_platform_again_and_again_restarts_no_docker_container_and_loses_nothing() {
    ensure_engine().await;
    killed_again_and_again(Platform::start(Settings::docker()).await).await;
}

async fn killed_again_and_again(mut platform: Platform) {
    let names: Vec<String> = (0..TEAM).map(|index| format!("member-{index}")).collect();
    let team = platform.admin().create_online(&names).await;
    let running = platform.running();
    assert_eq!(running.len(), TEAM);
    let witness = Arc::new(Mutex::new(Witness::default()));
    let mut chance = StdRng::seed_from_u64(SEED);

    for round in 0..kill_rounds() {
        let instant = Duration::from_micros(chance.random_range(0..400_000));
        eprintln!("seed {SEED:#x}, round {round}: killed {instant:?} after its load began");
        let load = Load::begin(platform.admin(), &team, &witness);
        // Not a wait for something: the random instant is what this story is about.
        tokio::time::sleep(instant).await;
        platform.kill();
        load.end().await;

        platform.launch();
        platform.wait_ready().await;
        let admin = platform.admin();
        same_processes(&running, &platform.running());
        nothing_acknowledged_is_lost(&admin, &witness).await;
        settle_newcomers(&admin, &team, &platform).await;
    }

    let admin = platform.admin();
    for (id, name) in team.iter().zip(&names) {
        let row = admin.wait_status(id, "online").await;
        let now = row["name"].as_str().expect("a name");
        assert_eq!(admin.ask(id, "still there?").await, format!("echo {name}: still there?"), "{now}");
        let facts = admin.log(Some(id), 0).await.expect("the log answers");
        let provisioned = facts.iter().filter(|fact| fact.tag == "workspace.provision_requested.v1").count();
        assert_eq!(provisioned, 1, "{name} was provisioned again");
    }
    let wrong = std::mem::take(&mut witness.lock().expect("no holder panicked").wrong);
    assert!(wrong.is_empty(), "answers that a caller should never get: {wrong:#?}");
    same_processes(&running, &platform.running());
}

/// Commands and calls that go on until the platform dies.
struct Load {
    over: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn begin(client: Client, team: &[String], witness: &Arc<Mutex<Witness>>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for caller in 0..CALLERS {
            let (client, team, over) = (client.clone(), team.to_vec(), Arc::clone(&over));
            let witness = Arc::clone(witness);
            tasks.push(tokio::spawn(async move { call(&client, &team[caller..], &over, &witness).await }));
        }
        let renamed = (client.clone(), team.to_vec(), Arc::clone(&over), Arc::clone(witness));
        tasks.push(tokio::spawn(async move { rename(&renamed.0, &renamed.1, &renamed.2, &renamed.3).await }));
        let (over_too, witness) = (Arc::clone(&over), Arc::clone(witness));
        tasks.push(tokio::spawn(async move { create(&client, &over_too, &witness).await }));
        Self { over, tasks }
    }

    async fn end(self) {
        self.over.store(true, Ordering::SeqCst);
        for finished in join_all(self.tasks).await {
            finished.expect("no part of the load panics");
        }
    }
}

async fn call(client: &Client, team: &[String], over: &AtomicBool, witness: &Mutex<Witness>) {
    for id in team.iter().cycle() {
        match client.message(id, "hello").await {
            Ok(reply) if reply.status != 200 => {
                let wrong = format!("call: {} {}", reply.status, reply.text);
                witness.lock().expect("no holder panicked").wrong.push(wrong);
            }
            Ok(_) => {}
            Err(_) => return,
        }
        if over.load(Ordering::SeqCst) {
            return;
        }
    }
}

async fn rename(client: &Client, team: &[String], over: &AtomicBool, witness: &Mutex<Witness>) {
    for id in team.iter().cycle() {
        let number = witness.lock().expect("no holder panicked").renamed.get(id).copied().unwrap_or(0) + 1;
        let body = json!({ "role": format!("role {number}") });
        let reply = client.send(Method::PATCH, &format!("/workspaces/{id}"), Some(&body), &[]).await;
        let Ok(reply) = reply else { return };
        let mut witness = witness.lock().expect("no holder panicked");
        if reply.status == 200 {
            witness.renamed.insert(id.clone(), number);
        } else {
            witness.wrong.push(format!("rename: {} {}", reply.status, reply.text));
        }
        if over.load(Ordering::SeqCst) {
            return;
        }
    }
}

async fn create(client: &Client, over: &AtomicBool, witness: &Mutex<Witness>) {
    // Two are enough: the second is still being provisioned when the platform dies.
    for _ in 0..2 {
        let body = json!({ "name": "newcomer", "runtime": "echo" });
        let Ok(reply) = client.post("/workspaces", &body).await else { return };
        let mut witness = witness.lock().expect("no holder panicked");
        match reply.json()["id"].as_str() {
            Some(id) if reply.status == 201 => witness.created.push(id.to_owned()),
            _ => witness.wrong.push(format!("create: {} {}", reply.status, reply.text)),
        }
        if over.load(Ordering::SeqCst) {
            return;
        }
    }
}

fn same_processes(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) {
    for (workspace, identity) in before {
        assert_eq!(now.get(workspace), Some(identity), "workspace {workspace} does not run as it did");
    }
}

async fn nothing_acknowledged_is_lost(admin: &Client, witness: &Mutex<Witness>) {
    let rows = admin.get("/workspaces").await.expect("the platform answers").expect(200);
    let rows: BTreeMap<&str, &Value> =
        rows.as_array().expect("a list").iter().filter_map(|row| Some((row["id"].as_str()?, row))).collect();
    let mut witness = witness.lock().expect("no holder panicked");
    for (id, number) in &mut witness.renamed {
        let role =
            rows[id.as_str()]["role"].as_str().and_then(|role| role.strip_prefix("role ")?.parse().ok());
        // The one that was under way when the platform died may have happened or not; then the count goes on from it.
        assert!(
            role == Some(*number) || role == Some(*number + 1),
            "{id}: acknowledged {number}, found {role:?}"
        );
        *number = role.expect("checked");
    }
    for id in witness.created.drain(..) {
        assert!(rows.contains_key(id.as_str()), "workspace {id} was acknowledged and is gone");
    }
}

/// Every provisioning that was under way has an outcome: online, or failed with a reason. Then they make room.
async fn settle_newcomers(admin: &Client, team: &[String], platform: &Platform) {
    let newcomers = eventually("every newcomer is online or failed", ONLINE_LIMIT, async || {
        let rows = admin.get("/workspaces").await.map_err(|error| error.to_string())?.json();
        let rows = rows.as_array().cloned().unwrap_or_default();
        let newcomers: Vec<Value> =
            rows.into_iter().filter(|row| !team.iter().any(|id| row["id"] == **id)).collect();
        let settled = |row: &Value| match row["status"].as_str() {
            Some("online") => true,
            Some("failed") => row["last_sample_error"].as_str().is_some_and(|error| !error.is_empty()),
            _ => false,
        };
        if newcomers.iter().all(settled) { Ok(newcomers) } else { Err(format!("{newcomers:?}")) }
    })
    .await;
    // The kernel is asked too: no newcomer runs twice.
    let running = platform.running();
    for row in newcomers {
        let id = row["id"].as_str().expect("an id");
        if row["status"] == "online" {
            assert!(running.contains_key(id), "{id} is online without a process");
        }
        let removed = admin.send(Method::DELETE, &format!("/workspaces/{id}?confirm=true"), None, &[]).await;
        removed.expect("the platform answers").expect(200);
    }
    eventually("removed newcomers are gone", ONLINE_LIMIT, async || {
        let running = platform.running();
        if running.len() == team.len() { Ok(()) } else { Err(format!("{} run", running.len())) }
    })
    .await;
}
