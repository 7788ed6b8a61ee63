//! The operator's hand: holds, the emergency stop, the policy, and what is shown of all of it.

use actix_web::http::Method;
use covalence_actors::runtime::metrics_names as write_side;
use covalence_projections::metrics as read_side;
use serde_json::{Value, json};

use super::lifecycle::beat;
use super::platform::{ADMIN, Platform, Reply};
use crate::metrics_names;

const RULES: &str = include_str!("../../../deploy/prometheus/covalence.rules.yml");

async fn send(platform: &Platform, method: Method, path: &str, body: Value) -> Reply {
    platform.ask(method, path).bearer(ADMIN).json(body).send().await
}

async fn get(platform: &Platform, path: &str) -> Value {
    let reply = platform.get(path).bearer(ADMIN).send().await;
    assert_eq!(reply.status, 200, "{path}: {reply:?}");
    reply.json
}

async fn restart(platform: &Platform, id: &str, body: Value) -> Reply {
    send(platform, Method::POST, &format!("/workspaces/{id}/restart"), body).await
}

async fn online(platform: &Platform, name: &str) -> String {
    let id = platform.create(json!({"name": name, "runtime": "echo"})).await;
    beat(platform, &id).await;
    id
}

async fn hold(platform: &Platform, body: Value) -> Value {
    let reply = send(platform, Method::POST, "/admin/holds", body).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    reply.json
}

#[actix_web::test]
async fn a_hold_refuses_a_restart_until_it_is_released_and_force_passes_over_it() {
    let platform = Platform::start().await;
    let id = online(&platform, "echo").await;
    let body =
        json!({"scope": "workspace", "workspace": id, "reason": "under investigation", "lasts": "30m"});
    let set = hold(&platform, body).await;
    assert_eq!((&set["scope"], &set["by"]), (&json!("workspace"), &json!("admin")));
    assert_eq!(set["workspace"], json!({"id": id, "name": "echo"}));

    let refused = restart(&platform, &id, json!({})).await;
    assert_eq!(refused.says(), (409, "restart refused by rule `hold`"));
    assert_eq!((&refused.json["rule"], &refused.json["until"]), (&json!("hold"), &set["until"]));
    assert!(refused.json["decision"].is_string(), "{refused:?}");

    let unsaid = restart(&platform, &id, json!({"force": true})).await;
    assert_eq!((unsaid.status, &unsaid.json["field"]), (400, &json!("reason")), "{unsaid:?}");
    let forced = restart(&platform, &id, json!({"force": true, "reason": "its disk is new"})).await;
    assert_eq!(forced.status, 200, "{forced:?}");
    let about = get(&platform, &format!("/workspaces/{id}/supervision")).await;
    let last = &about["decisions"][0];
    assert_eq!((&last["decision"], &last["overridden"]), (&json!("admitted"), &json!(["hold"])));
    assert_eq!(last["id"], forced.json["decision"]);
    assert_eq!(about["decisions"][1]["rule"], "hold");
    assert_eq!(about["holds"][0]["id"], set["id"]);
    beat(&platform, &id).await;

    let path = format!("/admin/holds/{}", set["id"].as_str().unwrap());
    let released = send(&platform, Method::DELETE, &path, json!({"reason": "found it"})).await;
    assert_eq!((released.status, &released.json["status"]), (200, &json!("released")));
    assert_eq!(get(&platform, "/admin/holds").await, json!([]));
    assert_eq!(restart(&platform, &id, json!({})).await.status, 200);
    let again = send(&platform, Method::DELETE, &path, json!({})).await;
    assert_eq!(again.says(), (404, "no such hold"));
}

