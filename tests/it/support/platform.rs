//! The real `covalence` program on a port and a data directory of its own.
//!
//! A platform that is dropped takes every process with it that it or its agents started: nothing leaks into later tests.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::client::Client;
use super::eventually::{eventually, eventually_blocking};
use super::{docker, processes, rebuilt};

/// The program under test.
pub(crate) const COVALENCE: &str = env!("CARGO_BIN_EXE_covalence");

/// From the process's start to its first answer: far more than it takes, because other tests may load the machine.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(30);

/// From a request to a workspace that answers.
pub(crate) const ONLINE_LIMIT: Duration = Duration::from_secs(30);

/// How a platform is started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// Arguments after `covalence serve --data-dir … --listen …`.
    pub(crate) args: Vec<String>,
    /// Environment on top of an empty one (only `PATH` and `HOME` are passed on).
    pub(crate) env: Vec<(String, String)>,
    /// The configuration file.
    pub(crate) config: String,
    /// Where its workspaces run.
    pub(crate) runs_in: RunsIn,
}

/// Where the workspaces of a platform run: who is asked what runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RunsIn {
    /// The kernel is asked.
    #[default]
    Processes,
    /// The engine is asked.
    Containers,
    /// On an engine that the story itself looks after: it asks, and cleans up.
    Elsewhere,
}

impl Settings {
    /// The embedded backend, and workspaces that echo.
    pub(crate) fn process() -> Self {
        Self::default()
            .arg("--backend")
            .arg("process")
            .env("COVALENCE_DEFAULT_RUNTIME", "echo")
            // Patience looks often, and is no attacker.
            .env("RATE_LIMIT", "1000000")
    }

    /// Containers of the real engine, and workspaces that echo. The engine and the image are there first:
    /// `docker::ensure_engine`.
    pub(crate) fn docker() -> Self {
        let settings = Self::default().arg("--backend").arg("docker").env("RATE_LIMIT", "1000000");
        Self { runs_in: RunsIn::Containers, ..settings }
    }

    /// With this configuration file; `{home}` in it stands for the platform's directory.
    pub(crate) fn config(mut self, toml: &str) -> Self {
        toml.clone_into(&mut self.config);
        self
    }

    /// One more argument.
    pub(crate) fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// One more variable.
    pub(crate) fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
}

/// A running platform.
#[derive(Debug)]
pub(crate) struct Platform {
    /// Where it answers.
    pub(crate) url: String,
    settings: Settings,
    port: u16,
    home: TempDir,
    child: Option<Child>,
}

impl Platform {
    /// Starts one and waits until it is ready.
    pub(crate) async fn start(settings: Settings) -> Self {
        let mut platform = Self::prepare(settings);
        platform.launch();
        platform.wait_ready().await;
        platform
    }

    /// A place for a platform that does not run yet.
    pub(crate) fn prepare(settings: Settings) -> Self {
        assert!(
            agent_program().is_file(),
            "`{}` is missing, and the platform starts it for every workspace: run `cargo build --workspace`, or use \
             `scripts/test`, which does",
            agent_program().display()
        );
        let port = free_port();
        let home = tempfile::Builder::new().prefix("covalence-it-").tempdir().expect("a temporary directory");
        let config = settings.config.replace("{home}", &home.path().display().to_string());
        fs::write(home.path().join("covalence.toml"), config).expect("the configuration file is written");
        Self { url: format!("http://127.0.0.1:{port}"), settings, port, home, child: None }
    }

