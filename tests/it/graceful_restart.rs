//! A restart of what works: calls under way may finish, and whoever is cut off learns by what (R13, R14, R57).

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::support::client::{Client, Fact, Reply, said};
use super::support::eventually::eventually;
use super::support::platform::{ONLINE_LIMIT, Platform, Settings};

/// Steps of a restart take moments; a loaded machine takes longer.
const STEP_LIMIT: Duration = Duration::from_secs(20);

/// An agent that says when it has begun, and answers when it may: files in the platform's directory are its gates.
const SLOW: &str = r#"
[runtimes.slow]
input = "stdin"
command = ["sh", "-c", "cat >> {home}/began; echo >> {home}/began; while [ ! -e {home}/go ]; do sleep 0.05; done; echo finished"]
timeout_seconds = 600
"#;

struct Stage {
    platform: Platform,
    admin: Client,
    id: String,
}

impl Stage {
    async fn with(runtime: &str, config: &str) -> Self {
        let platform = Platform::start(Settings::process().config(config)).await;
        let admin = platform.admin();
        let body = json!({"name": "Ada", "runtime": runtime});
        let created = admin.post("/workspaces", &body).await.unwrap().expect(201);
        let id = created["id"].as_str().expect("an id").to_owned();
        admin.wait_status(&id, "online").await;
        Self { platform, admin, id }
    }

    fn home(&self) -> PathBuf {
        self.platform.home().to_owned()
    }

    /// A call that the agent has begun to work on.
    async fn call_under_way(&self) -> JoinHandle<Reply> {
        let (admin, id) = (self.admin.clone(), self.id.clone());
        let call = tokio::spawn(async move { admin.message(&id, "work").await.unwrap() });
        let began = self.home().join("began");
        eventually("the agent works on it", STEP_LIMIT, async || {
            if began.exists() { Ok(()) } else { Err(format!("no {}", began.display())) }
        })
        .await;
        call
    }

    async fn restart(&self) -> String {
        let answer = self.admin.post(&format!("/workspaces/{}/restart", self.id), &json!({})).await;
        let answer = answer.unwrap().expect(200);
        answer["restart"].as_str().expect("the restart has a name").to_owned()
    }

    async fn until(&self, tag: &str) -> Fact {
        eventually(tag, STEP_LIMIT, async || {
            let facts = self.admin.log(Some(&self.id), 0).await?;
            let tags = || facts.iter().map(|fact| &*fact.tag).collect::<Vec<_>>().join(" ");
            facts.iter().rev().find(|fact| fact.tag == tag).cloned().ok_or_else(tags)
        })
        .await
    }

    /// By the log: a session that fails with its first message is online for milliseconds.
    async fn online_again(&self, generation: u64) {
        eventually("the next generation is online", ONLINE_LIMIT, async || {
            let facts = self.admin.log(Some(&self.id), 0).await?;
            let mut came = facts.iter().filter(|fact| fact.tag == "workspace.came_online.v1");
            let back = came.any(|fact| fact.get("generation") == generation);
            if back { Ok(()) } else { Err(format!("{:?}", facts.last())) }
        })
        .await;
    }
}

#[tokio::test]
async fn a_restart_lets_the_call_under_way_finish_and_no_new_one_begin() {
    let stage = Stage::with("slow", SLOW).await;
    let call = stage.call_under_way().await;
    let restart = stage.restart().await;
    stage.until("workspace.drain_requested.v1").await;

    let refused = stage.admin.message(&stage.id, "too late").await.unwrap();
    assert_eq!(
        (refused.status, refused.headers["retry-after"].to_str().unwrap()),
        (503, "15"),
        "{}",
        refused.text
    );
    let body = refused.json();
    assert_eq!((&body["restarting"], &body["delivery"]), (&json!(true), &json!("not_delivered")), "{body}");
    assert_eq!(body["restart_id"], restart);
    let row = stage.admin.row(&stage.id).await.unwrap();
    assert_eq!(row["supervision"]["restart"]["stage"], "draining", "{row}");

    fs::write(stage.home().join("go"), "").unwrap();
    assert_eq!(said(&call.await.unwrap().expect(200)), "finished");
    let ended = stage.until("workspace.drain_ended.v1").await;
    assert_eq!((ended.get("outcome"), ended.get("open")), (&json!("drained"), &json!(0)), "{ended:?}");
    stage.online_again(2).await;
    assert_eq!(stage.admin.ask(&stage.id, "again").await, "finished");
}

