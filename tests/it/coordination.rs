//! Tasks that are handed on, and calls that wait: whatever state the other workspace is in, whatever is done to it meanwhile and
//! wherever the platform is killed, each ends once, in the right way, with a reason (R57).
//!
//! The instants of kills come from a seed that a failure prints. How many rounds: `COVALENCE_KILL_ROUNDS`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};

use super::support::client::{Client, Fact, message};
use super::support::eventually::eventually;
use super::support::platform::{Platform, Settings, kill_rounds};

/// Every wait of these stories together takes less, on a loaded machine too.
const STEP_LIMIT: Duration = Duration::from_secs(60);
/// How long a task waits here for who is away.
const AWAY: &str = "5";

/// Agents that write down what they are told to do, ones that wait for a gate of their own, and one that always fails.
fn runtimes() -> String {
    let runtime = |name: &str, script: &str| {
        format!(
            "[runtimes.{name}]\ninput = \"stdin\"\ncommand = [\"sh\", \"-c\", \"{script}\"]\ntimeout_seconds = 600\n"
        )
    };
    let gated = ["busy", "restarted", "killed", "removed"].map(|gate| {
        let wait = format!("while [ ! -e {{home}}/go-{gate} ]; do sleep 0.05; done");
        runtime(gate, &format!("cat >> {{home}}/begun; echo >> {{home}}/begun; {wait}; echo finished"))
    });
    let ledger = runtime("ledger", "cat >> {home}/done; echo >> {home}/done; echo finished");
    [ledger, runtime("broken", "cat > /dev/null; exit 3")].into_iter().chain(gated).collect()
}

struct Stage {
    platform: Platform,
    boss: String,
}

impl Stage {
    async fn set() -> Self {
        let settings = Settings::process()
            .config(&runtimes())
            .env("A2A_AWAY_PATIENCE_SECONDS", AWAY)
            .env("A2A_BUSY_PATIENCE_SECONDS", "1");
        let platform = Platform::start(settings).await;
        let boss = external(&platform.admin(), "boss").await;
        Self { platform, boss }
    }

    fn home(&self) -> PathBuf {
        self.platform.home().to_owned()
    }
}

async fn external(admin: &Client, name: &str) -> String {
    let body = json!({"name": name, "external": true});
    let created = admin.post("/workspaces", &body).await.unwrap().expect(201);
    created["id"].as_str().expect("an id").to_owned()
}

async fn online(admin: &Client, name: &str, runtime: &str) -> String {
    let body = json!({"name": name, "runtime": runtime, "max_concurrent_tasks": 1});
    let created = admin.post("/workspaces", &body).await.unwrap().expect(201);
    let id = created["id"].as_str().expect("an id").to_owned();
    admin.wait_status(&id, "online").await;
    id
}

async fn act(admin: &Client, id: &str, act: &str) {
    let reply = admin.post(&format!("/workspaces/{id}/{act}"), &json!({})).await.unwrap();
    assert!((200..300).contains(&reply.status), "{act}: {} {}", reply.status, reply.text);
}

async fn remove(admin: &Client, id: &str) {
    let path = format!("/workspaces/{id}?confirm=true");
    admin.send(Method::DELETE, &path, None, &[]).await.unwrap().expect(200);
}

async fn delegate(admin: &Client, boss: &str, target: &str, task: &str) -> String {
    let body = json!({"target_id": target, "task": task});
    let taken = admin.post(&format!("/workspaces/{boss}/delegate"), &body).await.unwrap().expect(202);
    taken["delegation_id"].as_str().expect("a name").to_owned()
}

/// What came of a task, once it is over: the one row that says so.
async fn outcome(admin: &Client, boss: &str, delegation: &str) -> Value {
    eventually(&format!("task {delegation} ends"), STEP_LIMIT, async || {
        let of_it = rows(admin, boss).await?.into_iter().filter(|row| row["delegation_id"] == delegation);
        let (over, open): (Vec<Value>, Vec<Value>) = of_it.partition(|row| row["type"] == "delegate_result");
        match over.as_slice() {
            [row] => Ok(row.clone()),
            _ => Err(format!("{over:?} {open:?}")),
        }
    })
    .await
}

async fn until_begun(stage: &Stage, task: &str) {
    let begun = stage.home().join("begun");
    eventually("the agent works on it", STEP_LIMIT, async || {
        let text = fs::read_to_string(&begun).unwrap_or_default();
        if text.contains(task) { Ok(()) } else { Err(text) }
    })
    .await;
}

