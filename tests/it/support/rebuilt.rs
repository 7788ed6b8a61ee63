//! What holds at the end of every story's server: its read side, folded anew from the log, answers the same, byte for byte, and
//! so does the past, with snapshots and without.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::client::Client;

/// Reads whose answers depend on something besides the facts. All others of the API's document are compared.
const NOT_OF_THE_LOG_ALONE: [(&str, &str); 22] = [
    ("/health", "the server's own life"),
    ("/ready", "the server's own life"),
    ("/metrics", "counts what this run did"),
    ("/admin/liveness", "ages of the server's own loops"),
    ("/admin/projections", "says that they were rebuilt"),
    ("/admin/supervision", "has the time of the answer; compared as of that time below"),
    ("/admin/strangers", "the engine is asked"),
    ("/admin/workspaces/{id}/logs", "the agent's output"),
    ("/workspaces/{id}/transcript", "the agent is asked"),
    ("/workspaces/{id}/traces", "another service is asked"),
    ("/workspaces/{id}/chat/download", "the agent's files"),
    ("/admin/workspaces/{id}/test-token", "makes a token, which is recorded"),
    ("/admin/log/verify", "reads the store, and no projection"),
    ("/admin/log/segments", "files beside the log"),
    ("/admin/log/checkpoints", "files beside the log"),
    ("/ws", "what happens from now on"),
    ("/workspaces/{id}/events/stream", "what happens from now on, without an end"),
    ("/admin/subscriptions", "kept beside the log"),
    ("/admin/subscriptions/{name}", "kept beside the log"),
    ("/admin/subscriptions/{name}/parked", "kept beside the log"),
    ("/admin/subscriptions/{name}/stream", "what happens from now on, without an end"),
    ("/admin/log/retention", "the server's own runs, and files of the log"),
];

/// Requests at once: a story of a hundred workspaces has thousands of answers to compare.
const AT_ONCE: usize = 8;
/// An answer about a whole log takes milliseconds, and longer where several tests have the machine.
const READ_LIMIT: Duration = Duration::from_secs(60);
/// A read that has one turn only is asked again for so long.
const BUSY_LIMIT: Duration = Duration::from_secs(20);
/// How long a moment is waited for in which nothing is recorded, before the agents are held still, and again after that. Where
/// the log does not rest even then, states are compared by hash.
const CALM_LIMIT: Duration = Duration::from_secs(5);
/// A rebuild of a story's log takes milliseconds.
const REBUILD_LIMIT: Duration = Duration::from_secs(20);

/// The document that the reads are taken from.
const DOCUMENT: &str = include_str!("../../../docs/openapi.json");

/// A read of the API that is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Route {
    /// Its path, up to what names the one that it is about.
    before: String,
    /// Whom it is about, and the path after that; none where it is about everybody.
    about: Option<(About, String)>,
    /// Whether it takes `as_of`.
    knows_the_past: bool,
}

/// What a read of one thing is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Workspace,
    Incident,
    /// A call that waits, or waited, for a workspace.
    Queued,
}

/// Every read of the document: what is compared, or has a reason why it is not. Panics where one is neither.
fn routes(document: &Value) -> Vec<Route> {
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        let excluded = NOT_OF_THE_LOG_ALONE.iter().any(|(excluded, _)| excluded == path);
        if excluded || methods["get"].is_null() {
            continue;
        }
        let mut parameters = methods["get"]["parameters"].as_array().into_iter().flatten();
        let knows_the_past = parameters.any(|one| one["name"] == "as_of");
        let (before, about) = match path.split_once('{') {
            None => (path.clone(), None),
            Some((before, rest)) => {
                let (parameter, after) = rest.split_once('}').expect("a parameter ends");
                let (about, after) = match (before, parameter, after) {
                    ("/incidents/", "id", after) => (About::Incident, after),
                    ("/workspaces/", "id", "/a2a/queue/{queue}") => (About::Queued, ""),
                    (_, "id" | "workspaceId", after) if !after.contains('{') => (About::Workspace, after),
                    _ => panic!("`GET {path}` is not compared: say what it is about, or why it is left out"),
                };
                (before.to_owned(), Some((about, after.to_owned())))
            }
        };
        routes.push(Route { before, about, knows_the_past });
    }
    routes
}

