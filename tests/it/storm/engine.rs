//! An engine of the storm's own: it can be frozen, and nobody else notices.
//!
//! It has its own socket, data, bridge and no firewall rules, so it stands beside the engine of the other stories. It ends
//! with its value, and with the test program however that one ends (`scripts/docker-engine hold`).

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::support::platform::COVALENCE;
use crate::support::processes;

/// The image of the workspaces: the agent and a program that takes its time.
pub(super) const IMAGE: &str = "covalence/storm:latest";
/// Where that program is in the image.
pub(super) const SLOW: &str = "/slow";
/// The label that says whose a container is; the platform sets it too.
pub(super) const WORKSPACE_LABEL: &str = "covalence.workspace";

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A container that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Container {
    pub(super) id: String,
    /// Its first process, on the host.
    pub(super) pid: i32,
    /// When it was started last.
    pub(super) started: String,
}

/// See the module.
pub(super) struct Engine {
    directory: TempDir,
    pid: i32,
    /// The engine runs for as long as this is open.
    hold: Option<ChildStdin>,
    holder: Child,
}

impl Engine {
    /// Starts one, with the image on it.
    pub(super) async fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("covalence-storm-").tempdir().unwrap();
        let bridge = format!("cvs{}={}", std::process::id(), free_address());
        let mut holder = Command::new("setsid")
            .arg(Path::new(ROOT).join("scripts/docker-engine"))
            .arg("hold")
            .env("COVALENCE_ENGINE_DIR", directory.path())
            .env("COVALENCE_ENGINE_SOCKET", directory.path().join("engine.sock"))
            .env("COVALENCE_ENGINE_BRIDGE", bridge)
            .env_remove("DOCKER_HOST")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the script starts");
        let mut said = BufReader::new(holder.stdout.take().expect("its standard output")).lines();
        let first = said.next_line().await.expect("its words are text");
        assert_eq!(first.as_deref(), Some("ready"), "the storm's engine did not start; its words are above");
        let pid = fs::read_to_string(directory.path().join("dockerd.pid")).expect("the engine's pid");
        let pid = pid.trim().parse().expect("a number");
        let engine = Self { pid, hold: holder.stdin.take(), holder, directory };
        engine.build_image().await;
        engine
    }

    /// Where it listens.
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.path().join("engine.sock")
    }

    /// What to use as `DOCKER_HOST`.
    fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    async fn build_image(&self) {
        let mut build = Command::new(COVALENCE);
        build.args(["images", "build", "echo"]).current_dir(ROOT).env("DOCKER_HOST", self.host());
        // What cargo tells a test about itself would be taken for a change, and the agent compiled again, for minutes.
        for (name, _) in std::env::vars_os() {
            if name
                .to_str()
                .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
            {
                build.env_remove(name);
            }
        }
        let built = build.output().await.expect("the program runs");
        assert!(built.status.success(), "the agent's image: {}", String::from_utf8_lossy(&built.stderr));
        let built = String::from_utf8_lossy(&built.stdout);
        let program = self.directory.path().join("slow");
        let status = Command::new("rustc")
            .args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-o"])
            .arg(&program)
            .arg(Path::new(ROOT).join("tests/it/storm/slow.rs"))
            .status()
            .await
            .expect("rustc runs");
        assert!(status.success(), "the workspaces' program was not compiled");
        // Neither a builder nor a shell is needed for one more file.
        let image = built.lines().last().expect("an image");
        let id = self.docker(&["create", image]).await;
        self.docker(&["cp", &program.display().to_string(), &format!("{id}:{SLOW}")]).await;
        self.docker(&["commit", &id, IMAGE]).await;
        self.docker(&["rm", &id]).await;
    }

    /// A `docker` command for this engine, which is asked directly.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.arg("--host").arg(self.host()).args(arguments);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Its output. Panics where it fails.
    pub(super) async fn docker(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().await.expect("the `docker` command runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`docker {}`: {said}", arguments.join(" "));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Kills a container. `false`: there was nothing to kill.
    pub(super) async fn kill(&self, container: &str) -> bool {
        let output = self.command(&["kill", container]).output().await.expect("the `docker` command runs");
        output.status.success()
    }

    /// What runs, by workspace.
    pub(super) async fn running(&self) -> BTreeMap<String, Container> {
        let filter = format!("label={WORKSPACE_LABEL}");
        let ids = self.docker(&["ps", "--quiet", "--no-trunc", "--filter", &filter]).await;
        let ids: Vec<&str> = ids.lines().collect();
        if ids.is_empty() {
            return BTreeMap::new();
        }
        let format = format!(
            "{{{{index .Config.Labels \"{WORKSPACE_LABEL}\"}}}} {{{{.Id}}}} {{{{.State.Pid}}}} {{{{.State.StartedAt}}}}"
        );
        // One that has gone since is not among the answers, and no reason to fail.
        let mut inspect = self.command(&[&["inspect", "--format", &format], &ids[..]].concat());
        let seen = inspect.output().await.expect("the `docker` command runs");
        let seen = String::from_utf8_lossy(&seen.stdout);
        let container = |line: &str| {
            let [workspace, id, pid, started] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("four words in {line}")
            };
            let pid = pid.parse().expect("a pid");
            (workspace.to_owned(), Container { id: id.to_owned(), pid, started: started.to_owned() })
        };
        seen.lines().filter(|line| !line.is_empty()).map(container).collect()
    }

    /// Stops its process, as an overloaded host might: it takes connections and answers nothing.
    pub(super) fn freeze(&self) {
        processes::signal(self.pid, Signal::STOP);
    }

    /// Lets it go on.
    pub(super) fn thaw(&self) {
        processes::signal(self.pid, Signal::CONT);
    }

    /// Writes down every end of a container from now on.
    pub(super) fn watch_deaths(&self) -> Deaths {
        let path = self.directory.path().join("deaths");
        let file = fs::File::create(&path).unwrap();
        let watching = self
            .command(&[
                "events",
                "--filter",
                "type=container",
                "--filter",
                "event=die",
                "--format",
                "{{.Actor.ID}}",
            ])
            .stdout(file)
            .spawn()
            .expect("the `docker` command runs");
        Deaths { path, _watching: watching }
    }

    /// Takes away what a round left: containers, volumes and networks.
    pub(super) async fn clear(&self) {
        for (list, remove) in [
            (&["ps", "--all", "--quiet"][..], &["rm", "--force", "--volumes"][..]),
            (&["volume", "ls", "--quiet"], &["volume", "rm", "--force"]),
            (&["network", "ls", "--quiet", "--filter", "type=custom"], &["network", "rm"]),
        ] {
            let found = self.docker(list).await;
            if !found.is_empty() {
                self.docker(&[remove, &found.lines().collect::<Vec<_>>()].concat()).await;
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.thaw();
        drop(self.hold.take());
        while let Ok(None) = self.holder.try_wait() {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

/// Ends of containers, as the engine tells them.
pub(super) struct Deaths {
    path: PathBuf,
    _watching: Child,
}

impl Deaths {
    /// How often each container has ended.
    pub(super) fn by_container(&self) -> BTreeMap<String, usize> {
        let mut found = BTreeMap::new();
        for id in fs::read_to_string(&self.path).unwrap().lines() {
            *found.entry(id.to_owned()).or_default() += 1;
        }
        found
    }
}

/// An address with its subnet that this machine does not have yet.
fn free_address() -> String {
    let free = |third: &u32| UdpSocket::bind(format!("10.212.{third}.1:0")).is_err();
    let first = std::process::id();
    let third = (first..first + 256).map(|n| n % 256).find(free).expect("a free subnet");
    format!("10.212.{third}.1/24")
}