/// How a task is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Done,
    Fails(&'static str),
}

/// One line of the table: the state that the other workspace is in when it gets the task, what happens then, how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Online,
    BusyThenFree,
    PausedThenResumed,
    PausedForTooLong,
    PausedThenRemoved,
    Hibernated,
    Hibernating,
    Restarting,
    RestartedUnderIt,
    KilledUnderIt,
    RemovedUnderIt,
    RemovedBefore,
    NeverThere,
    Broken,
    FetchesAndAnswers,
    FetchesAndIsRemoved,
    Away,
}

const TABLE: [(Case, Ends); 17] = [
    (Case::Online, Ends::Done),
    (Case::BusyThenFree, Ends::Done),
    (Case::PausedThenResumed, Ends::Done),
    (Case::PausedForTooLong, Ends::Fails("target_paused")),
    (Case::PausedThenRemoved, Ends::Fails("target_removed")),
    (Case::Hibernated, Ends::Done),
    (Case::Hibernating, Ends::Done),
    (Case::Restarting, Ends::Done),
    (Case::RestartedUnderIt, Ends::Done),
    (Case::KilledUnderIt, Ends::Fails("outcome_unknown")),
    (Case::RemovedUnderIt, Ends::Fails("target_removed")),
    (Case::RemovedBefore, Ends::Fails("target_removed")),
    (Case::NeverThere, Ends::Fails("target_not_found")),
    (Case::Broken, Ends::Fails("agent_error")),
    (Case::FetchesAndAnswers, Ends::Done),
    (Case::FetchesAndIsRemoved, Ends::Fails("target_removed")),
    (Case::Away, Ends::Fails("target_unavailable")),
];

impl Case {
    /// Brings the other workspace into its state, hands the task on, does what is done then; answers the task.
    async fn play(self, stage: &Stage) -> String {
        let admin = &stage.platform.admin();
        let name = format!("{self:?}");
        let runtime = match self {
            Self::BusyThenFree => "busy",
            Self::RestartedUnderIt => "restarted",
            Self::KilledUnderIt => "killed",
            Self::RemovedUnderIt => "removed",
            Self::Broken => "broken",
            _ => "ledger",
        };
        let target = match self {
            Self::NeverThere => "f0000000-0000-4000-8000-000000000000".to_owned(),
            Self::FetchesAndAnswers | Self::FetchesAndIsRemoved => external(admin, &name).await,
            _ => online(admin, &name, runtime).await,
        };
        self.before(stage, admin, &target).await;
        let task = delegate(admin, &stage.boss, &target, &name).await;
        self.then(stage, admin, (&target, &task)).await;
        task
    }

    async fn before(self, stage: &Stage, admin: &Client, target: &str) {
        match self {
            Self::PausedThenResumed | Self::PausedForTooLong | Self::PausedThenRemoved => {
                act(admin, target, "pause").await;
            }
            Self::Hibernated => {
                act(admin, target, "hibernate").await;
                admin.wait_status(target, "hibernated").await;
            }
            Self::Hibernating => {
                let (admin, target) = (admin.clone(), target.to_owned());
                // Whether its instance is gone by then or not: either way it is needed.
                tokio::spawn(async move { act(&admin, &target, "hibernate").await });
            }
            Self::Restarting => act(admin, target, "restart").await,
            Self::RemovedBefore => remove(admin, target).await,
            Self::BusyThenFree => {
                let (admin, target) = (admin.clone(), target.to_owned());
                tokio::spawn(async move { admin.message(&target, "the only slot").await });
                until_begun(stage, "the only slot").await;
            }
            Self::Away => {
                let hold = json!({
                    "scope": "workspace", "workspace": target, "reason": "it stays away", "lasts": "10m",
                });
                admin.post("/admin/holds", &hold).await.unwrap().expect(201);
                stage.platform.kill_workspace(target);
                admin.wait_status(target, "offline").await;
            }
            _ => {}
        }
    }

