//! A killed agent comes back, and the log says why, link by link (R3, R12).

use std::time::Duration;

use rustix::process::Signal;

use super::support::client::Fact;
use super::support::docker::ensure_engine;
use super::support::eventually::eventually;
use super::support::platform::{ONLINE_LIMIT, Platform, Settings};
use super::support::processes::{self, agents_by_workspace};

/// From what was seen to what was done about it: each of these is caused by the one before it.
const CHAIN: [&str; 9] = [
    "workspace.evidence_observed.v1",
    "workspace.verdict_reached.v1",
    "workspace.restart_requested.v1",
    "fleet.restart_admitted.v1",
    "workspace.confirm_requested.v1",
    "workspace.evidence_observed.v1",
    "workspace.restart_started.v1",
    "workspace.provision_requested.v1",
    "workspace.instance_started.v1",
];

const CAME_ONLINE: &str = "workspace.came_online.v1";

#[tokio::test]
async fn a_killed_agent_is_online_again_and_every_step_names_its_cause() {
    killed_and_online_again(&Platform::start(Settings::process()).await).await;
}

#[tokio::test]
async fn a_killed_docker_container_is_online_again_and_every_step_names_its_cause() {
    ensure_engine().await;
    killed_and_online_again(&Platform::start(Settings::docker()).await).await;
}

async fn killed_and_online_again(platform: &Platform) {
    let admin = platform.admin();
    let id = admin.create_online(&["Ada".to_owned()]).await.remove(0);
    let before = platform.running()[&id].clone();
    let head = admin.log(None, 0).await.expect("the log answers").last().map_or(0, |fact| fact.position);

    platform.kill_workspace(&id);

    // The new agent may be heard from before its own backend's answer is recorded: either order is right.
    let facts = eventually("the log says that it is online again", ONLINE_LIMIT, async || {
        let facts = admin.log(Some(&id), head).await?;
        let is_there = |tag: &str| facts.iter().any(|fact| fact.tag == tag);
        if is_there(CAME_ONLINE) && is_there(CHAIN[CHAIN.len() - 1]) {
            return Ok(facts);
        }
        Err(facts.iter().map(|fact| &*fact.tag).collect::<Vec<_>>().join(" "))
    })
    .await;
    let after = platform.running()[&id].clone();
    assert_ne!(before, after, "something else answers");
    assert_eq!(admin.ask(&id, "again").await, "echo Ada: again");

    let started = find(&facts, CHAIN[CHAIN.len() - 1]);
    assert_eq!(causes(&facts, started), CHAIN, "from the instance back to the evidence");
    assert!(facts.iter().any(|fact| fact.tag == "workspace.went_offline.v1"), "offline is recorded");
    let online = find(&facts, CAME_ONLINE);
    assert_eq!(online.get("generation"), started.get("generation"), "the new generation was heard from");
    assert_eq!(online.get("restart"), find(&facts, "workspace.restart_requested.v1").get("restart"));
    assert_eq!(find(&facts, CHAIN[0]).get("exit_status"), 128 + 9, "the evidence names the signal");

    let output = platform.cli(&["events", "--workspace", "Ada"]);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    // The evidence is the first of its kind, that of the fresh look and of the removal come later; the others once belonged to the creation.
    let look = CHAIN.iter().skip(1).position(|step| *step == CHAIN[0]).map(|place| place + 1);
    let steps = CHAIN.iter().enumerate().filter(|(place, _)| Some(*place) != look).map(|(_, step)| step);
    let places = steps.chain([&CAME_ONLINE]).map(|step| {
        let word = step.trim_end_matches(".v1").rsplit('.').next().expect("a last part");
        let place = if *step == CHAIN[0] { shown.find(word) } else { shown.rfind(word) };
        place.unwrap_or_else(|| panic!("no `{word}` in\n{shown}"))
    });
    let places: Vec<usize> = places.collect();
    let provisioned = places.len() - 2;
    assert!(places[..provisioned].is_sorted(), "not in the order of causes:\n{shown}");
    assert!(places[provisioned..].iter().all(|place| *place > places[provisioned - 1]), "{shown}");
}

