//! The platform starts again: what runs is adopted as it is, what is gone comes back through admission.

use std::fs;
use std::process::{Child, Command};

use rustix::process::Signal;

use super::support::client::Fact;
use super::support::eventually::{eventually, eventually_blocking};
use super::support::platform::{ONLINE_LIMIT, Platform, Settings};
use super::support::processes::{self, agents_by_workspace, end_agents};

#[tokio::test]
async fn an_orderly_restart_of_the_platform_adopts_what_runs() {
    let mut platform = Platform::start(Settings::process()).await;
    let id = platform.admin().create_online(&["Ada".to_owned()]).await.remove(0);
    let before = agents_by_workspace(&platform.data_dir());

    assert!(platform.terminate().success(), "{}", platform.stderr());
    assert_eq!(agents_by_workspace(&platform.data_dir()), before, "SIGTERM leaves workspaces running");
    platform.launch();
    platform.wait_ready().await;

    let admin = platform.admin();
    admin.wait_status(&id, "online").await;
    assert_eq!(agents_by_workspace(&platform.data_dir()), before);
    assert_eq!(admin.ask(&id, "again").await, "echo Ada: again");
    let facts = admin.log(Some(&id), 0).await.expect("the log answers");
    assert!(!facts.iter().any(|fact| fact.tag.contains("restart_")), "{facts:#?}");
}