    async fn then(self, stage: &Stage, admin: &Client, (target, task): (&str, &str)) {
        match self {
            Self::PausedThenResumed => act(admin, target, "resume").await,
            Self::PausedThenRemoved | Self::FetchesAndIsRemoved => {
                if self == Self::FetchesAndIsRemoved {
                    until_stage(admin, &stage.boss, task, "queued").await;
                }
                remove(admin, target).await;
            }
            Self::BusyThenFree => open_gate(stage, "busy"),
            Self::RestartedUnderIt => {
                until_begun(stage, "RestartedUnderIt").await;
                act(admin, target, "restart").await;
                open_gate(stage, "restarted");
            }
            Self::KilledUnderIt => {
                until_begun(stage, "KilledUnderIt").await;
                stage.platform.kill_workspace(target);
            }
            Self::RemovedUnderIt => {
                until_begun(stage, "RemovedUnderIt").await;
                remove(admin, target).await;
            }
            Self::FetchesAndAnswers => {
                until_stage(admin, &stage.boss, task, "queued").await;
                answer(admin, target, &stage.boss, task).await;
            }
            _ => {}
        }
    }
}

fn open_gate(stage: &Stage, gate: &str) {
    fs::write(stage.home().join(format!("go-{gate}")), "").expect("a file in the platform's directory");
}

async fn rows(admin: &Client, boss: &str) -> Result<Vec<Value>, String> {
    let reply = admin.get(&format!("/workspaces/{boss}/delegations")).await.map_err(|e| e.to_string())?;
    Ok(reply.json().as_array().cloned().unwrap_or_default())
}

async fn until_stage(admin: &Client, boss: &str, task: &str, status: &str) {
    eventually(&format!("task {task} is {status}"), STEP_LIMIT, async || {
        let rows = rows(admin, boss).await?;
        let found = rows.iter().any(|row| row["delegation_id"] == task && row["status"] == status);
        if found { Ok(()) } else { Err(format!("{rows:?}")) }
    })
    .await;
}

/// An agent that fetches its messages answers one, with its own token.
async fn answer(admin: &Client, agent: &str, boss: &str, task: &str) {
    let path = format!("/workspaces/{agent}/external/rotate");
    let token = admin.post(&path, &json!({})).await.unwrap().expect(200);
    let token = token["connection"]["auth_token"].as_str().expect("a token").to_owned();
    let mut reply = message("finished");
    reply["params"]["message"]["role"] = json!("agent");
    reply["params"]["message"]["metadata"] = json!({"delegation_id": task});
    let agent = admin.speaking_as(token);
    agent.post(&format!("/workspaces/{boss}/a2a"), &reply).await.unwrap().expect(200);
}

