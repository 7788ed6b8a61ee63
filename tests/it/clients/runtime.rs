//! The Python workspace runtime as the platform starts it: it finds its token in a file, registers with an address that only
//! it believes in, beats at once and looks for results with every beat.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::support::eventually::eventually;
use super::super::support::platform::{ONLINE_LIMIT, Platform, Settings};
use super::{Answered, sent};

const TASK_LIMIT: Duration = Duration::from_secs(30);

/// A runtime in its container, on the inside.
struct Runtime<'a> {
    platform: &'a Platform,
    id: String,
    environment: Value,
    token: String,
}

impl<'a> Runtime<'a> {
    /// What it finds when it starts.
    async fn boots(platform: &'a Platform, id: &str) -> Self {
        let place = platform.data_dir().join("workspaces").join(id).join("workspace/environment.json");
        let environment: Value = eventually("its program runs", ONLINE_LIMIT, async || {
            let text = fs::read_to_string(&place).map_err(|error| error.to_string())?;
            serde_json::from_str(&text).map_err(|error| error.to_string())
        })
        .await;
        let configs = Path::new(environment["WORKSPACE_CONFIG_PATH"].as_str().expect("a path"));
        let file = configs.join(".auth_token");
        let mode = fs::metadata(&file).expect("its token is there before it starts").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(configs.join("config.yaml").is_file());
        let token = fs::read_to_string(file).expect("a token").trim().to_owned();
        Self { platform, id: id.to_owned(), environment, token }
    }

    fn bearer(&self) -> String {
        let token = &self.token;
        format!(
            "Accept: */*\nAccept-Encoding: gzip, deflate\nConnection: keep-alive\nUser-Agent: python-httpx/0.28.1\n\
             Authorization: Bearer {token}"
        )
    }

    fn caller(&self) -> String {
        format!("{}\nX-Workspace-ID: {}", self.bearer(), self.id)
    }

    fn get(&self, path: &str, headers: &str) -> Answered {
        sent(self.platform, &format!("GET {path}\n{headers}"))
    }

    fn post(&self, path: &str, headers: &str, body: &str) -> Answered {
        sent(self.platform, &format!("POST {path}\n{headers}\nContent-Type: application/json\n\n{body}"))
    }

    /// Its address is its container's name; the platform knows better.
    fn registers(&self) -> Answered {
        let (id, url) = (&self.id, "http://3f2a9c1b7d10:8000");
        let body = format!(
            "{{\"id\":\"{id}\",\"url\":\"{url}\",\"agent_card\":{{\"name\":\"worker\",\"description\":\"works\",\
             \"version\":\"1.0.0\",\"url\":\"{url}\",\"skills\":[],\"capabilities\":{{\"streaming\":true,\
             \"pushNotifications\":true}}}}}}"
        );
        self.post("/registry/register", &self.bearer(), &body)
    }

    fn beats(&self) -> Answered {
        let id = &self.id;
        let body = format!(
            "{{\"workspace_id\":\"{id}\",\"error_rate\":0.0,\"sample_error\":\"\",\"active_tasks\":0,\
             \"current_task\":\"\",\"uptime_seconds\":1,\"runtime_metadata\":{{\"capabilities\":{{\"heartbeat\":false,\
             \"scheduler\":false,\"session\":false,\"status_mgmt\":false,\"retry\":false,\"activity_decoration\":false,\
             \"channel_dispatch\":false}},\"idle_timeout_seconds\":null}}}}"
        );
        self.post("/registry/heartbeat", &self.bearer(), &body)
    }

    fn delegations(&self) -> Vec<Value> {
        let listed = self.get(&format!("/workspaces/{}/delegations", self.id), &self.bearer()).expect(200);
        listed.as_array().expect("a list").clone()
    }

    /// What it says to itself: neither an envelope nor a message id, `type` for `kind`.
    fn tells_itself(&self, headers: &str, text: &str) -> Answered {
        let body = format!(
            "{{\"method\":\"message/send\",\"params\":{{\"message\":{{\"role\":\"user\",\"parts\":\
             [{{\"type\":\"text\",\"text\":\"{text}\"}}]}}}}}}"
        );
        self.post(&format!("/workspaces/{}/a2a", self.id), headers, &body)
    }

