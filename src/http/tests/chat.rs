//! Files of a conversation, over a backend that keeps them in memory; how they get into processes and containers has its own
//! suite.

use bytes::Bytes;
use serde_json::json;

use super::platform::{ADMIN, PATIENCE, Platform, Reply};

/// A form as httpx sends it: part by part its headers and its body.
fn form(parts: &[(&str, &[u8])]) -> Bytes {
    let mut form = Vec::new();
    for (head, body) in parts {
        form.extend_from_slice(format!("--cut\r\n{head}\r\n\r\n").as_bytes());
        form.extend_from_slice(body);
        form.extend_from_slice(b"\r\n");
    }
    form.extend_from_slice(b"--cut--\r\n");
    form.into()
}

fn part(file: &str) -> String {
    format!("Content-Disposition: form-data; name=\"files\"; filename=\"{file}\"")
}

async fn upload(platform: &Platform, id: &str, body: Bytes) -> Reply {
    let ask = platform.ask(actix_web::http::Method::POST, &format!("/workspaces/{id}/chat/uploads"));
    ask.bearer(ADMIN).header("content-type", "multipart/form-data; boundary=cut").body(body).send().await
}

async fn download(platform: &Platform, id: &str, path: &str) -> Reply {
    platform.get(&format!("/workspaces/{id}/chat/download?path={path}")).bearer(ADMIN).send().await
}

/// A platform and a workspace that runs on it.
async fn with_agent() -> (Platform, String) {
    let platform = Platform::start().await;
    let id = platform.create(json!({"name": "agent", "runtime": "echo"})).await;
    let runs = async {
        while download(&platform, &id, "/workspace/nothing").await.status == 503 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, runs).await.expect("it is started");
    (platform, id)
}

#[actix_web::test]
async fn what_is_uploaded_is_told_in_order_and_comes_back_byte_by_byte() {
    let (platform, id) = with_agent().await;
    let typed = format!("{}\r\nContent-Type: text/x-notes", part("my notes.md"));
    let plain = part("../größe.png");
    let other = "Content-Disposition: form-data; name=\"comment\"".to_owned();
    let parts: [(&str, &[u8]); 4] = [
        (&typed, b"# one\r\n"),
        (&other, b"for you"),
        (&plain, b"\x89PNG\0\xff"),
        (&part("no-extension"), b""),
    ];
    let reply = upload(&platform, &id, form(&parts)).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let files = reply.json["files"].as_array().unwrap();
    let told: Vec<_> = files.iter().map(|file| (&file["name"], &file["mimeType"], &file["size"])).collect();
    let null = serde_json::Value::Null;
    assert_eq!(
        told,
        [
            (&json!("my_notes.md"), &json!("text/x-notes"), &json!(7)),
            (&json!("gr__e.png"), &json!("image/png"), &json!(6)),
            (&json!("no-extension"), &null, &json!(0)),
        ]
    );
    assert!(files[2].get("mimeType").is_none());
    let path = files[0]["uri"].as_str().unwrap().strip_prefix("workspace:").unwrap();
    let (place, file) = path.rsplit_once('/').unwrap();
    assert_eq!(place, "/workspace/.molecule/chat-uploads");
    let (random, name) = file.split_once('-').unwrap();
    assert!(random.len() == 32 && random.bytes().all(|byte| byte.is_ascii_hexdigit()), "{file}");
    assert_eq!(name, "my_notes.md");

    let found = download(&platform, &id, path).await;
    assert_eq!((found.status, found.text.as_str()), (200, "# one\r\n"));
    assert_eq!(found.headers["content-length"], "7");
    assert_eq!(found.headers["content-type"], "text/markdown");
    let disposition = &found.headers["content-disposition"];
    assert_eq!(
        disposition,
        &format!("attachment; filename=\"{file}\"; filename*=UTF-8''{}", file.replace('-', "%2D"))
    );
    assert_eq!(found.headers["x-content-type-options"], "nosniff");
}

