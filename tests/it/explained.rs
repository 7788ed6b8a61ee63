//! Why an agent was restarted is explained in one sentence and in all of its facts, by its server and, when that is down, from
//! the log alone, which stays as it is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::support::eventually::eventually;
use super::support::platform::{ONLINE_LIMIT, Platform, Settings};

const WHY: &str = "Ada died (exit status 137 (SIGKILL)), was restarted, and was back online as generation 2";

#[tokio::test]
async fn a_killed_agent_is_explained_with_and_without_its_server() {
    let mut platform = Platform::start(Settings::process()).await;
    let admin = platform.admin();
    let ids = admin.create_online(&["Ada".to_owned(), "Bob".to_owned()]).await;
    platform.kill_workspace(&ids[0]);
    eventually("the log says that it is online again", ONLINE_LIMIT, async || {
        let facts = admin.log(Some(&ids[0]), 0).await?;
        let online = facts.iter().filter(|fact| fact.tag == "workspace.came_online.v1").count();
        let settled = facts.iter().any(|fact| fact.tag == "fleet.restart_settled.v1");
        if online == 2 && settled {
            Ok(())
        } else {
            Err(format!("{online} times online, settled: {settled}"))
        }
    })
    .await;
    let head = admin.log(None, 0).await.expect("the log answers").last().map_or(0, |fact| fact.position);
    let at = head.to_string();

    let told = said(&platform.cli(&["explain", "Ada", "--at", &at]));
    assert!(told.starts_with(WHY), "{told}");
    for part in [
        "evidence   proof of death from exit",
        "admission  admitted (it died): 3.0 tokens",
        "outcome    online",
    ] {
        assert!(told.contains(part), "no `{part}` in\n{told}");
    }
    let well = said(&platform.cli(&["explain", "Bob"]));
    assert!(well.starts_with("Bob is well: nothing speaks against it"), "{well}");
    let explained = json(&platform.cli(&["explain", "Ada", "--at", &at, "--json"]));
    let page = ["timeline", "--since", "1", "--until", &at];
    let timeline = said(&platform.cli(&page));
    assert!(timeline.contains("Ada               a restart is asked for: it died"), "{timeline}");

    // Its server is gone, as after a power cut: the same answers come from a copy.
    platform.kill();
    let log = platform.data_dir().join("events");
    let before = contents(&log);
    let output = platform.cli_without_url(&["explain", "Ada", "--at", &at, "--json"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("reading a copy"), "{output:?}");
    assert_eq!(json(&output), explained);
    assert_eq!(said(&platform.cli_without_url(&page)), timeline);
    let markdown = said(&platform.cli_without_url(&["explain", "Ada", "--markdown"]));
    assert!(markdown.starts_with(&format!("# Ada\n\n{WHY}")), "{markdown}");
    let admission = explained["steps"].as_array().expect("steps").iter();
    let admission =
        admission.filter(|step| step["word"] == "restart_admitted").map(|step| &step["id"]).next();
    let id = admission.and_then(Value::as_str).expect("an admission");
    let from = said(&platform.cli_without_url(&["explain", "--event", id]));
    assert!(from.starts_with(WHY), "{from}");
    let nobody = platform.cli_without_url(&["explain", "Eve"]);
    assert_eq!(nobody.status.code(), Some(3), "{nobody:?}");
    assert!(contents(&log) == before, "the log changed by being looked at");

    // The run that was cut off is a gap in the next one's timeline.
    platform.launch();
    platform.wait_ready().await;
    let after = said(&platform.cli(&["timeline", "--since", &at]));
    assert!(after.contains("the platform was gone without a word"), "{after}");
}

fn said(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.contains('\x1b'), "colour without a terminal");
    text
}

fn json(output: &std::process::Output) -> Value {
    serde_json::from_str(&said(output)).expect("JSON")
}

fn contents(of: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(of).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).expect("a file"));
        }
    }
    found
}