#[tokio::test]
async fn an_agent_that_exits_by_itself_is_started_again() {
    let platform = Platform::start(Settings::process()).await;
    let admin = platform.admin();
    let id = admin.create_online(&["Ada".to_owned()]).await.remove(0);
    let before = agents_by_workspace(&platform.data_dir())[&id].clone();

    processes::signal(before.pid, Signal::TERM);

    let what = "another process answers";
    eventually(what, ONLINE_LIMIT, async || match agents_by_workspace(&platform.data_dir()).get(&id) {
        Some(now) if *now != before => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    admin.wait_status(&id, "online").await;
    assert_eq!(admin.ask(&id, "again").await, "echo Ada: again");
}

#[tokio::test]
async fn a_stopped_agent_is_silent_and_not_restarted() {
    // SIGSTOP: the process is there and says nothing. Errors and silence are no proof of death (R10).
    let platform = Platform::start(Settings::process()).await;
    let admin = platform.admin();
    let id = admin.create_online(&["Ada".to_owned()]).await.remove(0);
    let before = agents_by_workspace(&platform.data_dir())[&id].clone();

    processes::signal(before.pid, Signal::STOP);
    let unanswered = tokio::time::timeout(Duration::from_secs(5), admin.message(&id, "hello")).await;
    let facts = admin.log(Some(&id), 0).await.expect("the log answers");
    processes::signal(before.pid, Signal::CONT);

    assert!(unanswered.is_err(), "a stopped agent can't answer: {unanswered:?}");
    assert!(!facts.iter().any(|fact| fact.tag.contains("restart")), "{facts:?}");
    assert_eq!(agents_by_workspace(&platform.data_dir())[&id], before, "the same process");
    assert_eq!(admin.ask(&id, "again").await, "echo Ada: again");
}

#[tokio::test]
async fn an_agent_that_hangs_for_good_is_stopped_first_and_then_replaced() {
    hung_and_replaced(&Platform::start(Settings::process().config(QUICK)).await).await;
}

#[tokio::test]
async fn a_container_that_hangs_for_good_is_stopped_first_and_then_replaced() {
    ensure_engine().await;
    hung_and_replaced(&Platform::start(Settings::docker().config(QUICK)).await).await;
}

/// Three minutes are the default; the same with seconds.
const QUICK: &str = r#"
[supervision]
grace = "0s"
list_every = "1s"
heartbeat_interval = "1s"
phi_pause = "1s"
probe_late = "1s"
probe_timeout = "1s"
probe_tries = 2
liveness_ttl = "10s"
"#;

/// From the verdict on silence to what replaces it.
const STOPPED_FIRST: [&str; 8] = [
    "workspace.verdict_reached.v1",
    "workspace.restart_requested.v1",
    "workspace.confirm_requested.v1",
    "workspace.restart_started.v1",
    "workspace.stop_requested.v1",
    "workspace.instance_stopped.v1",
    "workspace.provision_requested.v1",
    "workspace.instance_started.v1",
];

async fn hung_and_replaced(platform: &Platform) {
    let admin = platform.admin();
    let id = admin.create_online(&["Ada".to_owned()]).await.remove(0);
    let before = platform.running()[&id].clone();
    let head = admin.log(None, 0).await.expect("the log answers").last().map_or(0, |fact| fact.position);

    platform.freeze_workspace(&id);

    let facts = eventually("something else runs and is heard from", ONLINE_LIMIT, async || {
        let facts = admin.log(Some(&id), head).await?;
        let tags = || facts.iter().map(|fact| &*fact.tag);
        if tags().any(|tag| tag == "workspace.instance_started.v1") && tags().any(|tag| tag == CAME_ONLINE) {
            return Ok(facts);
        }
        Err(tags().collect::<Vec<_>>().join(" "))
    })
    .await;
    let steps: Vec<_> =
        facts.iter().map(|fact| &*fact.tag).filter(|tag| STOPPED_FIRST.contains(tag)).collect();
    assert_eq!(steps, STOPPED_FIRST);
    assert_eq!(find(&facts, "workspace.stop_requested.v1").get("reason"), "restart");
    assert_ne!(platform.running()[&id], before);
    assert_eq!(admin.ask(&id, "again").await, "echo Ada: again");
}

#[tokio::test]
async fn what_another_policy_would_have_done_and_a_trace_of_it_are_told_with_a_server_and_without() {
    let mut platform = Platform::start(Settings::process().config("[supervision]\ngrace = \"0s\"\n")).await;
    let admin = platform.admin();
    let id = admin.create_online(&["Ada".to_owned()]).await.remove(0);
    platform.kill_workspace(&id);
    eventually("it is restarted", ONLINE_LIMIT, async || {
        let facts = admin.log(Some(&id), 0).await?;
        let told = facts.iter().any(|fact| fact.tag == "workspace.restart_announced.v1");
        told.then_some(()).ok_or_else(|| "not yet".to_owned())
    })
    .await;
    let backtest = |policy: &[&str]| {
        let output = platform.cli(&[&["--json", "backtest"], policy].concat());
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("a document")
    };
    let same = backtest(&["grace=0s"]);
    assert_eq!((&same["restarts"], &same["differing"]), (&1.into(), &0.into()), "{same}");
    let jumpy = backtest(&["brake_deaths_min=1", "brake_deaths_share=0.01"]);
    let difference = &jumpy["differences"][0];
    assert_eq!(difference["recorded"], "process not braked");
    // Deaths or grace, as the case may be: the first list of the platform's own start may not have come yet.
    let under = difference["under"].as_str().expect("a text");
    assert!(under.starts_with("canary for ") && under.ends_with(": 1 of 1"), "{under}");

    let shown = platform.cli(&["backtest", "brake_deaths_min=1", "brake_deaths_share=0.01"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("process not braked") && shown.contains("of 1 restarts 0 avoided"), "{shown}");

    let lines = platform.cli(&["log", "export"]);
    let lines = String::from_utf8_lossy(&lines.stdout).into_owned();
    let issued = lines.lines().find(|line| line.contains("workspace.token_issued.v1"));
    let issued = issued.expect("a token was issued");
    assert!(issued.contains("\"sha256\":\"[redacted]\""), "{issued}");

    platform.kill();
    let traces = platform.cli_without_url(&["log", "export", "--format", "otlp"]).stdout;
    let traces: Vec<serde_json::Value> =
        traces.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let [trace] = &traces[..] else { panic!("one restart is one trace: {traces:?}") };
    let spans = trace["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("spans");
    let names: Vec<_> = spans.iter().filter_map(|span| span["name"].as_str()).collect();
    assert_eq!(names, ["restart", "wait", "look", "start", "return", "evidence"]);
    assert_eq!(spans[0]["status"]["code"], 1, "it went well");

    let offline =
        platform.cli_without_url(&["--json", "backtest", "brake_deaths_min=1", "brake_deaths_share=0.01"]);
    assert!(offline.status.success(), "{offline:?}");
    let offline: serde_json::Value = serde_json::from_slice(&offline.stdout).expect("a document");
    assert_eq!(offline["differences"], jumpy["differences"]);
}

fn find<'a>(facts: &'a [Fact], tag: &str) -> &'a Fact {
    facts.iter().find(|fact| fact.tag == tag).unwrap_or_else(|| panic!("no {tag} in {facts:#?}"))
}

/// The tags from the first cause to this fact.
fn causes(facts: &[Fact], last: &Fact) -> Vec<String> {
    let mut chain = vec![last.tag.clone()];
    let mut cause = last.causation.clone();
    while let Some(fact) = cause.as_ref().and_then(|id| facts.iter().find(|fact| fact.id == *id)) {
        chain.push(fact.tag.clone());
        cause.clone_from(&fact.causation);
    }
    chain.reverse();
    chain
}