#[actix_web::test]
async fn names_of_files_cannot_leave_their_header() {
    let (platform, id) = with_agent().await;
    let path = "/workspace/a\"b\\ü.txt";
    let backend = &platform.state.backends[&covalence_events::workspace::BackendKind::Process];
    let file = covalence_actors::effect::files::NewFile {
        path: covalence_actors::effect::files::FilePath::parse(path).unwrap(),
        body: Bytes::from_static(b"x"),
    };
    backend.put_files(id.parse().unwrap(), vec![file]).await.unwrap();
    let found = download(&platform, &id, "/workspace/a%22b%5C%C3%BC.txt").await;
    assert_eq!(found.status, 200, "{found:?}");
    assert_eq!(
        found.headers["content-disposition"],
        "attachment; filename=\"a\\\"b\\\\_.txt\"; filename*=UTF-8''a%22b%5C%C3%BC.txt"
    );
}

#[actix_web::test]
async fn a_form_that_is_none_or_too_large_puts_nothing_anywhere() {
    let (platform, id) = with_agent().await;
    let unparsed = (400, "failed to parse multipart form");
    for body in ["", "no form", "--cut\r\nContent-Disposition: form-data; name=\"files\"\r\n\r\nendless"] {
        assert_eq!(upload(&platform, &id, Bytes::from(body)).await.says(), unparsed, "{body:?}");
    }
    let json = platform.post(&format!("/workspaces/{id}/chat/uploads"), json!({})).bearer(ADMIN).send().await;
    assert_eq!(json.says(), unparsed);
    let none = form(&[("Content-Disposition: form-data; name=\"file\"; filename=\"a\"", b"x")]);
    assert_eq!(upload(&platform, &id, none).await.says(), (400, "expected at least one 'files' field"));

    let large = vec![b'x'; 25 * 1024 * 1024 + 1];
    let (small, big) = (part("small.txt"), part("big.bin"));
    let refused = upload(&platform, &id, form(&[(&small, b"x"), (&big, &large)])).await;
    assert_eq!(refused.says(), (413, "big.bin exceeds per-file limit (25 MB)"));
    let half = &large[..20 * 1024 * 1024];
    let refused = upload(&platform, &id, form(&[(&big, half), (&big, half), (&big, half)])).await;
    assert_eq!(refused.says(), unparsed);
    let many: Vec<(&str, &[u8])> = (0..201).map(|_| (small.as_str(), b"x".as_slice())).collect();
    assert_eq!(upload(&platform, &id, form(&many)).await.says(), unparsed);
    assert_eq!(platform.table.files(), 0, "all of it or nothing");
}

#[actix_web::test]
async fn a_path_that_leads_elsewhere_and_a_workspace_that_does_not_run_are_told_apart() {
    let (platform, id) = with_agent().await;
    let missing = platform.get(&format!("/workspaces/{id}/chat/download")).bearer(ADMIN).send().await;
    assert_eq!(missing.says(), (400, "path query required"));
    for (path, says) in [
        ("a.txt", (400, "path must be absolute")),
        ("/etc/passwd", (400, "path must be under /configs, /workspace, /home, or /plugins")),
        ("/workspace/../etc/passwd", (400, "invalid path")),
        ("/workspace/%2e%2e/etc/passwd", (400, "invalid path")),
        ("/configs/.auth_token", (400, "invalid path")),
        ("/workspace/nothing", (404, "file not found")),
    ] {
        assert_eq!(download(&platform, &id, path).await.says(), says, "{path}");
    }
    let (outside, token) = platform.external("elsewhere", None).await;
    let not_here = (503, "workspace container not running");
    assert_eq!(download(&platform, &outside, "/workspace/a").await.says(), not_here);
    assert_eq!(upload(&platform, &outside, form(&[(&part("a"), b"x")])).await.says(), not_here);
    // The files of others are not its own.
    let path = format!("/workspaces/{id}/chat/download?path=/workspace/nothing");
    assert_eq!(platform.get(&path).bearer(&token).send().await.status, 401);
}
