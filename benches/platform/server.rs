//! A `covalence serve` of our own, with a data directory that goes with it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use serde_json::Value;

use crate::{Args, cpu, http};

/// A log of a million facts is open long before that.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// A workspace that has not started by then has a problem.
const STARTED_WITHIN: Duration = Duration::from_secs(60);
/// What was answered is recorded within a commit or two.
const RECORDED_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks. Its share of a measured time is half of that.
const LOOK: Duration = Duration::from_millis(2);

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
    /// From the start of the process to the first good answer of `/ready`.
    pub(crate) ready_after: Duration,
    dir: PathBuf,
}

impl Server {
    /// Starts a server over a directory; `agent` replaces the program that runs workspaces.
    pub(crate) async fn start(args: &Args, dir: &Path, backend: &str, agent: Option<&Path>) -> Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let output = std::fs::File::create(dir.with_extension("out"))?;
        let mut command = Command::new(&args.program);
        command
            .args(["serve", "--stop-workspaces", "--backend", backend, "--listen", &address.to_string()])
            .arg("--data-dir")
            .arg(dir)
            .env_remove("MOLECULE_ENV")
            .env_remove("ADMIN_TOKEN")
            // No limit within reach: what is measured is the path of a request that is let in.
            .env("RATE_LIMIT", "100000000")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        if let Some(agent) = agent {
            command.env("COVALENCE_AGENT_PROGRAM", agent);
        }
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("starting {}", args.program.display()))?;
        let mut server =
            Self { child, address, token: String::new(), ready_after: Duration::ZERO, dir: dir.to_owned() };
        while http::json(address, ("GET", "/ready"), "", None).await.is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("the server ended with {status}: {}", server.output());
            }
            if started.elapsed() > READY_WITHIN {
                bail!("the server is not ready: {}", server.output());
            }
            tokio::time::sleep(LOOK).await;
        }
        server.ready_after = started.elapsed();
        std::fs::read_to_string(dir.join("admin-token"))?.trim().clone_into(&mut server.token);
        Ok(server)
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.dir.with_extension("out")).unwrap_or_default()
    }

    /// Calls the API as the administrator.
    pub(crate) async fn api(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Bytes> {
        http::json(self.address, (method, path), &self.token, body).await
    }

    /// The log's last position.
    pub(crate) async fn head(&self) -> Result<u64> {
        let ready: Value = serde_json::from_slice(&self.api("GET", "/ready", None).await?)?;
        ready["head"].as_u64().context("`/ready` names no head")
    }

    /// Facts recorded since a position, once there are at least so many or no more come: beats and outcomes are answered before they are
    /// flushed, and the last ones are on their way.
    pub(crate) async fn recorded(&self, since: u64, at_least: u64) -> Result<u64> {
        let started = Instant::now();
        loop {
            let recorded = self.head().await? - since;
            if recorded >= at_least || started.elapsed() > RECORDED_WITHIN {
                return Ok(recorded);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Creates a workspace and answers what the platform says of it.
    pub(crate) async fn create(&self, body: &Value) -> Result<Value> {
        Ok(serde_json::from_slice(&self.api("POST", "/workspaces", Some(body)).await?)?)
    }

    /// Waits for the first fact of a kind.
    pub(crate) async fn fact(&self, id: &str, kind: &str) -> Result<Value> {
        let started = Instant::now();
        loop {
            let facts = self.facts(id).await?;
            if let Some(fact) = facts.into_iter().find(|fact| fact["type"] == kind) {
                return Ok(fact);
            }
            if started.elapsed() > STARTED_WITHIN {
                bail!("workspace {id} has no `{kind}`: {}", self.output());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// All facts of a workspace, in order.
    pub(crate) async fn facts(&self, id: &str) -> Result<Vec<Value>> {
        let lines = self.api("GET", &format!("/admin/log?limit=1000&workspace={id}"), None).await?;
        Ok(serde_json::Deserializer::from_slice(&lines).into_iter().collect::<Result<_, _>>()?)
    }

    /// Processor time that the server itself has used so far, without what it runs.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        cpu::used(self.child.id())
    }

    /// The most memory that the process had resident so far, in MB.
    pub(crate) fn peak_mb(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kb: f64 =
            line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).context("no VmHWM")?;
        Ok(kb / 1024.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}
