//! The flight recorder on a real engine that falls silent: what observers saw before the brake engaged is in the log, and is
//! shown with the server and without it.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::support::docker::{SOCKET, ensure_engine};
use super::support::eventually::eventually;
use super::support::fault_proxy::{Fault, FaultProxy};
use super::support::platform::{Platform, Settings};

/// Two lists that time out, and a good deal of slack for a loaded machine.
const BRAKED_LIMIT: Duration = Duration::from_secs(60);

fn said(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// R10, R61: what made the observer unsure can be looked at afterwards, answer by answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_falls_silent_leaves_a_flight_in_which_its_last_answers_can_be_read() {
    ensure_engine().await;
    let proxy = FaultProxy::start(Path::new(SOCKET));
    let numbers = "[supervision]\nlist_every = \"1s\"\nobserve_timeout = \"500ms\"\n";
    let settings = Settings::docker().env("DOCKER_HOST", proxy.host()).config(numbers);
    let mut platform = Platform::start(settings).await;
    let admin = platform.admin();
    let names: Vec<String> = (0..3).map(|n| format!("w{n}")).collect();
    let ids = admin.create_online(&names).await;
    let lists = proxy.count("/containers/json");
    eventually("a list that was asked for later has come back", BRAKED_LIMIT, async || {
        let more = proxy.count("/containers/json") - lists;
        if more >= 3 { Ok(()) } else { Err(format!("{more} of 3")) }
    })
    .await;
    proxy.fault("/containers/json", Fault::BlackHole);

    let incident = eventually("the incident has a flight", BRAKED_LIMIT, async || {
        let known: Value = admin.get("/incidents").await.map_err(|error| error.to_string())?.json();
        let newest = &known["incidents"][0];
        if newest["flights"][0]["recorded"].is_object() { Ok(newest.clone()) } else { Err(known.to_string()) }
    })
    .await;
    let id = incident["id"].as_str().expect("an id");
    let flight = &incident["flights"][0];
    let counts = &flight["recorded"];
    assert_eq!(flight["cell"], "docker");
    assert!(counts["lists"]["failed"].as_u64() >= Some(2), "{flight}");
    assert!(counts["lists"]["answered"].as_u64() > counts["lists"]["failed"].as_u64(), "{flight}");
    assert!(counts["calls"]["answered"].as_u64() >= Some(3), "its starts are in it: {flight}");
    assert!(counts["beats"].as_u64() >= Some(1), "{flight}");

    let served = admin.get(&format!("/incidents/{id}/flight")).await.unwrap();
    assert_eq!(served.headers["content-type"], "application/x-ndjson");
    let seen = lines(&served.text);
    assert_eq!(Some(seen.len() as u64), counts["observations"].as_u64());
    let failed = |line: &&Value| line["what"] == "list_failed";
    for line in seen.iter().filter(failed) {
        assert_eq!(line["code"], "timeout", "{line}");
        assert!(line["took_us"].as_u64() >= Some(500_000), "{line}");
    }
    let began = seen.iter().position(|line| line["what"] == "list_failed").expect("one failed");
    let shown = |id: &String| {
        let runs = |shown: &Value| shown["workspace"] == **id && shown["state"] == "running";
        let mut listed = seen[..began].iter().filter(|line| line["what"] == "listed");
        listed.any(|line| line["changed"].as_array().is_some_and(|changed| changed.iter().any(runs)))
    };
    assert!(ids.iter().all(shown), "the lists before showed all of them running: {}", served.text);

    let notable = said(&platform.cli(&["incidents", "flight", "--notable"]));
    assert!(notable.contains("no list: timeout after"), "{notable}");
    assert!(notable.contains("w0 generation 1 runs") && !notable.contains("asked for"), "{notable}");
    let told = said(&platform.cli(&["incidents", "show", id]));
    assert!(told.contains("observed before") && told.contains("lists, the slowest"), "{told}");
    let none = platform.cli(&["incidents", "flight", id, "--position", "1"]);
    assert_eq!(none.status.code(), Some(3), "{none:?}");

    platform.kill();
    let copied = platform.cli_without_url(&["incidents", "flight", id, "--json"]);
    assert!(String::from_utf8_lossy(&copied.stderr).contains("reading a copy"), "{copied:?}");
    assert_eq!(said(&copied), served.text);
    let draft = said(&platform.cli_without_url(&["incidents", "show", id, "--markdown"]));
    assert!(draft.contains("## What was observed before") && draft.contains("--position"), "{draft}");
}
