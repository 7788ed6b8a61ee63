//! What holds at the end of every story's server: its read side, folded anew from the log, answers the same, byte for byte, and
//! so does the past, with snapshots and without.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::Client;

/// Reads whose answers depend on something besides the facts. All others of the API's document are compared.
const NOT_OF_THE_LOG_ALONE: [(&str, &str); 17] = [
    ("/health", "the server's own life"),
    ("/ready", "the server's own life"),
    ("/metrics", "counts what this run did"),
    ("/admin/liveness", "ages of the server's own loops"),
    ("/admin/projections", "says that they were rebuilt"),
    ("/admin/supervision", "has the time of the answer; compared as of that time below"),
    ("/admin/strangers", "the engine is asked"),
    ("/admin/workspaces/{id}/logs", "the agent's output"),
    ("/admin/workspaces/{id}/test-token", "makes a token, which is recorded"),
    ("/admin/log/verify", "reads the store, and no projection"),
    ("/admin/log/segments", "files beside the log"),
    ("/admin/log/segments/{name}", "files beside the log"),
    ("/admin/log/checkpoints", "files beside the log"),
    ("/ws", "what happens from now on"),
    ("/workspaces/{id}/events/stream", "what happens from now on, without an end"),
    ("/admin/subscriptions", "kept beside the log"),
    ("/admin/log/retention", "the server's own runs, and files of the log"),
];

/// Workspaces that the reads of one workspace are compared for.
const WORKSPACES_MAX: usize = 4;
/// How long a moment is waited for in which nothing is recorded. Some stories never rest; their states are compared by hash.
const CALM_LIMIT: Duration = Duration::from_secs(5);
/// A rebuild of a story's log takes milliseconds.
const REBUILD_LIMIT: Duration = Duration::from_secs(20);

/// Status and body of each read, by its path.
pub(crate) type Answers = BTreeMap<String, (u16, String)>;

/// What the server answers now to every read that is of the log alone.
pub(crate) async fn answers(admin: &Client) -> Answers {
    let head = head(admin).await.expect("the platform is ready");
    let paths = reads(admin).await.expect("the platform answers");
    all(admin, &paths, head, false).await.expect("the platform answers")
}

/// Compares, if the server answers as its admin. Panics where anything differs.
pub(super) async fn check(admin: &Client) {
    let Some(head) = head(admin).await else { return };
    let Ok(paths) = reads(admin).await else { return };
    let give_up = Instant::now() + CALM_LIMIT;
    let mut at = head;
    loop {
        let (Some(live), Some(past)) =
            (all(admin, &paths, at, false).await, all(admin, &paths, at, true).await)
        else {
            return;
        };
        let fleet = fleet(admin).await;
        rebuild(admin).await;
        let (Some(anew), Some(now)) = (all(admin, &paths, at, false).await, self::head(admin).await) else {
            return;
        };
        if now == at {
            differ("folded anew", &live, &anew);
            differ("as of the log's end", &live, &past);
            if let Some((live, past)) = fleet {
                assert_eq!(live, past, "`/admin/supervision` as of its own time");
            }
            return;
        }
        if Instant::now() > give_up {
            eprintln!("the log never rested: only hashes were compared");
            return;
        }
        at = now;
    }
}

fn differ(what: &str, live: &Answers, other: &Answers) {
    for (path, answer) in other {
        assert_eq!(live.get(path), Some(answer), "`{path}` {what} is not what was served");
    }
}

async fn head(admin: &Client) -> Option<u64> {
    let ready = admin.get("/ready").await.ok().filter(|reply| reply.status == 200)?.json();
    let projections = ready["projections"].as_array()?;
    let caught_up = projections.iter().all(|one| one["checkpoint"] == ready["head"]);
    if caught_up { ready["head"].as_u64() } else { Some(0) }
}