    fn delegates(&self, target: &str, task: &str) -> Answered {
        let body = format!("{{\"target_id\":\"{target}\",\"task\":\"{task}\"}}");
        self.post(&format!("/workspaces/{}/delegate", self.id), &self.bearer(), &body)
    }
}

/// The platform's own agent is not asked: a program in its place plays what answers.
fn settings(home: &Path) -> Settings {
    let program = home.join("covalence-agent");
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/runtime.py"), &program).unwrap();
    Settings::process().env("COVALENCE_AGENT_PROGRAM", program.display().to_string())
}

#[tokio::test]
async fn a_runtime_boots_beats_speaks_with_itself_and_collects_its_results() {
    let home = tempfile::tempdir().unwrap();
    let platform = Platform::start(settings(home.path())).await;
    let admin = platform.admin();
    let lead = admin.create("lead").await;
    let wish = json!({"name": "worker", "runtime": "echo", "parent_id": lead});
    let made = admin.post("/workspaces", &wish).await.unwrap().expect(201);
    let runtime = Runtime::boots(&platform, made["id"].as_str().unwrap()).await;
    let told = |name: &str| runtime.environment[name].as_str().unwrap_or_default().to_owned();
    assert_eq!((told("WORKSPACE_ID"), told("PLATFORM_URL")), (runtime.id.clone(), platform.url.clone()));
    assert_eq!(told("PARENT_ID"), lead);

    // The beat may come first, and is enough to be online.
    assert!(runtime.beats().status < 300);
    admin.wait_status(&runtime.id, "online").await;
    assert_eq!(runtime.delegations(), [Value::Null; 0]);
    let registered = runtime.registers();
    assert_eq!(registered.expect(200).get("auth_token"), None, "it has one");
    let parent = runtime.get(&format!("/workspaces/{}", runtime.id), &runtime.bearer()).expect(200);
    assert_eq!(parent["parent_id"], json!(lead));

    for headers in [runtime.bearer(), runtime.caller()] {
        let answer = runtime.tells_itself(&headers, "wake up").expect(200);
        assert_eq!(
            answer["result"]["parts"][0]["text"], "WAKE UP",
            "at the address that the platform gave it"
        );
    }
    its_neighbours(&runtime, &lead);
    its_results(&runtime, &lead).await;
    its_words(&runtime).await;
    its_files(&runtime);
}

fn its_neighbours(runtime: &Runtime<'_>, lead: &str) {
    let peers = runtime.get(&format!("/registry/{}/peers", runtime.id), &runtime.caller()).expect(200);
    assert_eq!((&peers[0]["id"], &peers[0]["name"]), (&json!(lead), &json!("lead")));
    // Nobody has heard of the lead yet, so there is no address: anything but 200 is none.
    let away = runtime.get(&format!("/registry/discover/{lead}"), &runtime.caller());
    assert_eq!(away.status, 503, "{away:?}");
}

async fn its_results(runtime: &Runtime<'_>, lead: &str) {
    let lead = Runtime::boots(runtime.platform, lead).await;
    assert!(lead.beats().status < 300);
    runtime.platform.admin().wait_status(&lead.id, "online").await;
    let found = runtime.get(&format!("/registry/discover/{}", lead.id), &runtime.caller()).expect(200);
    let path = found["url"].as_str().unwrap().strip_prefix(&runtime.platform.url).expect("it reaches it");
    let body = json!({"jsonrpc": "2.0", "id": "1", "method": "message/send", "params": {"message":
        {"role": "user", "messageId": "m", "parts": [{"kind": "text", "text": "may I?"}]}}});
    let answer = runtime.post(path, &runtime.caller(), &body.to_string()).expect(200);
    assert_eq!(answer["result"]["parts"][0]["text"], "MAY I?");

    // It takes nothing but a 202 for a task that was handed on.
    let handed = runtime.delegates(&lead.id, "approve").expect(202);
    let delegation = handed["delegation_id"].as_str().expect("a name").to_owned();
    let result = eventually("a beat brings the result", TASK_LIMIT, async || {
        let listed = runtime.delegations();
        // It acts on the first entry of a task that is over, and on none after it.
        let over = listed.iter().find(|one| one["status"] == "completed" || one["status"] == "failed");
        over.cloned().ok_or_else(|| format!("{listed:?}"))
    })
    .await;
    assert_eq!((&result["delegation_id"], &result["status"]), (&json!(delegation), &json!("completed")));
    assert_eq!((&result["source_id"], &result["target_id"]), (&json!(runtime.id), &json!(lead.id)));
    assert!(result["summary"].is_string(), "{result}");
    assert_eq!(result["response_preview"], "APPROVE", "it marks itself what peers say");
}