#[tokio::test]
async fn told_to_the_platform_takes_its_workspaces_with_it() {
    let mut platform = Platform::start(Settings::process().arg("--stop-workspaces")).await;
    platform.admin().create_online(&["Ada".to_owned()]).await;

    assert!(platform.terminate().success(), "{}", platform.stderr());

    eventually_blocking("no agent is left", ONLINE_LIMIT, || {
        let left = agents_by_workspace(&platform.data_dir());
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

/// One of these would be a restart for a death, which counts.
fn deaths(facts: &[Fact]) -> Vec<String> {
    let is_death = |fact: &&Fact| fact.tag == "workspace.verdict_reached.v1" || fact.get("cause") == "death";
    facts.iter().filter(is_death).map(|fact| fact.line.to_string()).collect()
}

#[tokio::test]
async fn what_was_stopped_with_the_platform_comes_back_with_it_and_nothing_counts_as_a_crash() {
    // More rounds than the crash-loop rule would let through.
    const ROUNDS: usize = 6;
    let mut platform = Platform::start(Settings::process().arg("--stop-workspaces")).await;
    let names = ["Ada", "Ben", "Cleo"].map(ToOwned::to_owned);
    let team = platform.admin().create_online(&names).await;
    for _ in 0..ROUNDS {
        assert!(platform.terminate().success(), "{}", platform.stderr());
        platform.launch();
        platform.wait_ready().await;
        for id in &team {
            platform.admin().wait_status(id, "online").await;
        }
    }
    let admin = platform.admin();
    for (id, name) in team.iter().zip(&names) {
        assert_eq!(admin.ask(id, "again").await, format!("echo {name}: again"));
        let facts = admin.log(Some(id), 0).await.expect("the log answers");
        assert_eq!(deaths(&facts), Vec::<String>::new());
        let admitted: Vec<_> = facts.iter().filter(|fact| fact.tag == "fleet.restart_admitted.v1").collect();
        assert_eq!(admitted.len(), ROUNDS, "through admission, once a start: {facts:#?}");
        assert!(admitted.iter().all(|fact| *fact.get("recent") == 0), "none of them counts: {admitted:#?}");
    }
}

#[tokio::test]
async fn a_planned_stop_that_a_kill_of_the_platform_cuts_off_is_finished_by_the_next_start() {
    let mut platform = Platform::start(Settings::process().arg("--stop-workspaces")).await;
    let team = platform.admin().create_online(&["Ada".to_owned(), "Ben".to_owned()]).await;
    let before = agents_by_workspace(&platform.data_dir());
    // One that does not hear the signal keeps the platform waiting.
    let deaf = &before[&team[0]];
    processes::signal(deaf.pid, Signal::STOP);

    processes::signal(platform.pid(), Signal::TERM);
    eventually_blocking("the agent is told to stop", ONLINE_LIMIT, || {
        if is_told_to_stop(deaf.pid) { Ok(()) } else { Err("no SIGTERM is pending") }
    });
    platform.kill();
    platform.launch();
    platform.wait_ready().await;

    let admin = platform.admin();
    for id in &team {
        admin.wait_status(id, "online").await;
        let facts = admin.log(Some(id), 0).await.expect("the log answers");
        assert_eq!(deaths(&facts), Vec::<String>::new());
    }
    let all = admin.log(None, 0).await.expect("the log answers");
    let place = |tag: &str| {
        all.iter().rposition(|fact| fact.tag == tag && fact.line["workspace"] == team[0].as_str())
    };
    let started = all.iter().rposition(|fact| fact.tag == "fleet.platform_started.v1");
    assert!(
        place("workspace.stop_requested.v1") < started,
        "the stop was asked for before the kill: {all:#?}"
    );
    let done = place("workspace.instance_stopped.v1");
    // Unless its next generation was quicker, which ends what is left of it too.
    assert!(done.is_none() || done > started, "and not done before it: {all:#?}");
    let after = agents_by_workspace(&platform.data_dir());
    assert_eq!(after.len(), team.len(), "one of each: {after:#?}");
    assert_ne!(after[&team[0]], before[&team[0]]);
}

#[tokio::test]
async fn after_a_power_cut_everything_desired_starts_again_through_admission() {
    let mut platform = Platform::start(Settings::process()).await;
    let names = ["Ada", "Ben", "Cleo"].map(ToOwned::to_owned);
    let team = platform.admin().create_online(&names).await;
    let paused = team[2].clone();
    platform
        .admin()
        .post(&format!("/workspaces/{paused}/pause"), &serde_json::json!({}))
        .await
        .unwrap()
        .expect(200);
    let before = agents_by_workspace(&platform.data_dir());

    platform.kill();
    end_agents(platform.home());
    platform.launch();
    platform.wait_ready().await;

    let admin = platform.admin();
    for (id, name) in team.iter().zip(&names).take(2) {
        eventually(&format!("{name} runs again"), ONLINE_LIMIT, async || {
            match agents_by_workspace(&platform.data_dir()).get(id) {
                Some(now) if before.get(id) != Some(now) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        admin.wait_status(id, "online").await;
        assert_eq!(admin.ask(id, "again").await, format!("echo {name}: again"));
        let facts = admin.log(Some(id), 0).await.expect("the log answers");
        assert!(facts.iter().any(|fact| fact.tag == "fleet.restart_admitted.v1"), "{name}: {facts:#?}");
    }
    assert!(!agents_by_workspace(&platform.data_dir()).contains_key(&paused), "what was paused stays paused");
}

#[tokio::test]
async fn a_process_that_got_the_id_of_a_dead_agent_is_never_adopted() {
    let mut platform = Platform::start(Settings::process()).await;
    let id = platform.admin().create_online(&["Ada".to_owned()]).await.remove(0);
    let before = agents_by_workspace(&platform.data_dir())[&id].clone();

    platform.kill();
    end_agents(platform.home());
    let mut stranger = process_with_id(before.pid);
    platform.launch();
    platform.wait_ready().await;

    let admin = platform.admin();
    eventually("another process runs", ONLINE_LIMIT, async || {
        agents_by_workspace(&platform.data_dir()).get(&id).cloned().ok_or("none")
    })
    .await;
    admin.wait_status(&id, "online").await;
    assert_eq!(admin.ask(&id, "again").await, "echo Ada: again");
    let untouched = stranger.try_wait().expect("a child can be waited for").is_none();
    processes::signal(before.pid, Signal::KILL);
    stranger.wait().expect("a killed child ends");
    assert!(untouched, "somebody else's process was stopped");
}

/// Whether SIGTERM waits for a process that does not take it.
fn is_told_to_stop(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
    let pending = pending.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    pending & (1 << (Signal::TERM.as_raw() - 1)) != 0
}

/// A process of somebody else with exactly this id. Needs root: the kernel is told which id comes next.
fn process_with_id(pid: i32) -> Child {
    eventually_blocking(&format!("a process gets the id {pid}"), ONLINE_LIMIT, || {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string())
            .map_err(|error| format!("the next process id can't be chosen (root can): {error}"))?;
        let mut child = Command::new("sleep").arg("600").spawn().map_err(|error| error.to_string())?;
        if child.id() == pid.unsigned_abs() {
            return Ok(child);
        }
        // Somebody else started a process in between.
        let other = child.id();
        child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
        Err(format!("the last one got {other}"))
    })
}
