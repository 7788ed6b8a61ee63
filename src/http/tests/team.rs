//! The team that a workspace's template asks for, made and taken away again (contract 1.11).

use std::path::Path;

use actix_web::http::Method;
use covalence_events::Position;
use covalence_projections::roster::Instance;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::platform::{ADMIN, PATIENCE, Platform, Reply};

fn write(root: &Path, template: &str, config: &str) {
    std::fs::create_dir_all(root.join(template)).unwrap();
    std::fs::write(root.join(template).join("config.yaml"), config).unwrap();
}

/// A platform with templates: `digger` and `carrier`, of which a team may be made.
async fn platform() -> (Platform, TempDir) {
    let templates = tempfile::tempdir().unwrap();
    write(templates.path(), "digger", "name: Digger\nruntime: command\n");
    write(templates.path(), "carrier", "name: Carrier\nruntime: levitation\n");
    let root = templates.path().to_owned();
    (Platform::tuned(|config| config.templates = Some(root)).await, templates)
}

async fn act(platform: &Platform, id: &str, act: &str) -> Reply {
    platform.ask(Method::POST, &format!("/workspaces/{id}/{act}")).bearer(ADMIN).send().await
}

async fn details(platform: &Platform, id: &str) -> Value {
    platform.get(&format!("/workspaces/{id}/details")).bearer(ADMIN).send().await.json
}

async fn names(platform: &Platform) -> Vec<String> {
    let rows = platform.get("/workspaces").bearer(ADMIN).send().await.json;
    rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

/// The newest structure event of a workspace.
async fn told(platform: &Platform, id: &str) -> (String, Value) {
    let events = platform.get(&format!("/events/{id}")).bearer(ADMIN).send().await.json;
    (events[0]["event_type"].as_str().unwrap().to_owned(), events[0]["payload"].clone())
}

/// The tags of the facts about who is there after a position: what the supervisor notes by itself is left out.
async fn facts_after(platform: &Platform, head: Position) -> Vec<&'static str> {
    let facts = platform.state.log.read_all(head.next(), 1000).await.unwrap();
    let told = [
        "workspace.created.v1",
        "workspace.removed.v1",
        "workspace.team_expanded.v1",
        "workspace.team_collapsed.v1",
    ];
    facts.iter().map(|recorded| recorded.fact.tag()).filter(|tag| told.contains(tag)).collect()
}

async fn started(platform: &Platform, id: &str) {
    let runs = |row: &covalence_projections::Row| matches!(row.instance, Instance::Running { .. });
    let found = platform.state.views.wait_for(id.parse().unwrap(), PATIENCE, runs).await;
    assert!(found.is_some(), "{id} was not started");
}

const TEAM: &str =
    "runtime: echo\nsub_workspaces:\n  - {config: digger, name: Ada, role: digs}\n  - config: carrier\n";

#[actix_web::test]
async fn a_team_is_created_and_started_as_its_template_says_and_is_told() {
    let (platform, templates) = platform().await;
    write(templates.path(), "the-lead", TEAM);
    let lead = platform.create(json!({"name": "The Lead", "runtime": "echo", "tier": 3})).await;
    let reply = act(&platform, &lead, "expand").await;
    assert_eq!((reply.status, &reply.json["status"]), (200, &json!("expanded")), "{reply:?}");
    let children = reply.json["children"].as_array().unwrap().clone();
    let ids: Vec<&str> = children.iter().map(|child| child["id"].as_str().unwrap()).collect();
    assert_eq!(children[0], json!({"id": ids[0], "name": "Ada", "role": "digs"}));
    assert_eq!(children[1], json!({"id": ids[1], "name": "carrier", "role": ""}));
    for (id, runtime) in [(ids[0], "command"), (ids[1], "echo")] {
        let row = details(&platform, id).await;
        assert_eq!(
            (&row["parent_id"], &row["tier"], &row["runtime"]),
            (&json!(lead), &json!(3), &json!(runtime)),
            "the template's runtime where it is known, else its parent's"
        );
        started(&platform, id).await;
    }
    let row = platform.state.views.roster.read().get(ids[0].parse().unwrap()).unwrap();
    assert_eq!(row.template.as_deref(), Some("digger"));
    assert_eq!(
        told(&platform, &lead).await,
        ("WORKSPACE_EXPANDED".to_owned(), json!({"children": children}))
    );
}