#[test]
fn every_read_of_the_document_is_compared_or_left_out_for_a_reason() {
    let document: Value = serde_json::from_str(DOCUMENT).expect("the document is JSON");
    for (path, reason) in NOT_OF_THE_LOG_ALONE {
        let known = document["paths"][path]["get"].is_object();
        assert!(known && !reason.is_empty(), "`GET {path}` is left out, and not there");
    }
    let routes = routes(&document);
    assert!(routes.iter().filter(|route| route.knows_the_past).count() >= 10, "{routes:?}");
    for whose in [About::Workspace, About::Incident] {
        let about =
            routes.iter().filter(|route| route.about.as_ref().is_some_and(|(about, _)| *about == whose));
        assert!(about.count() >= 3, "{whose:?}: {routes:?}");
    }
    let odd = serde_json::json!({"paths": {"/teams/{team}": {"get": {}}}});
    assert!(std::panic::catch_unwind(|| self::routes(&odd)).is_err(), "what is neither goes unseen");
}

/// One request of a comparison.
#[derive(Clone, Debug)]
struct Read {
    path: String,
    knows_the_past: bool,
    /// Whether it is about everybody: it has an answer then, whatever happened.
    always: bool,
}

/// Status and body of each read, by its path.
pub(crate) type Answers = BTreeMap<String, (u16, String)>;

/// What the server answers now to every read that is of the log alone.
pub(crate) async fn answers(admin: &Client) -> Answers {
    let admin = &admin.with_limit(READ_LIMIT);
    let head = head(admin).await.expect("the platform is ready");
    let reads = reads(admin).await.expect("the platform answers");
    all(admin, &reads, head, false).await.expect("the platform answers")
}

/// Compares, if the server answers as its admin. Panics where anything differs. `still` makes agents hold still for as long as its
/// value lives: their heartbeats are recorded, too.
pub(super) async fn check<Still>(admin: &Client, still: impl FnOnce() -> Still) {
    let admin = &admin.with_limit(READ_LIMIT);
    if compared(admin).await {
        return;
    }
    let _still = still();
    if !compared(admin).await {
        eprintln!("the log never rested: only hashes were compared");
    }
}

