//! Who may call what: every route of the document with every kind of credential, against the table in `docs/authorisation.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use actix_web::http::Method;
use serde_json::{Value, json};

use super::platform::{ADMIN, Ask, Platform};

/// The table's columns, in its order.
const COLUMNS: [&str; 8] = ["none", "wrong", "other's", "own", "org", "admin", "removed", "dev"];

/// The routes that answer whoever asks, in an installation without any settings; all that are in no document at the end.
const OPEN: &[&str] = &[
    "GET /health",
    "HEAD /health",
    "GET /metrics",
    "GET /ready",
    "POST /registry/check-access",
    "GET /workspaces/{id}",
    "GET /workspaces/{id}/.well-known/agent-card.json",
    "GET /workspaces/{id}/.well-known/agent.json",
    "GET /workspaces/{id}/agent/card",
    "GET /openapi.json",
    "GET /docs",
    "GET /docs/index.html",
];

/// Routes that are in no document: it, and its page.
const UNLISTED: &[&str] = &["GET /openapi.json", "GET /docs", "GET /docs/index.html"];

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// `METHOD /path` to the row's cells.
fn table() -> BTreeMap<String, Vec<String>> {
    let text = read("docs/authorisation.md");
    let head = format!("| route | {} |", COLUMNS.join(" | "));
    let (_, rows) = text.split_once(&head).expect("the table with these columns");
    let rows =
        rows.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | "));
    rows.map(|(route, cells)| {
        let cells: Vec<String> = cells.split(" | ").map(str::to_owned).collect();
        assert_eq!(cells.len(), COLUMNS.len(), "{route}");
        (route.to_owned(), cells)
    })
    .collect()
}

/// Every `METHOD /path` of the document.
fn documented() -> BTreeSet<String> {
    let document: Value = serde_json::from_str(&read("docs/openapi.json")).unwrap();
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect()
}

/// The workspaces that one route is asked about, fresh: what some routes do is not to be undone.
struct Cast {
    own: (String, String),
    other: (String, String),
    removed: (String, String),
}

impl Cast {
    /// A name that is taken gets a number, but not without end: hence one of its own for each.
    async fn new(platform: &Platform, number: usize) -> Self {
        let own = platform.external(&format!("own {number}"), None).await;
        let other = platform.external(&format!("other {number}"), None).await;
        let removed = platform.external(&format!("removed {number}"), None).await;
        let remove = platform.ask(Method::DELETE, &format!("/workspaces/{}?confirm=true", removed.0));
        assert_eq!(remove.bearer(ADMIN).send().await.status, 200);
        Self { own, other, removed }
    }

    /// A request for a route about `about`, complete as far as a gate looks at it.
    fn ask(&self, platform: &Platform, route: &str, about: &str) -> Ask {
        let (method, path) = route.split_once(' ').unwrap();
        let target = if path.starts_with("/registry/discover/") { self.other.0.as_str() } else { about };
        let path = path
            .replace("{id}", target)
            .replace("{workspaceId}", about)
            .replace("{token}", about)
            .replace("{delegation}", about)
            .replace("{cell}", "process")
            .replace("{engine}", "process");
        let path = path.replace(['{', '}'], "");
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let has_body = method != Method::GET && method != Method::HEAD;
        let mut ask = platform.ask(method, &path);
        if path.starts_with("/registry/discover/") {
            ask = ask.header("x-workspace-id", about);
        }
        if has_body { ask.json(self.body(route, about)) } else { ask }
    }

    fn body(&self, route: &str, about: &str) -> Value {
        let card = json!({"name": "agent"});
        match route {
            "POST /registry/heartbeat" => json!({"workspace_id": about}),
            "POST /registry/update-card" => json!({"workspace_id": about, "agent_card": card}),
            "POST /registry/register" => json!({"id": about, "url": "http://8.8.8.8/", "agent_card": card}),
            // Without a target it is the bearer's own task, for the workspace in the path (contract 5.5).
            "POST /workspaces/{id}/delegate" => json!({"target_id": self.other.0, "task": "dig"}),
            _ => json!({}),
        }
    }
}

/// What a route answers to each column: `yes`, or the status of a refusal. The last column is another platform's.
async fn answers(
    installed: &Platform,
    open: &Platform,
    org: &str,
    (number, route): (usize, &str),
) -> Vec<u16> {
    let cast = Cast::new(installed, number).await;
    let own = cast.own.0.as_str();
    let mut answers = Vec::new();
    // Refusals first: what is let in may end what the others would be asked about.
    for (about, bearer) in [
        (own, None),
        (own, Some("wrong")),
        (own, Some(cast.other.1.as_str())),
        (&cast.removed.0, Some(cast.removed.1.as_str())),
        (own, Some(cast.own.1.as_str())),
        (own, Some(org)),
        (own, Some(ADMIN)),
    ] {
        let ask = cast.ask(installed, route, about);
        let ask = if let Some(bearer) = bearer { ask.bearer(bearer) } else { ask };
        answers.push(ask.open().await.status().as_u16());
    }
    let removed = answers.remove(3);
    answers.push(removed);
    let cast = Cast::new(open, number).await;
    answers.push(cast.ask(open, route, &cast.own.0).open().await.status().as_u16());
    answers
}

#[actix_web::test]
async fn every_route_takes_the_credentials_of_the_table_and_no_others() {
    let installed = Platform::tuned(|config| config.rate_limit = 1_000_000).await;
    let open = Platform::open().await;
    let minted = installed.post("/org/tokens", json!({})).bearer(ADMIN).send().await;
    let org = minted.json["auth_token"].as_str().unwrap().to_owned();
    let mut wrong = Vec::new();
    // After an emergency stop nothing is created any more: it is asked for last.
    let (last, first): (Vec<_>, Vec<_>) =
        table().into_iter().partition(|(route, _)| route == "POST /admin/emergency-stop");
    for (number, (route, cells)) in first.into_iter().chain(last).enumerate() {
        let answers = answers(&installed, &open, &org, (number, &route)).await;
        for ((column, cell), status) in COLUMNS.iter().zip(&cells).zip(answers) {
            let fits = match cell.as_str() {
                "yes" => status != 401 && status != 403,
                number => number.parse() == Ok(status),
            };
            if !fits {
                wrong.push(format!("{route}, {column}: the table says {cell}, the answer is {status}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_has_exactly_the_routes_of_the_document() {
    let (table, documented) = (table(), documented());
    let rows: BTreeSet<String> = table.into_keys().collect();
    let missing: Vec<_> = documented.difference(&rows).collect();
    let left_over: Vec<_> = rows.difference(&documented).collect();
    assert!(
        missing.is_empty() && left_over.is_empty(),
        "docs/authorisation.md lacks {missing:?} and has {left_over:?}, which are no routes"
    );
}

#[actix_web::test]
async fn exactly_these_routes_answer_without_a_credential() {
    let open = table().into_iter().filter(|(_, cells)| cells[0] == "yes").map(|(route, _)| route);
    let open: BTreeSet<String> = open.chain(UNLISTED.iter().map(|route| (*route).to_owned())).collect();
    assert_eq!(open, OPEN.iter().map(|route| (*route).to_owned()).collect());
    let platform = Platform::start().await;
    for route in UNLISTED {
        let (method, path) = route.split_once(' ').unwrap();
        let reply = platform.ask(Method::from_bytes(method.as_bytes()).unwrap(), path).send().await;
        assert!(reply.status < 400, "{route}: {reply:?}");
    }
}
