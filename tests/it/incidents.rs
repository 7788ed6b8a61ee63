//! A brake opens an incident by itself, which is explained, noted on and closed; and read again from the log alone when its
//! server is gone.

use std::path::Path;
use std::time::Duration;

use covalence_incidents::golden::Case;
use serde_json::Value;

use super::support::eventually::eventually;
use super::support::platform::{Platform, Settings};

/// A brake is released half a minute after its trigger is gone; on a loaded machine everything takes longer.
const RELEASED_LIMIT: Duration = Duration::from_secs(120);

fn said(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn json(output: &std::process::Output) -> Value {
    serde_json::from_str(&said(output)).expect("JSON")
}

#[tokio::test]
async fn a_mass_death_opens_an_incident_whose_cause_is_proposed_with_and_without_its_server() {
    let numbers =
        "[supervision]\nprobation = \"1s\"\nbucket_refill = 5\ngrace = \"0s\"\nrelease_after = \"2s\"\n";
    let mut platform = Platform::start(Settings::process().config(numbers)).await;
    let admin = platform.admin();
    let names: Vec<String> = (0..8).map(|n| format!("w{n}")).collect();
    let ids = admin.create_online(&names).await;
    for id in &ids[..5] {
        platform.kill_workspace(id);
    }
    eventually("the incident's brake is released", RELEASED_LIMIT, async || {
        let known = json(&platform.cli(&["incidents", "ls", "--json"]));
        let status = known["incidents"][0]["status"].as_str().unwrap_or("none").to_owned();
        if status == "over" { Ok(()) } else { Err(status) }
    })
    .await;
    let known = json(&platform.cli(&["incidents", "ls", "--json"]));
    assert_eq!(known["incidents"].as_array().map(Vec::len), Some(1), "{known}");
    let id = known["incidents"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(known["incidents"][0]["by"], "system");

    said(&platform.cli(&["incidents", "note", "last", "somebody ran a script"]));
    said(&platform.cli(&["incidents", "close", &id, "--comment", "the script is gone"]));
    let again = platform.cli(&["incidents", "close", &id]);
    assert_eq!(again.status.code(), Some(4), "{again:?}");
    let opened = json(&platform.cli(&["incidents", "open", "slow answers", "--workspace", "w7", "--json"]));
    assert_eq!(opened["status"], "open", "{opened}");

    let told = said(&platform.cli(&["incidents", "show", &id]));
    assert!(told.contains("mass_death process  sure: high"), "{told}");
    assert!(told.contains("exit status 137 (SIGKILL)"), "{told}");
    assert!(told.contains("somebody ran a script") && told.contains("the script is gone"), "{told}");
    let report = json(&platform.cli(&["incidents", "show", &id, "--json"]));
    assert_eq!(
        (&report["impact"]["workspaces"], &report["impact"]["of"]),
        (&5.into(), &8.into()),
        "{report}"
    );
    let brake = report["incident"]["brakes"][0]["at"].as_str().expect("a time");
    assert!(report["since"].as_str().expect("a time") < brake, "it begins with its first sign: {report}");

    let flight = said(&platform.cli(&["incidents", "flight", &id, "--json"]));
    let first = ids.iter().find(|id| flight.contains(&format!(r#""what":"exited","workspace":"{id}""#)));
    assert!(first.is_some(), "the first exits led to the brake: {flight}");

    let (with, without) = (platform.home().join("with.case"), platform.home().join("without.case"));
    said(&platform.cli(&exporting(&id, &with)));

    platform.kill();
    let copied = platform.cli_without_url(&["incidents", "show", &id, "--json"]);
    assert!(String::from_utf8_lossy(&copied.stderr).contains("reading a copy"), "{copied:?}");
    assert_eq!(json(&copied)["causes"], report["causes"]);
    assert_eq!(json(&copied)["impact"], report["impact"]);
    let draft = said(&platform.cli_without_url(&["incidents", "show", &id, "--markdown"]));
    for part in [
        "## Summary",
        "## Impact",
        "## Timeline",
        "## What was observed before",
        "## What went well",
        "## Follow-ups",
    ] {
        assert!(draft.contains(part), "no `{part}` in\n{draft}");
    }
    said(&platform.cli_without_url(&exporting(&id, &without)));
    kept((&with, &without), &report);

    let refused = platform.cli_without_url(&["incidents", "note", &id, "too late"]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no server has the log open"), "{refused:?}");
}

/// The command that keeps an incident in a file.
fn exporting<'a>(id: &'a str, to: &'a Path) -> [&'a str; 7] {
    ["incidents", "export", id, "--name", "script", "--to", to.to_str().expect("text")]
}

/// An incident that was kept with its server and without has the same case, from its first sign on.
fn kept((with, without): (&Path, &Path), report: &Value) {
    let read = |path| Case::read(&std::fs::read(path).expect("a file")).expect("a case");
    let (with, without): (Case, Case) = (read(with), read(without));
    // Shortly after its end what follows still belongs to it.
    let (decided, later) = (&with.header.expected.decisions, &without.header.expected.decisions);
    assert!(later.starts_with(decided), "{decided:#?}\n{later:#?}");
    assert_eq!(with.header.since, without.header.since);
    assert_eq!(with.header.about, report["incident"]["title"].as_str().expect("a title"));
    let brake = report["incident"]["brakes"][0]["at"].as_str().expect("a time");
    assert!(with.header.since.to_rfc3339().as_str() < brake, "from its first sign on");
    let engaged = decided.iter().filter(|one| one.kind == "brake");
    assert!(engaged.count() >= 2, "its brake, and the release: {decided:#?}");
    assert!(with.facts.iter().all(|fact| fact.meta.at <= with.header.until));
}