#[actix_web::test]
async fn nothing_passes_over_an_emergency_stop_and_its_hold_ends_it() {
    let platform = Platform::start().await;
    let id = online(&platform, "echo").await;
    let paused = online(&platform, "paused").await;
    let pause = format!("/workspaces/{paused}/pause");
    let resume = format!("/workspaces/{paused}/resume");
    assert_eq!(send(&platform, Method::POST, &pause, json!({})).await.status, 200);
    let stop = send(&platform, Method::POST, "/admin/emergency-stop", json!({"reason": "fire"})).await;
    assert_eq!((stop.status, &stop.json["emergency"]), (201, &json!(true)));
    assert_eq!(stop.json["until"], Value::Null);
    let refused = restart(&platform, &id, json!({"force": true, "reason": "its disk is new"})).await;
    assert_eq!((refused.status, &refused.json["rule"]), (409, &json!("emergency_stop")));
    let create = json!({"name": "new", "runtime": "echo"});
    for (path, body) in [("/workspaces", &create), (resume.as_str(), &json!({}))] {
        let refused = send(&platform, Method::POST, path, body.clone()).await;
        assert_eq!((refused.status, &refused.json["code"]), (409, &json!("emergency_stop")), "{path}");
    }
    let fleet = get(&platform, "/admin/supervision").await;
    let death = &fleet["cells"][0]["allowed"]["death"];
    assert_eq!(death, &json!({"restarts": 0, "limited_by": "emergency_stop"}));
    let path = format!("/admin/holds/{}", stop.json["id"].as_str().unwrap());
    assert_eq!(send(&platform, Method::DELETE, &path, json!({})).await.status, 200);
    assert_eq!(restart(&platform, &id, json!({})).await.status, 200);
    assert_eq!(send(&platform, Method::POST, &resume, json!({})).await.status, 200);
    assert_eq!(send(&platform, Method::POST, "/workspaces", create).await.status, 201);
}

#[actix_web::test]
async fn a_restart_beyond_the_in_flight_limit_waits() {
    let platform = Platform::start().await;
    let mut replies = Vec::new();
    let ids = [online(&platform, "a").await, online(&platform, "b").await, online(&platform, "c").await];
    for id in &ids {
        replies.push(restart(&platform, id, json!({})).await);
    }
    let statuses: Vec<_> = replies.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [200, 200, 202]);
    assert_eq!(replies[2].json["waits_for"], "in_flight");
    let fleet = get(&platform, "/admin/supervision").await;
    assert_eq!((&fleet["cells"][0]["in_flight"], &fleet["waiting_total"]), (&json!(2), &json!(1)));
    assert_eq!(fleet["waiting"][0]["workspace"], json!({"id": ids[2], "name": "c"}));
    assert_eq!(fleet["cells"][0]["allowed"]["death"]["limited_by"], "in_flight");
    assert_eq!(fleet["failing"][0]["supervision"]["state"], "held");
    assert_eq!(fleet["decisions"][0]["numbers"]["in_flight"], 2);
}

#[actix_web::test]
async fn a_calm_fleet_says_what_could_begin_and_why_not_more() {
    let platform = Platform::start().await;
    online(&platform, "a").await;
    let fleet = get(&platform, "/admin/supervision").await;
    let cell = &fleet["cells"][0];
    assert_eq!((&cell["cell"], &cell["size"], &cell["brake"]), (&json!("process"), &json!(1), &Value::Null));
    assert_eq!(cell["allowed"]["death"], json!({"restarts": 2, "limited_by": "in_flight"}));
    assert_eq!(cell["allowed"]["hung"]["restarts"], 1, "silence costs more");
    assert_eq!((&cell["tokens"]["level"], &cell["circuit"]["state"]), (&json!(3.0), &json!("closed")));
    assert_eq!((&fleet["mode"], &fleet["failing_total"]), (&json!("act"), &json!(0)));
    assert_eq!(fleet["policy"]["origin"], "configuration");
    assert_eq!(fleet["policy"]["hash"], get(&platform, "/admin/policy").await["hash"]);
}

