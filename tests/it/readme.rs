//! What the README promises a new user, typed exactly as it stands there.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::support::eventually::eventually;
use super::support::platform::{COVALENCE, ONLINE_LIMIT, Platform, Settings};
use super::support::processes::agents_by_workspace;

/// Lines that fit on a few screens.
const LINES_MAX: usize = 200;

#[test]
fn the_readme_is_short() {
    let lines = readme().lines().count();
    assert!(lines < LINES_MAX, "{lines} lines, less than {LINES_MAX} wanted");
}

#[test]
fn its_two_first_commands_exist() {
    let text = readme();
    let block = text.split("```").nth(1).expect("a first block");
    let commands: Vec<&str> = block.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(commands, ["scripts/demo", "scripts/test"]);
    for command in commands {
        assert!(root().join(command).is_file(), "{command}");
    }
}

#[tokio::test]
async fn everything_to_try_works_as_it_is_written() {
    let platform = Platform::start(Settings::default().arg("--demo")).await;
    // The README works in the clone, where the programs are in target/debug.
    let programs = Path::new(COVALENCE).parent().expect("a folder");
    fs::create_dir(platform.home().join("target")).unwrap();
    std::os::unix::fs::symlink(programs, platform.home().join("target/debug")).unwrap();
    let mut printed = String::new();
    for block in readme().split("```sh try\n").skip(1) {
        wait_for_team(&platform).await;
        let block = block.split("```").next().expect("an end");
        printed += &run(&platform, block);
    }

    assert!(printed.contains("echo lead: hello"), "{printed}");
    for word in
        ["lead died", "was restarted", "evidence", "verdict", "request", "admission", "start", "outcome"]
    {
        assert!(printed.contains(word), "no {word} in\n{printed}");
    }
}

#[tokio::test]
async fn the_way_to_a_remote_agent_works_as_it_is_written() {
    let platform = Platform::start(Settings::default().arg("--demo")).await;
    let programs = Path::new(COVALENCE).parent().expect("a folder");
    fs::create_dir(platform.home().join("target")).unwrap();
    std::os::unix::fs::symlink(programs, platform.home().join("target/debug")).unwrap();
    wait_for_team(&platform).await;
    let printed = run(&platform, &one_terminal("docs/remote-agents.md"));
    assert!(printed.contains("Agent message: HELLO"), "{printed}");
    assert!(printed.lines().any(|line| line.contains("DIG")), "{printed}");
}

#[tokio::test]
async fn the_ten_commonest_tasks_work_as_they_are_written() {
    let platform = Platform::start(Settings::process()).await;
    let printed = run(&platform, &one_terminal("docs/api.md"));
    for wanted in
        ["Ada\tonline\techo", "echo Ada: hello", "API_KEY", "registry/register", "echo Ada: dig", ": ping"]
    {
        assert!(printed.contains(wanted), "no {wanted} in\n{printed}");
    }
    let last = printed.lines().last().unwrap_or_default();
    assert!(last.contains("\"status\":\"removed\""), "{last}");
}

/// The blocks to try of a page, as one goes through them: in one terminal, and what they started goes with it whatever happens.
fn one_terminal(page: &str) -> String {
    let text = fs::read_to_string(root().join(page)).expect("it is there");
    let blocks = text.split("```sh try\n").skip(1).map(|block| block.split("```").next().expect("an end"));
    std::iter::once("trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n").chain(blocks).collect()
}

/// Waits until all five are online, and as many agents run.
async fn wait_for_team(platform: &Platform) {
    let anybody = platform.anonymous();
    eventually("the team is online", ONLINE_LIMIT, async || {
        let rows = anybody.get("/workspaces").await.map_err(|error| error.to_string())?.json();
        let online = rows.as_array().into_iter().flatten().filter(|row| row["status"] == "online").count();
        let running = agents_by_workspace(&platform.data_dir()).len();
        if (online, running) == (5, 5) { Ok(()) } else { Err(format!("{running} run: {rows}")) }
    })
    .await;
}

/// Types a block into a shell, in the platform's directory; answers what was printed.
fn run(platform: &Platform, block: &str) -> String {
    // A port of our own, so that tests don't meet.
    let block = block.replace("127.0.0.1:8080", &format!("127.0.0.1:{}", platform.port()));
    // Each block is typed into the terminal in which the one before it was.
    let script = format!("export PATH=\"$PWD/target/debug:$PATH\"\n{block}");
    let shell = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(platform.home())
        .env("PORT", platform.port().to_string())
        .stdin(Stdio::null())
        .output()
        .expect("bash runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&shell.stdout), String::from_utf8_lossy(&shell.stderr));
    assert!(shell.status.success(), "{script}\n{stdout}\n{stderr}");
    stdout.into_owned()
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).expect("README.md is there")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
