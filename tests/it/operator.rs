//! A person's hand on restarts: what is held stays down until it is released, and every decision names its policy.

use serde_json::Value;

use super::support::client::{Client, Fact};
use super::support::eventually::eventually;
use super::support::platform::{ONLINE_LIMIT, Platform, Settings};
use super::support::receiver::receiver;

/// A command's standard output, of a command that must do what it was told.
fn done(platform: &Platform, args: &[&str]) -> String {
    let output = platform.cli(args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{args:?}: {} {}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn json(platform: &Platform, args: &[&str]) -> Value {
    serde_json::from_str(&done(platform, args)).expect("the command prints JSON")
}

fn find<'a>(facts: &'a [Fact], tag: &str) -> Option<&'a Fact> {
    facts.iter().find(|fact| fact.tag == tag)
}

/// Waits until the roster shows that it is held.
async fn is_held(admin: &Client, id: &str) {
    eventually("it is held", ONLINE_LIMIT, async || {
        let row = admin.row(id).await?;
        if row["supervision"]["state"] == "held" { Ok(()) } else { Err(row["supervision"].to_string()) }
    })
    .await;
}

#[tokio::test]
async fn what_a_person_holds_stays_down_until_it_is_released() {
    let platform = Platform::start(Settings::process()).await;
    let admin = platform.admin();
    let id = admin.create_online(&["Ada".to_owned()]).await.remove(0);
    done(&platform, &["hold", "Ada", "--reason", "under investigation", "--for", "30m"]);

    platform.kill_workspace(&id);

    let deferred = eventually("the restart waits for the hold", ONLINE_LIMIT, async || {
        let facts = admin.log(Some(&id), 0).await?;
        let deferred = find(&facts, "fleet.restart_deferred.v1").cloned();
        deferred.ok_or_else(|| facts.iter().map(|fact| &*fact.tag).collect::<Vec<_>>().join(" "))
    })
    .await;
    assert_eq!(deferred.get("rule"), "hold");
    let facts = admin.log(Some(&id), 0).await.expect("the log answers");
    assert!(find(&facts, "workspace.restart_started.v1").is_none(), "{facts:#?}");
    assert!(!platform.running().contains_key(&id), "nothing runs");
    is_held(&admin, &id).await;
    let shown = json(&platform, &["--json", "supervision", "show", "Ada"]);
    assert_eq!(
        (&shown["supervision"]["state"], &shown["supervision"]["rule"]),
        (&"held".into(), &"hold".into())
    );
    assert_eq!(shown["holds"][0]["reason"], "under investigation");
    let screen = done(&platform, &["status"]);
    for part in ["under investigation", "Ada", "held", "deferred"] {
        assert!(screen.contains(part), "no `{part}` in\n{screen}");
    }
    let refused = platform.cli(&["restart", "Ada"]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    is_held(&admin, &id).await;

    done(&platform, &["release", "Ada"]);

    admin.wait_status(&id, "online").await;
    assert_eq!(admin.ask(&id, "again").await, "echo Ada: again");
    let facts = admin.log(Some(&id), deferred.position).await.expect("the log answers");
    let admitted = find(&facts, "fleet.restart_admitted.v1").expect("the release let it through");
    assert_eq!(admitted.get("cause"), "death", "the person's refused wish did not take its place");
}

#[tokio::test]
async fn a_policy_that_a_person_sets_names_the_decisions_made_under_it() {
    let platform = Platform::start(Settings::process()).await;
    let admin = platform.admin();
    let id = admin.create_online(&["Ada".to_owned()]).await.remove(0);
    done(&platform, &["restart", "Ada", "--wait"]);
    let wrong = platform.cli(&["policy", "set", "intensity_mx=7", "--reason", "r"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(said.contains("did you mean `intensity_max`?"), "{said}");

    let set = json(&platform, &["--json", "policy", "set", "intensity_max=7", "--reason", "slow images"]);
    done(&platform, &["restart", "Ada", "--wait"]);

    let decisions = json(&platform, &["--json", "supervision", "show", "Ada"])["decisions"].clone();
    assert_eq!(decisions[0]["policy"], set["hash"]);
    assert_eq!(decisions[1]["policy"], set["from"]);
    let facts = admin.log(Some(&id), 0).await.expect("the log answers");
    let admissions: Vec<_> = facts.iter().filter(|fact| fact.tag == "fleet.restart_admitted.v1").collect();
    assert_ne!(admissions[0].line["policy"], admissions[1].line["policy"]);

    // What `show` prints is a document that changes nothing.
    let document = platform.home().join("policy.toml");
    std::fs::write(&document, done(&platform, &["policy", "show"])).expect("the file is written");
    let path = document.display().to_string();
    let same = json(&platform, &["--json", "policy", "set", &path, "--reason", "the same"]);
    assert_eq!(same["status"], "unchanged");
    let back = json(&platform, &["--json", "policy", "rollback", "--reason", "enough"]);
    assert_eq!(back["hash"], set["from"]);
}

#[tokio::test]
async fn a_crash_loop_calls_somebody_and_a_person_ends_its_quarantine() {
    let (url, heard) = receiver().await;
    let numbers = "[supervision]\nintensity_max = 1\nbackoff_base = \"0s\"\nprobation = \"1s\"\n";
    let settings = Settings::process().config(numbers).env("COVALENCE_ALARM_WEBHOOK", &url);
    let platform = Platform::start(settings).await;
    let admin = platform.admin();
    let id = admin.create_online(&["Ada".to_owned()]).await.remove(0);
    let first = platform.running()[&id].clone();
    platform.kill_workspace(&id);
    eventually("it is restarted once", ONLINE_LIMIT, async || {
        let now = platform.running().get(&id).cloned();
        if now.as_ref().is_some_and(|now| *now != first) { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    admin.wait_status(&id, "online").await;
    platform.kill_workspace(&id);

    admin.wait_status(&id, "failed").await;
    let told = |resolved: bool| {
        let heard = heard.lock().unwrap();
        let found =
            heard.iter().find(|notice| notice["kind"] == "crash_loop" && notice["resolved"] == resolved);
        found.cloned().ok_or_else(|| format!("{heard:?}"))
    };
    let notice = eventually("somebody is called", ONLINE_LIMIT, async || told(false)).await;
    assert_eq!(notice["workspace"], serde_json::json!({"id": id, "name": "Ada"}));
    let fleet = json(&platform, &["--json", "status"])["supervision"].clone();
    assert_eq!(fleet["quarantined"][0]["workspace"]["name"], "Ada");
    assert_eq!(fleet["alarms"][0]["kind"], "crash_loop");

    done(&platform, &["release", "Ada"]);

    admin.wait_status(&id, "online").await;
    assert_eq!(admin.ask(&id, "again").await, "echo Ada: again");
    eventually("its end is told", ONLINE_LIMIT, async || told(true)).await;
    let fleet = json(&platform, &["--json", "status"])["supervision"].clone();
    assert_eq!((&fleet["quarantined"], &fleet["alarms"]), (&serde_json::json!([]), &serde_json::json!([])));
}