#[actix_web::test]
async fn an_error_names_the_field_or_the_parameter() {
    let platform = Platform::start().await;
    let id = online(&platform, "a").await;
    let lasts = |lasts: &str| json!({"reason": "r", "lasts": lasts});
    let strategy = format!("/workspaces/{id}/strategy");
    let parameters = |parameters: Value| json!({"reason": "r", "parameters": parameters});
    for (method, path, body, field) in [
        (Method::POST, "/admin/holds", json!({"lasts": "30m"}), "reason"),
        (Method::POST, "/admin/holds", json!({"reason": "a\nb", "lasts": "30m"}), "reason"),
        (Method::POST, "/admin/holds", json!({"reason": "r"}), "lasts"),
        (Method::POST, "/admin/holds", lasts("soon"), "lasts"),
        (Method::POST, "/admin/holds", lasts("5h"), "lasts"),
        (Method::POST, "/admin/holds", json!({"reason": "r", "lasts": "1h", "scope": "all"}), "scope"),
        (
            Method::POST,
            "/admin/holds",
            json!({"reason": "r", "lasts": "1h", "scope": "subtree"}),
            "workspace",
        ),
        (Method::POST, "/admin/emergency-stop", json!({"reason": " "}), "reason"),
        (Method::PUT, "/admin/mode", json!({"mode": "off", "reason": "r"}), "mode"),
        (Method::PUT, &strategy, json!({"strategy": "all"}), "strategy"),
        (Method::PUT, "/admin/policy", parameters(json!({"backoff_bse": "5s"})), "backoff_bse"),
        (Method::POST, "/admin/policy/check", parameters(json!({"grace": "soon"})), "grace"),
        (Method::POST, "/admin/policy/check", parameters(json!({"backoff_base": "10m"})), "backoff_base"),
        (Method::PUT, "/admin/policy", json!({"parameters": {}}), "reason"),
        (Method::POST, "/admin/policy/rollback", json!({"hash": "x", "reason": "r"}), "hash"),
        (Method::POST, "/admin/backtest", parameters(json!({"liveness_tl": "2m"})), "liveness_tl"),
        (
            Method::POST,
            "/admin/backtest",
            json!({"naive": true, "parameters": {"grace": "1s"}}),
            "parameters",
        ),
        (
            Method::POST,
            "/admin/backtest",
            json!({"since": "2026-03-02T00:00:00Z", "until": "2026-03-01T00:00:00Z"}),
            "until",
        ),
    ] {
        let reply = send(&platform, method, path, body).await;
        assert_eq!((reply.status, &reply.json["field"]), (400, &json!(field)), "{path} {reply:?}");
    }
    let brake = |cell: &str| format!("/admin/brakes/{cell}/release");
    let nothing = json!({});
    for (path, says) in [
        (brake("process"), (409, "no brake is engaged")),
        (brake("fly"), (404, "no such cell")),
        (format!("/workspaces/{id}/quarantine/lift"), (409, "workspace is not quarantined")),
    ] {
        assert_eq!(send(&platform, Method::POST, &path, nothing.clone()).await.says(), says);
    }
}

#[actix_web::test]
async fn a_changed_policy_names_the_decisions_made_under_it_and_can_be_taken_back() {
    let platform = Platform::start().await;
    let id = online(&platform, "a").await;
    let before = get(&platform, "/admin/policy").await;
    let wish = json!({"parameters": {"intensity_max": 7}, "reason": "slow images"});
    let checked = send(&platform, Method::POST, "/admin/policy/check", wish.clone()).await.json;
    assert_eq!((&checked["status"], &checked["from"]), (&json!("checked"), &before["hash"]));
    assert_eq!(get(&platform, "/admin/policy").await["hash"], before["hash"], "checking changes nothing");

    let set = send(&platform, Method::PUT, "/admin/policy", wish.clone()).await.json;
    assert_eq!((&set["status"], &set["hash"]), (&json!("changed"), &checked["hash"]));
    assert_eq!(set["changed"], json!([{"name": "intensity_max", "from": "5", "to": "7"}]));
    let same = send(&platform, Method::PUT, "/admin/policy", wish).await.json;
    assert_eq!(same["status"], "unchanged");

    assert_eq!(restart(&platform, &id, json!({})).await.status, 200);
    let about = get(&platform, &format!("/workspaces/{id}/supervision")).await;
    assert_eq!(about["decisions"][0]["policy"], set["hash"]);

    let now = get(&platform, "/admin/policy").await;
    assert_eq!((&now["hash"], &now["origin"]), (&set["hash"], &json!("set")));
    assert_eq!(now["history"][0]["reason"], "slow images");
    let of = |policy: &Value| {
        let parameters = policy["parameters"].as_array().unwrap().clone();
        parameters.into_iter().find(|parameter| parameter["name"] == "intensity_max").unwrap()
    };
    assert_eq!((&of(&now)["value"], &of(&now)["default"]), (&json!("7"), &json!("5")));

    let back = send(&platform, Method::POST, "/admin/policy/rollback", json!({"reason": "no"})).await.json;
    assert_eq!((&back["status"], &back["hash"]), (&json!("changed"), &before["hash"]));
    let unknown = json!({"hash": "0123456789abcdef", "reason": "r"});
    let unknown = send(&platform, Method::POST, "/admin/policy/rollback", unknown).await;
    assert_eq!(unknown.says(), (404, "no such policy to go back to"));
}

