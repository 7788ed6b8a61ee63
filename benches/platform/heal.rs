//! Question: how soon is a killed agent noticed, and how soon does it answer again?
//!
//! Workspaces are killed one after the other (SIGKILL to a process, `kill` at the engine for a container), and the facts'
//! own times say when the restart was decided and when the agent was back. The baseline starts the same agent raw, by hand or
//! by the engine's API, and waits until it registers with a stub. Goals: decided within 50 ms at the 99th percentile, back
//! within 1.3 times the raw start.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http_body_util::Full;
use hyper::Request;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::server::Server;
use crate::{Args, http, percentile, verdict};

const SOCKET: &str = "/var/run/docker.sock";
const IMAGE: &str = "covalence/echo:latest";
const DECIDED_MAX_MS: f64 = 50.0;
const BACK_MAX: f64 = 1.3;
/// Between two looks at the log; the times come from the facts.
const LOOK: Duration = Duration::from_millis(10);
/// An agent that is not back by then does not come back.
const BACK_WITHIN: Duration = Duration::from_secs(60);
/// Every so many kills the raw start is measured once, so that both meet the same weather.
const RAW_EVERY: usize = 4;

/// Milliseconds.
#[derive(Debug, Default)]
struct Times {
    offline: Vec<f64>,
    decided: Vec<f64>,
    provisioned: Vec<f64>,
    back: Vec<f64>,
    raw: Vec<f64>,
}

/// Prints what came out.
pub(crate) fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let agent = args.program.with_file_name("covalence-agent");
    let docker = args.backend == "docker";
    if !docker && !agent.is_file() {
        println!("{} is not there: build it first (`cargo build --release --workspace`)", agent.display());
        return Ok(());
    }
    let scratch = tempfile::TempDir::new_in(&args.dir)?;
    let times = runtime.block_on(async {
        let server = Server::start(args, &scratch.path().join("data"), &args.backend, None).await?;
        let stub = Stub::start(if docker { gateway().await? } else { Ipv4Addr::LOCALHOST.into() })?;
        let mut times = Times::default();
        for n in 0..args.kills {
            if n % RAW_EVERY == 0 {
                times.raw.push(if docker {
                    raw_container(&stub).await?
                } else {
                    raw_process(&agent, &stub)?
                });
            }
            kill_one(&server, n, docker, &mut times).await?;
        }
        anyhow::Ok(times)
    })?;
    report(times, &args.backend);
    Ok(())
}

async fn kill_one(server: &Server, n: usize, docker: bool, times: &mut Times) -> Result<()> {
    // A workspace of its own for each: a second death in a row is restarted later, on purpose.
    let created = server.create(&json!({"name": format!("victim-{n}"), "runtime": "echo"})).await?;
    let id = created["id"].as_str().context("no id")?;
    let before = online(server, id, 1).await?;
    let started = before.iter().rfind(|fact| fact["type"] == "workspace.instance_started.v1");
    let instance = started.and_then(|fact| fact["data"]["instance"]["id"].as_str()).context("no instance")?;
    let killed = Utc::now();
    if docker {
        engine("POST", &format!("/containers/{instance}/kill"), None).await?;
    } else {
        let pid: i32 = instance.split(':').next().unwrap_or_default().parse()?;
        let pid = rustix::process::Pid::from_raw(pid).context("no pid")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    }
    let facts = online(server, id, 2).await?;
    let since = |kind: &str| {
        let fact = facts.iter().rfind(|fact| fact["type"] == kind).with_context(|| format!("no `{kind}`"))?;
        let at: DateTime<Utc> = fact["at"].as_str().context("no time")?.parse()?;
        let ms = (at - killed).num_microseconds().context("out of range")?;
        #[expect(clippy::cast_precision_loss, reason = "a few seconds")]
        anyhow::Ok(ms as f64 / 1e3)
    };
    times.offline.push(since("workspace.went_offline.v1")?);
    times.decided.push(since("workspace.restart_requested.v1")?);
    times.provisioned.push(since("workspace.instance_started.v1")?);
    times.back.push(since("workspace.came_online.v1")?);
    server.api("DELETE", &format!("/workspaces/{id}?confirm=true"), None).await?;
    Ok(())
}