    /// Starts its process again, on the same data directory and port, without waiting for it.
    pub(crate) fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let stderr = File::options().create(true).append(true).open(self.stderr_path()).expect("a log file");
        let stdout = stderr.try_clone().expect("a second handle on the log file");
        let child = self
            .command()
            .arg("serve")
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .args(&self.settings.args)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .expect("the program under test starts");
        self.child = Some(child);
    }

    /// Waits until it says that it is ready; fails with its own words if it ends instead.
    pub(crate) async fn wait_ready(&mut self) {
        let client = Client::new(self.url.clone(), String::new());
        eventually("the platform is ready", START_LIMIT, async || {
            if let Some(status) = self.ended() {
                panic!("the platform ended with {status}:\n{}", self.stderr());
            }
            match client.get("/ready").await {
                Ok(reply) if reply.status == 200 => Ok(()),
                Ok(reply) => Err(format!("{} {}", reply.status, reply.text)),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
    }

    /// Kills it as a power cut would: no signal handler runs. Its workspaces go on.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("a child can be killed");
        child.wait().expect("a killed child ends");
    }

    /// Its read side is what the log says: see the module `rebuilt`. A story that has failed already says enough.
    fn check_read_side(&mut self) {
        if std::thread::panicking() || self.child.is_none() || self.ended().is_some() {
            return;
        }
        // Where a story chose the admin token itself, there is no file with one.
        let Ok(token) = fs::read_to_string(self.data_dir().join("admin-token")) else { return };
        let admin = Client::new(self.url.clone(), token.trim().to_owned());
        let (processes, home) = (self.settings.runs_in == RunsIn::Processes, self.home.path().to_owned());
        let still = move || processes.then(|| processes::Still::hold(&home));
        // A runtime of its own: the story's may be the one that is dropping this platform.
        let checked = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime starts").block_on(rebuilt::check(&admin, still));
        });
        if let Err(panic) = checked.join() {
            std::panic::resume_unwind(panic);
        }
    }

    /// Asks it to stop, and waits for its end.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.check_read_side();
        let pid = self.pid();
        let mut child = self.child.take().expect("it runs");
        processes::signal(pid, Signal::TERM);
        eventually_blocking("the platform ends after SIGTERM", Duration::from_secs(30), || {
            child.try_wait().expect("a child can be waited for").ok_or("it still runs")
        })
    }

    /// How its process ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().expect("a child can be waited for")
    }

    /// Speaks as its admin.
    pub(crate) fn admin(&self) -> Client {
        let token =
            fs::read_to_string(self.data_dir().join("admin-token")).expect("the first start writes it");
        Client::new(self.url.clone(), token.trim().to_owned())
    }

    /// Speaks without a credential.
    pub(crate) fn anonymous(&self) -> Client {
        Client::new(self.url.clone(), String::new())
    }

    /// Runs a subcommand of the program against it, in its home directory.
    pub(crate) fn cli(&self, args: &[&str]) -> Output {
        self.command().args(["--url", &self.url]).args(args).stdin(Stdio::null()).output().expect("it runs")
    }

    /// Runs a subcommand that is not about the running platform.
    pub(crate) fn cli_without_url(&self, args: &[&str]) -> Output {
        self.command().args(args).stdin(Stdio::null()).output().expect("it runs")
    }

    /// A subcommand of the program against it, to be started by another program: `starter` is that one with its arguments.
    pub(crate) fn cli_through(&self, starter: &[&str], args: &[&str]) -> Command {
        let mut command = self.prepared(Command::new(starter[0]));
        command.args(&starter[1..]).args([COVALENCE, "--url", &self.url]).args(args);
        command
    }

    /// The same with this on its stdin.
    pub(crate) fn cli_with_input(&self, args: &[&str], input: &str) -> Output {
        let mut command = self.command();
        command.args(["--url", &self.url]).args(args).stdin(Stdio::piped());
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        // Who does not want it may have ended already.
        let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
        child.wait_with_output().expect("it ends")
    }

    /// Another value of a variable, from the next start on.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        self.settings.env.retain(|(known, _)| known != name);
        self.settings.env.push((name.to_owned(), value.to_owned()));
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        let id = self.child.as_ref().expect("it runs").id();
        i32::try_from(id).expect("a pid is an i32")
    }

    /// What runs, by workspace, as kernel or engine say it: the same text is the same process or container, not
    /// restarted. Twice the same workspace is a failure.
    pub(crate) fn running(&self) -> BTreeMap<String, String> {
        match self.settings.runs_in {
            RunsIn::Processes => {
                let agents = processes::agents_by_workspace(&self.data_dir());
                agents
                    .into_iter()
                    .map(|(id, agent)| (id, format!("{} {}", agent.pid, agent.started)))
                    .collect()
            }
            RunsIn::Containers => docker::containers_by_workspace(&self.instance()),
            RunsIn::Elsewhere => BTreeMap::new(),
        }
    }

    /// Ends what runs for a workspace, without a chance to say goodbye.
    pub(crate) fn kill_workspace(&self, id: &str) {
        self.signal_workspace(id, Signal::KILL);
    }

    /// Lets what runs for a workspace stand still.
    pub(crate) fn freeze_workspace(&self, id: &str) {
        self.signal_workspace(id, Signal::STOP);
    }

    fn signal_workspace(&self, id: &str, signal: Signal) {
        let running = self.running();
        let name =
            running.get(id).and_then(|identity| identity.split(' ').next()).expect("the workspace runs");
        match self.settings.runs_in {
            RunsIn::Processes => processes::signal(name.parse().expect("a pid"), signal),
            RunsIn::Containers => {
                drop(docker::docker(&["kill", "--signal", &signal.as_raw().to_string(), name]));
            }
            RunsIn::Elsewhere => unreachable!("nothing was found to run"),
        }
    }

    /// What its instances are labelled with.
    fn instance(&self) -> String {
        let text = fs::read_to_string(self.data_dir().join("instance")).unwrap_or_default();
        text.trim().to_owned()
    }

    /// Its data directory.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.home.path().join(".covalence")
    }

    /// The directory that it and its subcommands run in.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Its port, the same over restarts.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What it printed, over all of its runs.
    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.stderr_path()).unwrap_or_default()
    }

    fn command(&self) -> Command {
        self.prepared(Command::new(COVALENCE))
    }

    fn prepared(&self, mut command: Command) -> Command {
        command.current_dir(self.home.path()).env_clear();
        for name in ["PATH", "HOME"] {
            #[expect(
                clippy::disallowed_methods,
                reason = "programs are found through it; nothing is configured by it"
            )]
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("COVALENCE_DATA_DIR", self.data_dir());
        command.env("COVALENCE_CONFIG", self.home.path().join("covalence.toml"));
        command.envs(self.settings.env.iter().map(|(name, value)| (name, value)));
        command
    }

    fn stderr_path(&self) -> PathBuf {
        self.home.path().join("platform.log")
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        let compared = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.check_read_side()));
        if self.child.is_some() {
            self.kill();
        }
        match self.settings.runs_in {
            RunsIn::Processes => processes::end_agents(self.home.path()),
            RunsIn::Containers => docker::remove_all(&self.instance()),
            RunsIn::Elsewhere => {}
        }
        if std::thread::panicking() {
            eprintln!("--- the platform's own words ---\n{}", self.stderr());
        }
        if let Err(panic) = compared {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Where cargo puts the agent: beside the platform, which looks for it there.
pub(crate) fn agent_program() -> PathBuf {
    Path::new(COVALENCE).with_file_name("covalence-agent")
}

/// How often the crash stories kill the platform.
pub(crate) fn kill_rounds() -> u32 {
    #[expect(clippy::disallowed_methods, reason = "the one knob of the tests, documented in scripts/test")]
    std::env::var("COVALENCE_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

/// A port that nobody holds and that the kernel does not hand out by itself, so that it is still free after a restart.
fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 10_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes run side by side: each begins at another place.
    let begin = std::process::id().wrapping_mul(37) % u32::from(COUNT);
    let begin = u16::try_from(begin).expect("less than ten thousand");
    loop {
        let offset = (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if TcpListener::bind(("127.0.0.1", FIRST + offset)).is_ok() {
            return FIRST + offset;
        }
    }
}