/// How many facts of one kind there are about each task.
fn count(facts: &[Fact], tag: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for fact in facts.iter().filter(|fact| fact.tag == tag) {
        if let Some(name) = fact.get("delegation").as_str() {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
    counts
}

const ENDED: &str = "workspace.delegation_ended.v1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_state_the_other_workspace_is_in_a_task_ends_once_and_in_the_right_way() {
    let stage = Stage::set().await;
    let admin = stage.platform.admin();
    let played = join_all(TABLE.iter().map(|(case, _)| case.play(&stage))).await;
    for ((case, expected), task) in TABLE.iter().zip(&played) {
        let row = outcome(&admin, &stage.boss, task).await;
        match expected {
            Ends::Done => assert_eq!(row["status"], "completed", "{case:?}: {row}"),
            Ends::Fails(reason) => {
                let ended = (&row["status"], &row["reason"]);
                assert_eq!(ended, (&json!("failed"), &json!(reason)), "{case:?}: {row}");
                let error = row["error"].as_str().unwrap_or_default();
                assert!(!error.is_empty(), "{case:?} says nothing to people: {row}");
            }
        }
    }
    let facts = admin.log(Some(&stage.boss), 0).await.expect("the log answers");
    let once: BTreeMap<String, usize> = played.into_iter().map(|task| (task, 1)).collect();
    assert_eq!(count(&facts, ENDED), once, "each has one result");
}

/// What was taken on with a 202 before the platform died.
#[derive(Debug, Default)]
struct TakenOn {
    tasks: Vec<String>,
    /// The workspace that is called, and the name of the call that waits for it.
    calls: Vec<(String, String)>,
}

/// Hands tasks on to agents in every state, and calls them, until the platform dies.
async fn load(admin: Client, boss: String, team: Vec<String>, round: u32) -> TakenOn {
    let mut taken = TakenOn::default();
    for (turn, target) in team.iter().cycle().enumerate() {
        let name = format!("{round}-{turn}");
        if turn % 3 == 2 {
            let Ok(reply) = admin.message(target, &format!("call {name}")).await else { break };
            if reply.status == 202 {
                let queue = reply.json()["queue_id"].as_str().expect("a name").to_owned();
                taken.calls.push((target.clone(), queue));
            }
            continue;
        }
        let body = json!({"target_id": target, "task": format!("task {name}")});
        let Ok(reply) = admin.post(&format!("/workspaces/{boss}/delegate"), &body).await else { break };
        match reply.json()["delegation_id"].as_str() {
            Some(task) if reply.status == 202 => taken.tasks.push(task.to_owned()),
            _ => assert!(matches!(reply.status, 429 | 503), "{} {}", reply.status, reply.text),
        }
    }
    taken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_the_platform_anywhere_ends_every_task_once_and_does_none_twice() {
    const SEED: u64 = 0x00DE_1E6A;
    let mut stage = Stage::set().await;
    let mut chance = StdRng::seed_from_u64(SEED);
    for round in 0..kill_rounds() {
        let admin = stage.platform.admin();
        let names = ["at work", "asleep", "paused", "restarting", "leaving"];
        let team = join_all(names.map(|name| online(&admin, name, "ledger"))).await;
        act(&admin, &team[1], "hibernate").await;
        act(&admin, &team[2], "pause").await;
        let instant = Duration::from_micros(chance.random_range(0..1_500_000));
        eprintln!("seed {SEED:#x}, round {round}: killed {instant:?} after its load began");
        let loads = tokio::spawn(load(admin.clone(), stage.boss.clone(), team.clone(), round));
        let meddling = tokio::spawn(meddle(admin.clone(), team.clone()));
        // Not a wait for something: the random instant is what this story is about.
        tokio::time::sleep(instant).await;
        stage.platform.kill();
        let taken = loads.await.expect("the load does not panic");
        meddling.await.expect("meddling does not panic");
        stage.platform.launch();
        stage.platform.wait_ready().await;
        settled(&stage, &taken, round).await;
        for id in &team {
            remove(&stage.platform.admin(), id).await;
        }
    }
}

/// Restarts one, resumes one and removes one. The platform may die under any of these.
async fn meddle(admin: Client, team: Vec<String>) {
    let _ = admin.post(&format!("/workspaces/{}/restart", team[3]), &json!({})).await;
    let _ = admin.post(&format!("/workspaces/{}/resume", team[2]), &json!({})).await;
    let _ = admin.send(Method::DELETE, &format!("/workspaces/{}", team[4]), None, &[]).await;
}

/// Everything that was taken on is over, once, for a reason, and nothing was done twice.
async fn settled(stage: &Stage, taken: &TakenOn, round: u32) {
    let admin = stage.platform.admin();
    let facts = eventually("every task that was taken on is over", STEP_LIMIT, async || {
        let facts = admin.log(Some(&stage.boss), 0).await?;
        let ended = count(&facts, ENDED);
        let open: Vec<&String> = taken.tasks.iter().filter(|task| !ended.contains_key(*task)).collect();
        if open.is_empty() { Ok(facts) } else { Err(format!("{open:?}")) }
    })
    .await;
    let known: BTreeSet<&str> =
        ["outcome_unknown", "target_removed", "target_paused", "target_unavailable"].into();
    for fact in facts.iter().filter(|fact| fact.tag == ENDED) {
        let reason = fact.get("reason").as_str();
        assert!(reason.is_none_or(|reason| known.contains(reason)), "round {round}: {fact:?}");
    }
    for tag in [ENDED, "workspace.delegation_dispatched.v1"] {
        let twice: Vec<_> = count(&facts, tag).into_iter().filter(|(_, times)| *times > 1).collect();
        assert!(twice.is_empty(), "round {round}: {tag} more than once: {twice:?}");
    }
    for (target, queue) in &taken.calls {
        eventually(&format!("the call {queue} is over"), STEP_LIMIT, async || {
            let path = format!("/workspaces/{target}/a2a/queue/{queue}");
            let call = admin.get(&path).await.map_err(|error| error.to_string())?.json();
            match call["status"].as_str() {
                Some("completed" | "failed" | "dropped") => Ok(()),
                _ => Err(call.to_string()),
            }
        })
        .await;
    }
    // A line is what an agent was told; no two tasks are alike. That it was restarted is no task: a kill between the word
    // and its record has it told again.
    let done = fs::read_to_string(stage.home().join("done")).unwrap_or_default();
    let mut seen = BTreeMap::<&str, usize>::new();
    let is_task = |line: &&str| !line.is_empty() && !line.starts_with("You were restarted at ");
    for line in done.lines().filter(is_task) {
        *seen.entry(line).or_default() += 1;
    }
    let twice: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "round {round}: done more than once: {twice:?}");
}