#[actix_web::test]
async fn a_backtest_puts_what_was_decided_to_another_policy_and_changes_nothing() {
    let platform = Platform::start().await;
    let id = online(&platform, "a").await;
    assert_eq!(restart(&platform, &id, json!({})).await.status, 200);
    let head = platform.settled_head().await;
    let test = async |wish: Value| send(&platform, Method::POST, "/admin/backtest", wish).await.json;

    let same = test(json!({})).await;
    assert_eq!((&same["judged"], &same["differing"], &same["restarts"]), (&json!(1), &json!(0), &json!(1)));
    assert_eq!(same["under"], get(&platform, "/admin/policy").await["hash"]);
    // A person passes over everything but the caps.
    let strict = json!({"parameters": {"in_flight_ceiling": 1, "in_flight_min": 1, "intensity_max": 1}});
    assert_eq!(test(strict).await["avoided"], 0);
    let naive = test(json!({"naive": true})).await;
    assert_eq!((&naive["under"], &naive["differing"]), (&json!("naive"), &json!(0)));
    let before = test(json!({"until": "2020-01-01T00:00:00Z"})).await;
    assert_eq!((&before["facts"], &before["judged"]), (&json!(0), &json!(0)));

    assert_eq!(platform.settled_head().await, head);
}

#[actix_web::test]
async fn a_whole_document_takes_what_it_leaves_out_from_the_built_in_values() {
    let platform = Platform::start().await;
    let set = |parameters: Value, replace: bool| {
        send(
            &platform,
            Method::PUT,
            "/admin/policy",
            json!({"parameters": parameters, "replace": replace, "reason": "r"}),
        )
    };
    set(json!({"intensity_max": 7}), false).await;
    let kept = set(json!({"grace": "30s"}), false).await.json;
    assert_eq!(kept["changed"].as_array().unwrap().len(), 1);
    let replaced = set(json!({"grace": "30s"}), true).await.json;
    assert_eq!(replaced["changed"], json!([{"name": "intensity_max", "from": "7", "to": "5"}]));
}

#[actix_web::test]
async fn modes_and_strategies_are_shown_where_they_hold() {
    let platform = Platform::start().await;
    let lead = online(&platform, "lead").await;
    let child = platform.create(json!({"name": "child", "runtime": "echo", "parent_id": lead})).await;
    let body = json!({"mode": "advise", "scope": "subtree", "workspace": lead, "reason": "first week"});
    assert_eq!(send(&platform, Method::PUT, "/admin/mode", body).await.status, 200);
    let path = format!("/workspaces/{lead}/strategy");
    let body = json!({"strategy": "one_for_all"});
    assert_eq!(send(&platform, Method::PUT, &path, body).await.status, 200);
    assert_eq!(get(&platform, &format!("/workspaces/{child}/supervision")).await["mode"], "advise");
    assert_eq!(get(&platform, &format!("/workspaces/{lead}/supervision")).await["strategy"], "one_for_all");
    let fleet = get(&platform, "/admin/supervision").await;
    assert_eq!((&fleet["mode"], &fleet["advised"][0]["reason"]), (&json!("act"), &json!("first week")));
}

#[actix_web::test]
async fn a_workspace_reads_its_own_supervision_and_may_not_force() {
    let platform = Platform::start().await;
    let (id, token) = platform.external("agent", None).await;
    let path = format!("/workspaces/{id}/supervision");
    let own = platform.get(&path).bearer(&token).send().await;
    assert_eq!((own.status, &own.json["supervision"]["state"]), (200, &json!("unknown")));
    let path = format!("/workspaces/{id}/restart");
    let forced = platform
        .ask(Method::POST, &path)
        .bearer(&token)
        .json(json!({"force": true, "reason": "its disk is new"}))
        .send()
        .await;
    assert_eq!(forced.says(), (401, "invalid admin auth token"));
}

#[actix_web::test]
async fn every_gauge_of_supervision_is_exported_and_every_rule_uses_one_that_is() {
    let platform = Platform::start().await;
    let text = platform.get("/metrics").bearer(ADMIN).send().await.text;
    for name in metrics_names::SUPERVISION {
        assert!(text.contains(&format!("\n{name}")), "{name} is not exported");
    }
    let counters = [
        write_side::RESTART_DECISIONS,
        write_side::TRANSIENT_ERRORS,
        write_side::PANICS,
        metrics_names::ALARM_NOTICES,
        read_side::STALLED,
    ];
    let used = RULES.lines().filter(|line| line.trim_start().starts_with("expr:"));
    let used: Vec<&str> = used
        .flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
        .filter(|word| word.starts_with("covalence_"))
        .collect();
    assert!(used.len() >= 8, "{used:?}");
    for name in used {
        let known = metrics_names::SUPERVISION.contains(&name) || counters.contains(&name);
        assert!(known, "a rule uses `{name}`, which nothing exports");
    }
}
