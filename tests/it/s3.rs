//! The log leaves the machine for a bucket and comes back: through the protocol of S3, spoken by a stand-in for it.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::support::client::Client;
use super::support::eventually::{eventually, eventually_blocking};
use super::support::platform::{ONLINE_LIMIT, Platform, Settings};
use super::support::python;

const BUCKET: &str = "covalence-fleet";
const DESTINATION: &str = "s3://covalence-fleet/log";

/// A service that speaks S3, and forgets its buckets when it ends.
struct Service {
    address: SocketAddr,
    process: Child,
}

impl Service {
    fn start() -> Self {
        // Free a moment ago: the service takes a port, and no socket.
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
        let process = Command::new(python::interpreter())
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &address.port().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the interpreter runs");
        let service = Self { address, process };
        eventually_blocking("the service answers", ONLINE_LIMIT, || TcpStream::connect(address).map(drop));
        service
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn create_bucket(&self) {
        let client = Client::new(self.url(), String::new());
        let made = client.send(reqwest::Method::PUT, &format!("/{BUCKET}"), None, &[]).await;
        assert_eq!(made.expect("the service answers").status, 200);
    }

    /// What the bucket holds, as S3 lists it.
    async fn listed(&self) -> String {
        let client = Client::new(self.url(), String::new());
        client.get(&format!("/{BUCKET}?list-type=2")).await.expect("the service answers").text
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn json_of(platform: &Platform, args: &[&str]) -> Value {
    let output = platform.cli(args);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{args:?}: {out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error}: {out}"))
}

async fn export(admin: &Client) -> Value {
    admin.get("/ready").await.unwrap().expect(200)["export"].clone()
}

#[tokio::test]
async fn a_log_exported_to_a_bucket_comes_back_from_it_whole_after_the_disk_is_lost() {
    let service = Service::start();
    let settings = Settings::process()
        .env("COVALENCE_SEGMENTS", DESTINATION)
        .env("AWS_ENDPOINT", service.url())
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_ACCESS_KEY_ID", "covalence")
        .env("AWS_SECRET_ACCESS_KEY", "not-a-secret");

    // Without its bucket nobody knows whether there was a log before this one.
    let mut platform = Platform::prepare(settings);
    let begin = ["serve", "--listen", "127.0.0.1:0", "--backend", "process"];
    let refused = platform.cli_without_url(&begin);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("NoSuchBucket"), "{words}");

    service.create_bucket().await;
    platform.launch();
    platform.wait_ready().await;
    let admin = platform.admin();
    let id = admin.create_online(&["Ada".to_owned()]).await.remove(0);
    admin.post(&format!("/workspaces/{id}/pause"), &json!({})).await.unwrap().expect(200);
    admin.wait_status(&id, "paused").await;
    assert!(platform.terminate().success());
    let whole = json_of(&platform, &["log", "verify", "--json"]);
    let sound = json_of(&platform, &["log", "verify", "--segments", DESTINATION, "--json"]);
    assert_eq!((&sound["head"], &sound["problems"]), (&whole["head"], &json!([])), "{sound}");
    let listed = service.listed().await;
    assert!(listed.contains("<Key>log/seg-"), "{listed}");

    fs::remove_dir_all(platform.data_dir().join("events")).unwrap();
    let start = platform.cli_without_url(&begin);
    let words = String::from_utf8_lossy(&start.stderr).into_owned();
    assert!(!start.status.success() && words.contains(&format!("restore --from {DESTINATION}")), "{words}");
    let restored = json_of(&platform, &["log", "restore", "--from", DESTINATION, "--json"]);
    assert_eq!((&restored["head"], &restored["missing"]), (&whole["head"], &Value::Null), "{restored}");
    assert_eq!(json_of(&platform, &["log", "verify", "--json"]), whole, "the same facts, the same chain");

    platform.launch();
    platform.wait_ready().await;
    let admin = platform.admin();
    admin.wait_status(&id, "paused").await;
    eventually("the export goes on where it was", ONLINE_LIMIT, async || match export(&admin).await {
        export if export["failing"] == json!(false) && export["succeeded_at"].is_string() => Ok(()),
        export => Err(export.to_string()),
    })
    .await;
}