/// Every read of the API's document that is of the log alone, with ids that exist; and whether it knows the past.
async fn reads(admin: &Client) -> Result<Vec<(String, bool)>, reqwest::Error> {
    let document = admin.get("/openapi.json").await?.json();
    let rows = admin.get("/workspaces").await?.json();
    let ids: Vec<String> = rows
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|row| row["id"].as_str().map(str::to_owned))
        .take(WORKSPACES_MAX)
        .collect();
    let mut reads = Vec::new();
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        let excluded = NOT_OF_THE_LOG_ALONE.iter().any(|(excluded, _)| excluded == path);
        if excluded || methods["get"].is_null() {
            continue;
        }
        let parameters = methods["get"]["parameters"].as_array().into_iter().flatten();
        let knows_the_past = parameters.clone().any(|one| one["name"] == "as_of");
        match path.split_once('{') {
            None => reads.push((path.clone(), knows_the_past)),
            Some((before, rest)) => {
                let (parameter, after) = rest.split_once('}').expect("a parameter ends");
                // What is named by anything else than a workspace is compared through the list of its kind.
                if matches!(parameter, "id" | "workspaceId") {
                    reads.extend(ids.iter().map(|id| (format!("{before}{id}{after}"), knows_the_past)));
                }
            }
        }
    }
    assert!(
        reads.iter().filter(|(_, past)| *past).count() >= 4,
        "the document has lost its reads: {reads:?}"
    );
    Ok(reads)
}

/// The answers at a position; `None` once the server is gone.
async fn all(admin: &Client, reads: &[(String, bool)], head: u64, past: bool) -> Option<Answers> {
    let mut answers = Answers::new();
    for (path, knows_the_past) in reads {
        // The operator may ask for a workspace's past state, and only it itself for the present one.
        if past && (!knows_the_past || path.ends_with("/state")) {
            continue;
        }
        let query = match path.as_str() {
            _ if past => format!("?as_of={head}"),
            "/admin/explain" => format!("?event={head}"),
            "/admin/timeline" => format!("?until={head}"),
            "/incidents/span" => format!("?since=1&until={head}"),
            path if path.ends_with("/explain") => format!("?at={head}"),
            _ => String::new(),
        };
        let caller = path.strip_prefix("/registry/discover/").unwrap_or_default();
        let headers: &[(&str, &str)] = if caller.is_empty() { &[] } else { &[("x-workspace-id", caller)] };
        let reply = admin.send(reqwest::Method::GET, &format!("{path}{query}"), None, headers).await.ok()?;
        let text = if reply.status < 400 { reply.text } else { without_request(&reply.json()) };
        answers.insert(path.clone(), (reply.status, text));
    }
    Some(answers)
}

/// A refusal names the request, which is another one each time.
fn without_request(refusal: &Value) -> String {
    let mut refusal = refusal.clone();
    if let Some(members) = refusal.as_object_mut() {
        members.remove("request_id");
    }
    refusal.to_string()
}

/// The fleet's supervision now, and as of the time that this answer is of.
async fn fleet(admin: &Client) -> Option<(String, String)> {
    let live = admin.get("/admin/supervision").await.ok().filter(|reply| reply.status == 200)?;
    let at = live.json()["at"].as_str()?.replace('+', "%2B");
    let past = admin.get(&format!("/admin/supervision?as_of={at}")).await.ok()?;
    Some((live.text, past.text))
}

/// Folds every projection anew. Each must agree, whatever happens meanwhile.
async fn rebuild(admin: &Client) {
    let Ok(begun) = admin.post("/admin/projections/rebuild", &json!({"all": true})).await else { return };
    assert!(matches!(begun.status, 202 | 409), "{}", begun.text);
    let give_up = Instant::now() + REBUILD_LIMIT;
    loop {
        let Ok(reply) = admin.get("/admin/projections?hash=false").await else { return };
        let projections = reply.json();
        let running = |one: &Value| one["rebuild"]["outcome"] == "running";
        let each = projections.as_array().expect("a list");
        if !each.iter().any(running) {
            for one in each {
                assert_eq!(one["rebuild"]["outcome"], "agreed", "{one}");
            }
            return;
        }
        assert!(Instant::now() < give_up, "{projections}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