/// Whether there was a moment of rest in which everything could be compared; also where the server does not answer any more.
async fn compared(admin: &Client) -> bool {
    let Some(head) = head(admin).await else { return true };
    let Ok(reads) = reads(admin).await else { return true };
    let give_up = Instant::now() + CALM_LIMIT;
    let mut at = head;
    loop {
        let (Some(live), Some(past)) =
            (all(admin, &reads, at, false).await, all(admin, &reads, at, true).await)
        else {
            return true;
        };
        let fleet = fleet(admin).await;
        rebuild(admin).await;
        let (Some(anew), Some(now)) = (all(admin, &reads, at, false).await, self::head(admin).await) else {
            return true;
        };
        if now == at {
            differ("folded anew", &live, &anew);
            differ("as of the log's end", &live, &past);
            if let Some((live, past)) = fleet {
                assert_eq!(live, past, "`/admin/supervision` as of its own time");
            }
            return true;
        }
        if Instant::now() > give_up {
            return false;
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

/// Every read that is compared, for each workspace that there ever was and for each incident.
async fn reads(admin: &Client) -> Result<Vec<Read>, String> {
    let document: Value = serde_json::from_str(DOCUMENT).expect("the document is JSON");
    let log = admin.log(None, 0).await?;
    let tagged = |tag: &'static str| log.iter().filter(move |fact| fact.tag == tag);
    let workspace = |line: &Value| line["workspace"].as_str().map(str::to_owned);
    let workspaces: BTreeSet<String> =
        tagged("workspace.created.v1").filter_map(|fact| workspace(&fact.line)).collect();
    let queued: BTreeSet<String> = tagged("workspace.call_queued.v1")
        .filter_map(|fact| {
            Some(format!("{}/a2a/queue/{}", workspace(&fact.line)?, fact.get("queue").as_str()?))
        })
        .collect();
    let known = admin.get("/incidents?limit=200").await.map_err(|error| error.to_string())?.json();
    // What is said of an incident that is not closed reaches up to the time of the answer.
    let known = known["incidents"].as_array().into_iter().flatten().filter(|one| one["status"] == "closed");
    let incidents: BTreeSet<String> = known.filter_map(|one| one["id"].as_str().map(str::to_owned)).collect();
    let mut reads = Vec::new();
    for Route { before, about, knows_the_past } in routes(&document) {
        let Some((about, after)) = about else {
            reads.push(Read { path: before, knows_the_past, always: true });
            continue;
        };
        let ids = match about {
            About::Workspace => &workspaces,
            About::Incident => &incidents,
            About::Queued => &queued,
        };
        let of = |id: &String| Read { path: format!("{before}{id}{after}"), knows_the_past, always: false };
        reads.extend(ids.iter().map(of));
    }
    Ok(reads)
}

/// The answers at a position; `None` once the server is gone.
async fn all(admin: &Client, reads: &[Read], head: u64, past: bool) -> Option<Answers> {
    // The operator may ask for a workspace's past state, and only it itself for the present one.
    let asked = reads.iter().filter(|read| !past || read.knows_the_past && !read.path.ends_with("/state"));
    let answers = stream::iter(asked.map(|read| async move {
        let answer = answer(admin, read, head, past).await?;
        Some((read.path.clone(), answer))
    }));
    answers.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await.into_iter().collect()
}

async fn answer(admin: &Client, read: &Read, head: u64, past: bool) -> Option<(u16, String)> {
    let path = &read.path;
    let query = match path.as_str() {
        _ if past => format!("?as_of={head}"),
        "/admin/explain" => format!("?event={head}"),
        "/admin/timeline" => format!("?until={head}"),
        "/admin/case" | "/incidents/span" => format!("?since=1&until={head}"),
        "/diff" => format!("?from=1&to={head}"),
        // As far back as it goes.
        "/replay" => format!("?from={}&to={head}&step=notable", head.saturating_sub(100_000).max(1)),
        "/admin/log" => "?limit=1000".to_owned(),
        path if path.ends_with("/explain") => format!("?at={head}"),
        _ => String::new(),
    };
    let caller = path.strip_prefix("/registry/discover/").unwrap_or_default();
    let headers: &[(&str, &str)] = if caller.is_empty() { &[] } else { &[("x-workspace-id", caller)] };
    let give_up = Instant::now() + BUSY_LIMIT;
    loop {
        let asked = admin.send(reqwest::Method::GET, &format!("{path}{query}"), None, headers).await;
        let reply = match asked {
            Ok(reply) => reply,
            Err(error) if error.is_connect() || Instant::now() >= give_up => {
                eprintln!("`{path}{query}`: {error}");
                return None;
            }
            // A connection that the server was just closing: to read once more changes nothing.
            Err(_) => continue,
        };
        // Some have one turn for everybody.
        // A connection that was made ahead of its request may have waited too long for it.
        // That nobody is to be found where a workspace is not up is an answer.
        if matches!(reply.status, 408 | 503) && caller.is_empty() && Instant::now() < give_up {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        if reply.status == 429 {
            eprintln!("the story's rate limit leaves no room for a comparison");
            return None;
        }
        assert!(!read.always || reply.status == 200, "`{path}{query}`: {} {}", reply.status, reply.text);
        let text = if reply.status < 400 { reply.text } else { without_request(&reply.json()) };
        return Some((reply.status, text));
    }
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