#[tokio::test]
async fn a_call_that_outlasts_the_drain_is_told_which_restart_cut_it_off() {
    let config = format!("{SLOW}\n[supervision]\ndrain_timeout = \"500ms\"\nstop_grace = \"500ms\"\n");
    let stage = Stage::with("slow", &config).await;
    let call = stage.call_under_way().await;
    let restart = stage.restart().await;
    let cut_off = call.await.unwrap();
    let ended = stage.until("workspace.drain_ended.v1").await;
    assert_eq!((ended.get("outcome"), ended.get("open")), (&json!("timed_out"), &json!(1)), "{ended:?}");

    assert_eq!(cut_off.headers["retry-after"].to_str().unwrap(), "15", "{}", cut_off.text);
    let body = cut_off.json();
    // With 503 the platform speaks; with 200 it says in JSON-RPC what the agent, stopped under its call, could not.
    let told = if cut_off.status == 503 { &body } else { &body["error"]["data"] };
    assert_eq!((&told["restarting"], &told["delivery"]), (&json!(true), &json!("unknown")), "{body}");
    assert_eq!(told["restart_id"], restart, "{body}");
    stage.online_again(2).await;
    let finished = stage.until("workspace.call_finished.v1").await;
    assert_ne!(finished.get("error"), &Value::Null, "its fate is recorded: {finished:?}");
    let begun = fs::read_to_string(stage.home().join("began")).unwrap();
    let times = begun.lines().filter(|line| *line == "work").count();
    assert_eq!(times, 1, "a call of unknown fate is not sent to the next generation: {begun}");
}

/// R14, with the real agent: what its program fails with is what the relay recognises.
#[tokio::test]
async fn a_session_that_fails_alike_three_times_is_restarted_with_a_fresh_one_where_the_policy_says_so() {
    let config = "[runtimes.broken]\ncommand = [\"sh\", \"-c\", \"echo the session is damaged >&2; exit 7\"]\n\
                  [supervision]\nsession_restart = \"automatic\"\n";
    let stage = Stage::with("broken", config).await;
    for text in ["one", "two", "three"] {
        let answer = stage.admin.message(&stage.id, text).await.unwrap().expect(200);
        assert_eq!(answer["error"]["data"]["kind"], "ProcessError", "{answer}");
    }
    let poisoned = stage.until("workspace.session_poisoned.v1").await;
    assert_eq!(poisoned.get("failure")["kind"], "process", "{poisoned:?}");
    let request = stage.until("workspace.restart_requested.v1").await;
    assert_eq!((request.get("cause"), request.get("reset_session")), (&json!("session"), &json!(true)));
    assert_eq!(request.causation.as_ref(), Some(&poisoned.id));
    stage.online_again(2).await;
    let admitted = stage.admin.log(None, 0).await.unwrap();
    let admitted =
        admitted.iter().find(|fact| fact.tag == "fleet.restart_admitted.v1").expect("it was admitted");
    assert_eq!(admitted.get("recent"), &json!(0), "it counts towards no intensity");

    for text in ["four", "five", "six"] {
        stage.admin.message(&stage.id, text).await.unwrap().expect(200);
    }
    let again = eventually("the fresh session is judged", STEP_LIMIT, async || {
        let poisoned = stage.until("workspace.session_poisoned.v1").await;
        if poisoned.get("after_reset") == true { Ok(poisoned) } else { Err(format!("{poisoned:?}")) }
    })
    .await;
    assert!(again.get("message").as_str().unwrap().contains("did not help"), "{again:?}");
    let row = stage.admin.row(&stage.id).await.unwrap();
    assert_eq!(row["supervision"]["advice"]["code"], "session_poisoned", "{row}");
    assert_eq!(row["generation"], 2, "nothing more is thrown away: {row}");
}