/// A file that its answer mentions: sent where the canvas finds it, and named in a notice.
fn its_files(runtime: &Runtime<'_>) {
    let own = format!("/workspaces/{}", runtime.id);
    let form = "--83a2b1\r\nContent-Disposition: form-data; name=\"files\"; filename=\"the report.csv\"\r\n\
        Content-Type: text/csv\r\n\r\na,b\r\n1,2\r\n\r\n--83a2b1--\r\n";
    let headers = format!("{}\nContent-Type: multipart/form-data; boundary=83a2b1", runtime.bearer());
    let request = format!("POST {own}/chat/uploads\n{headers}\n\n{form}");
    let told = sent(runtime.platform, &request).expect(200);
    let file = &told["files"][0];
    assert_eq!(
        (&file["name"], &file["mimeType"], &file["size"]),
        (&json!("the_report.csv"), &json!("text/csv"), &json!(10))
    );
    let notice = json!({"message": "here it is", "attachments": [file]}).to_string();
    assert_eq!(runtime.post(&format!("{own}/notify"), &runtime.bearer(), &notice).status, 200);
    let path =
        file["uri"].as_str().unwrap().strip_prefix("workspace:/workspace/").expect("a file of its own");
    let work = Path::new(runtime.environment["WORKSPACE_DIR"].as_str().expect("its directory"));
    assert_eq!(fs::read_to_string(work.join(path)).unwrap(), "a,b\r\n1,2\r\n");
    let back = runtime.get(&format!("{own}/chat/download?path=/workspace/{path}"), &runtime.bearer());
    assert_eq!((back.status, back.body.as_str()), (200, "a,b\r\n1,2\r\n"));
}

/// What it reports and says to people. It looks at the status at most.
async fn its_words(runtime: &Runtime<'_>) {
    let own = format!("/workspaces/{}", runtime.id);
    let notice = "{\"message\":\"Delegation completed\",\"type\":\"delegation_result\"}";
    assert_eq!(runtime.post(&format!("{own}/notify"), &runtime.bearer(), notice).status, 200);
    let report = "{\"activity_type\":\"a2a_send\",\"method\":\"message/send\",\"summary\":\"asked\",\"target_id\":\"\",\
         \"status\":\"ok\",\"request_body\":{\"task\":\"t\"},\"response_body\":null,\"error_detail\":null}";
    assert_eq!(runtime.post(&format!("{own}/activity"), &runtime.bearer(), report).status, 200);
    let delegation = "{\"target_id\":\"0193b1a0-0000-7000-8000-000000000001\",\"task\":\"t\",\
         \"delegation_id\":\"0193b1a0-0000-7000-8000-000000000002\"}";
    // Its older tools show no credential here, and go on when they are refused.
    let bare = "Accept: */*\nUser-Agent: python-httpx/0.28.1";
    let refused = runtime.post(&format!("{own}/delegations/record"), bare, delegation);
    assert_eq!(refused.status, 401, "{refused:?}");
    let wedged = format!(
        "{{\"workspace_id\":\"{}\",\"runtime_state\":\"wedged\",\"sample_error\":\"stuck\"}}",
        runtime.id
    );
    assert!(runtime.post("/registry/heartbeat", &runtime.bearer(), &wedged).status < 300);
    let row = runtime.platform.admin().wait_status(&runtime.id, "degraded").await;
    assert_eq!(row["last_sample_error"], "stuck");
}