/// Waits until a workspace came online so many times; answers its facts. An agent may be heard from before its backend has
/// said that it started it, so both are waited for.
async fn online(server: &Server, id: &str, times: usize) -> Result<Vec<Value>> {
    let started = Instant::now();
    loop {
        let facts = server.facts(id).await?;
        let count = |kind: &str| facts.iter().filter(|fact| fact["type"] == kind).count();
        if count("workspace.came_online.v1") >= times && count("workspace.instance_started.v1") >= times {
            return Ok(facts);
        }
        if started.elapsed() > BACK_WITHIN {
            let kinds: Vec<_> = facts.iter().filter_map(|fact| fact["type"].as_str()).collect();
            bail!("workspace {id} is not back: {kinds:?}");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A platform that agrees to everything, and says when it was first asked.
struct Stub {
    address: SocketAddr,
    asked: mpsc::Receiver<Instant>,
}

impl Stub {
    fn start(ip: IpAddr) -> Result<Self> {
        let listener = TcpListener::bind((ip, 0))?;
        let address = listener.local_addr()?;
        let (ask, asked) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let mut buffer = [0; 16 * 1024];
                let Ok(1..) = stream.read(&mut buffer) else { continue };
                let _ = ask.send(Instant::now());
                let body = "{\"status\":\"registered\"}";
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        Ok(Self { address, asked })
    }

    /// Milliseconds until an agent that was started at that moment asks for the first time.
    fn first_asked(&self, started: Instant) -> Result<f64> {
        loop {
            let at = self.asked.recv_timeout(BACK_WITHIN).context("the raw agent did not register")?;
            // Requests of the last agent may still be in the queue.
            if at > started {
                return Ok(at.duration_since(started).as_secs_f64() * 1e3);
            }
        }
    }

    fn forget(&self) {
        while self.asked.try_recv().is_ok() {}
    }
}

const RAW_ID: &str = "00000000-0000-4000-8000-000000000001";

fn environment(platform: String) -> [(&'static str, String); 4] {
    [
        ("WORKSPACE_ID", RAW_ID.to_owned()),
        ("WORKSPACE_NAME", "raw".to_owned()),
        ("AGENT_RUNTIME", "echo".to_owned()),
        ("PLATFORM_URL", platform),
    ]
}

fn raw_process(agent: &Path, stub: &Stub) -> Result<f64> {
    let configs = tempfile::TempDir::new()?;
    std::fs::write(configs.path().join("config.yaml"), "name: raw\nruntime: echo\n")?;
    std::fs::write(configs.path().join(".auth_token"), "raw")?;
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    stub.forget();
    let started = Instant::now();
    let mut child = Command::new(agent)
        .env_clear()
        .envs(environment(format!("http://{}", stub.address)))
        .env("PORT", port.to_string())
        .env("AGENT_LISTEN_HOST", "127.0.0.1")
        .env("WORKSPACE_CONFIG_PATH", configs.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let took = stub.first_asked(started);
    child.kill()?;
    child.wait()?;
    took
}

async fn raw_container(stub: &Stub) -> Result<f64> {
    let platform = format!("http://host.docker.internal:{}", stub.address.port());
    let env: Vec<_> = environment(platform).iter().map(|(name, value)| format!("{name}={value}")).collect();
    let body = json!({
        "Image": IMAGE, "Env": env, "ExposedPorts": {"8000/tcp": {}},
        "HostConfig": {
            "ExtraHosts": ["host.docker.internal:host-gateway"],
            "PortBindings": {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]},
        },
    });
    stub.forget();
    let started = Instant::now();
    let created = engine("POST", "/containers/create", Some(&body)).await?;
    let id = created["Id"].as_str().context("the engine names no container")?.to_owned();
    engine("POST", &format!("/containers/{id}/start"), None).await?;
    let took = tokio::task::block_in_place(|| stub.first_asked(started));
    engine("DELETE", &format!("/containers/{id}?force=true"), None).await?;
    took
}

/// Where containers reach this machine: the bridge's gateway, or our own address in its subnet where the engine names none,
/// which need not be the first.
async fn gateway() -> Result<IpAddr> {
    let network = engine("GET", "/networks/bridge", None).await?;
    let ipam = &network["IPAM"]["Config"][0];
    if let Some(gateway) = ipam["Gateway"].as_str() {
        return Ok(gateway.parse()?);
    }
    let subnet = ipam["Subnet"].as_str().and_then(|subnet| subnet.split('/').next());
    let base: Ipv4Addr = subnet.context("the bridge has no subnet")?.parse()?;
    // Nothing is sent: the kernel's route to the subnet says which address is ours there.
    let route = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    route.connect((Ipv4Addr::from_bits(base.to_bits() | 1), 9))?;
    Ok(route.local_addr()?.ip())
}

/// Calls the engine.
async fn engine(method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "docker")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.map(ToString::to_string).unwrap_or_default())))?;
    let stream = UnixStream::connect(SOCKET).await.with_context(|| format!("no engine at {SOCKET}"))?;
    let (status, answer) = http::once(stream, request).await?;
    if status >= 300 {
        bail!("engine: {method} {path}: {status} {}", String::from_utf8_lossy(&answer));
    }
    Ok(serde_json::from_slice(&answer).unwrap_or(Value::Null))
}

fn report(mut times: Times, backend: &str) {
    println!(
        "{backend}: {} kills, {} raw starts; ms after the kill, or the start",
        times.back.len(),
        times.raw.len()
    );
    println!("                   p50     p90     p99");
    let row = |name: &str, values: &mut Vec<f64>| {
        let at = [0.5, 0.9, 0.99].map(|share| percentile(values, share));
        println!("{name:14} {:7.1} {:7.1} {:7.1}", at[0], at[1], at[2]);
        at
    };
    row("offline", &mut times.offline);
    let decided = row("decided", &mut times.decided)[2];
    row("started", &mut times.provisioned);
    let back = row("back online", &mut times.back)[0];
    let raw = row("raw start", &mut times.raw)[0];
    println!("decided p99 at most {DECIDED_MAX_MS} ms: {}", verdict(decided <= DECIDED_MAX_MS));
    let ratio = back / raw;
    println!("back {ratio:.2} x raw at the median, at most {BACK_MAX}: {}", verdict(ratio <= BACK_MAX));
}
