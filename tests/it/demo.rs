//! What a new user sees first: `covalence serve --demo`.

use rustix::process::Signal;

use super::support::eventually::{eventually, eventually_blocking};
use super::support::platform::{ONLINE_LIMIT, Platform, Settings};
use super::support::processes::{self, agents_by_workspace};

/// The demo's team.
const TEAM: usize = 5;

#[tokio::test]
async fn the_demo_brings_a_team_online_says_what_to_try_and_stops_it_on_ctrl_c() {
    let mut platform = Platform::start(Settings::default().arg("--demo")).await;
    let admin = platform.admin();

    let rows = eventually("the team is online", ONLINE_LIMIT, async || {
        let rows = admin.get("/workspaces").await.map_err(|error| error.to_string())?.json();
        let rows = rows.as_array().cloned().unwrap_or_default();
        let online = rows.iter().filter(|row| row["status"] == "online").count();
        if online == TEAM { Ok(rows) } else { Err(format!("{online} of {} online", rows.len())) }
    })
    .await;
    let roots = rows.iter().filter(|row| row["parent_id"].is_null()).count();
    assert!((1..TEAM).contains(&roots), "a hierarchy, not a heap: {roots} of {TEAM} have no parent");
    eventually_blocking("it says what to try next", ONLINE_LIMIT, || {
        let said = platform.stderr();
        if said.contains("covalence send") && said.contains("curl") { Ok(()) } else { Err(said) }
    });

    processes::signal(platform.pid(), Signal::INT);

    eventually_blocking("Ctrl-C ends the demo", ONLINE_LIMIT, || platform.ended().ok_or("it still runs"));
    let left = agents_by_workspace(&platform.data_dir());
    assert!(left.is_empty(), "Ctrl-C of the demo stops its workspaces: {left:?}");
}

#[tokio::test]
async fn the_demo_started_twice_on_the_same_directory_is_the_same_team() {
    let mut platform = Platform::start(Settings::default().arg("--demo")).await;
    let five_rows = async |platform: &Platform| {
        let admin = platform.admin();
        eventually("the team is online", ONLINE_LIMIT, async || {
            let rows = admin.get("/workspaces").await.map_err(|error| error.to_string())?.json();
            let mut ids: Vec<String> = rows
                .as_array()
                .into_iter()
                .flatten()
                .filter(|row| row["status"] == "online")
                .filter_map(|row| row["id"].as_str().map(ToOwned::to_owned))
                .collect();
            ids.sort();
            if ids.len() == TEAM { Ok(ids) } else { Err(rows.to_string()) }
        })
        .await
    };
    let before = five_rows(&platform).await;
    platform.terminate();
    platform.launch();
    platform.wait_ready().await;
    assert_eq!(five_rows(&platform).await, before);
    for id in before {
        let facts = platform.admin().log(Some(&id), 0).await.expect("the log answers");
        let died = facts.iter().find(|fact| fact.get("cause") == "death");
        assert!(died.is_none(), "the end of the demo counts as a crash: {died:?}");
    }
}