#[actix_web::test]
async fn a_second_expand_makes_only_who_is_missing() {
    let (platform, templates) = platform().await;
    write(templates.path(), "lead", TEAM);
    let (lead, token) = platform.external("lead", None).await;
    // Not one of the team, though he goes by a name of it.
    let (_, _) = platform.external("Ada", Some(&lead)).await;
    let expand = || platform.ask(Method::POST, &format!("/workspaces/{lead}/expand")).bearer(&token).send();
    write(templates.path(), "carrier", "runtime: echo\n");
    let first = expand().await;
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(first.json["children"][0]["name"], "Ada (2)", "a taken name gets a suffix");
    let head = platform.settled_head().await;
    assert_eq!(expand().await.json, first.json);
    assert_eq!(facts_after(&platform, head).await, [""; 0], "nothing new is no fact");

    let gone = first.json["children"][1]["id"].as_str().unwrap();
    let removed = platform.ask(Method::DELETE, &format!("/workspaces/{gone}")).bearer(ADMIN).send().await;
    assert_eq!(removed.status, 200);
    let renamed = first.json["children"][0]["id"].as_str().unwrap();
    let rename = platform.ask(Method::PATCH, &format!("/workspaces/{renamed}")).bearer(ADMIN);
    assert_eq!(rename.json(json!({"name": "Eve"})).send().await.status, 200);
    let third = expand().await;
    assert_eq!(third.json["children"][0], json!({"id": renamed, "name": "Eve", "role": "digs"}));
    assert_ne!(third.json["children"][1]["id"], json!(gone));
    assert_eq!(names(&platform).await, ["lead", "Ada", "Eve", "carrier"]);
}

#[actix_web::test]
async fn each_reason_why_there_is_no_team_has_its_own_answer() {
    let plain = Platform::start().await;
    let alone = plain.create(json!({"name": "lead", "runtime": "echo"})).await;
    let unset = act(&plain, &alone, "expand").await;
    assert_eq!(unset.says(), (400, "no config found for workspace"));
    assert!(unset.json["detail"].as_str().unwrap().contains("CONFIGS_DIR"), "{unset:?}");

    let (platform, templates) = platform().await;
    for act_of in ["expand", "collapse"] {
        let unknown = act(&platform, "f0000000-0000-4000-8000-000000000000", act_of).await;
        assert_eq!(unknown.says(), (404, "workspace not found"));
        let (gone, _) = platform.external("gone", None).await;
        let remove = platform.ask(Method::DELETE, &format!("/workspaces/{gone}")).bearer(ADMIN);
        assert_eq!(remove.send().await.status, 200);
        assert_eq!(act(&platform, &gone, act_of).await.says(), (404, "workspace not found"));
        assert_eq!(act(&platform, "no-id", act_of).await.status, 400);
    }
    write(templates.path(), "broken", "sub_workspaces: [\n");
    write(templates.path(), "lonely", "name: lonely\nsub_workspaces: []\n");
    std::fs::create_dir_all(templates.path().join("unreadable/config.yaml")).unwrap();
    for (template, answer) in [
        ("absent", (400, "no config found for workspace")),
        ("broken", (500, "failed to parse config")),
        ("unreadable", (500, "failed to read config")),
        ("lonely", (400, "workspace has no sub_workspaces defined in config")),
    ] {
        let wish = json!({"name": template, "runtime": "echo", "template": template});
        let id = platform.create(wish).await;
        let reply = act(&platform, &id, "expand").await;
        assert_eq!(reply.says(), answer, "{template}");
        assert!(reply.is_named(), "{reply:?}");
    }
}

#[actix_web::test]
async fn an_entry_that_is_no_good_is_named_and_nobody_is_created() {
    let (platform, templates) = platform().await;
    let outside = tempfile::tempdir().unwrap();
    write(outside.path(), "secret", "runtime: echo\n");
    std::os::unix::fs::symlink(outside.path().join("secret"), templates.path().join("link")).unwrap();
    write(templates.path(), "cracked", "runtime: [\n");
    write(templates.path(), "deep/down", "runtime: echo\n");
    let up = format!("../{}/secret", outside.path().file_name().unwrap().to_str().unwrap());
    let absolute = outside.path().join("secret").display().to_string();
    let lead = platform.create(json!({"name": "lead", "runtime": "echo"})).await;
    let head = platform.settled_head().await;
    for (bad, status) in [
        (format!("{{config: {up}}}"), 400),
        (format!("{{config: {absolute}}}"), 400),
        ("{config: link}".to_owned(), 400),
        ("{config: absent}".to_owned(), 400),
        ("{config: deep/down}".to_owned(), 400),
        ("{name: nobody}".to_owned(), 400),
        ("{config: cracked}".to_owned(), 500),
        (format!("{{config: digger, name: {}}}", "x".repeat(256)), 400),
        ("{config: digger, role: \"a\\nb\"}".to_owned(), 400),
    ] {
        write(templates.path(), "lead", &format!("sub_workspaces:\n  - config: digger\n  - {bad}\n"));
        let reply = act(&platform, &lead, "expand").await;
        assert_eq!(reply.status, status, "{bad}: {reply:?}");
        assert!(reply.json["detail"].as_str().unwrap().contains("sub_workspaces[1]"), "{bad}: {reply:?}");
    }
    let many = "  - config: digger\n".repeat(51);
    write(templates.path(), "lead", &format!("sub_workspaces:\n{many}"));
    assert_eq!(act(&platform, &lead, "expand").await.status, 400);
    assert_eq!(names(&platform).await, ["lead"]);
    assert_eq!(facts_after(&platform, head).await, [""; 0], "nothing half-done");
}

#[actix_web::test]
async fn a_collapse_removes_everything_below_and_ends_its_tokens() {
    let (platform, templates) = platform().await;
    write(templates.path(), "lead", "sub_workspaces:\n  - {config: digger, name: Ada}\n");
    let (lead, own) = platform.external("lead", None).await;
    let reply = act(&platform, &lead, "expand").await;
    let ada = reply.json["children"][0]["id"].as_str().unwrap().to_owned();
    started(&platform, &ada).await;
    let (by_hand, child_token) = platform.external("by hand", Some(&lead)).await;
    let (grandchild, token) = platform.external("grandchild", Some(&ada)).await;
    let (other, other_token) = platform.external("other", None).await;
    let collapse = || platform.ask(Method::POST, &format!("/workspaces/{lead}/collapse"));
    assert_eq!(collapse().bearer(&child_token).send().await.status, 401, "a child's token opens nothing");
    let reply = collapse().bearer(&own).send().await;
    assert_eq!(
        (reply.status, reply.json),
        (200, json!({"status": "collapsed", "removed": ["Ada", "by hand"]}))
    );
    assert_eq!(names(&platform).await, ["lead", "other"]);
    for (id, token) in [(&grandchild, &token), (&by_hand, &child_token)] {
        let path = format!("/workspaces/{id}/details");
        assert_eq!(platform.get(&path).bearer(token).send().await.status, 401, "its token has ended");
        assert_eq!(told(&platform, id).await, ("WORKSPACE_REMOVED".to_owned(), json!({})));
    }
    for (id, token) in [(&lead, &own), (&other, &other_token)] {
        let path = format!("/workspaces/{id}/details");
        assert_eq!(platform.get(&path).bearer(token).send().await.status, 200);
    }
    let removed = json!({"removed_children": ["Ada", "by hand"]});
    assert_eq!(told(&platform, &lead).await, ("WORKSPACE_COLLAPSED".to_owned(), removed));

    let head = platform.settled_head().await;
    let again = act(&platform, &lead, "collapse").await;
    assert_eq!((again.status, again.json), (200, json!({"status": "collapsed", "removed": []})));
    assert_eq!(facts_after(&platform, head).await, [""; 0], "nothing new is no fact");
    let anew = act(&platform, &lead, "expand").await;
    assert_ne!(anew.json["children"][0]["id"], json!(ada), "who was removed is not who is there");
    assert_eq!(told(&platform, &lead).await.0, "WORKSPACE_EXPANDED");
}
