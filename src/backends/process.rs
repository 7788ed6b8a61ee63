//! Workspaces as processes of this host: the backend that needs nothing else.
//!
//! # Guarantees
//! - Each workspace is one agent process in its own process group, working directory and log file. It outlives the
//!   platform: a restarted platform finds it by its record and adopts it.
//! - A process is named by number, start and boot, so that a number that is used again is never adopted or signalled.
//! - An end is seen at once, from the kernel's handle on the process; no zombie stays.
//!
//! # Caveats
//! - No isolation: agents run as the platform's own user, on its network, and without limits. What a tier promises and
//!   this backend can't give is listed as withheld.
//! - Linux only (`/proc`, process handles).

mod exits;
mod files;
mod identity;
mod launch;
mod logs;
mod observe;
mod record;
mod scan;
mod start;
mod stop;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use covalence_actors::effect::files::{FileError, FilePath, FoundFile, NewFile};
use covalence_actors::effect::{
    Backend, BackendError, Inspection, Listed, LogQuery, LogStream, ProvisionError, ProvisionSpec,
    Provisioned, Signal,
};
use covalence_events::workspace::{BackendKind, InstanceRef};
use covalence_events::{Generation, WorkspaceId};
use tokio::runtime::Handle;
use tokio::sync::{OwnedMutexGuard, mpsc};

use self::exits::{Exits, Subject, Watched};
use self::identity::{Identity, Presence};
use self::record::{Layout, Record, create_private, file_error};
use self::stop::Target;
use crate::backends::environment::CommonEnvironment;
use crate::runtimes::Runtimes;

/// Variables of the platform's own environment that its processes get too, so that programs find what a login shell
/// finds. The composition root puts them into [`CommonEnvironment::operator`]; nothing else of ours is inherited.
pub const PASSED_THROUGH: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];
/// The agent's program, as cargo names it.
const AGENT_PROGRAM: &str = "covalence-agent";
/// How often the size of logs is looked at: a talkative agent writes some megabytes meanwhile.
const LOG_LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// For a stranger that a person removes: what `docker stop` gives.
const STRANGER_GRACE: Duration = Duration::from_secs(10);

/// What the backend needs to know.
#[derive(Clone, Debug)]
pub struct ProcessSettings {
    /// Where the platform keeps its data; workspaces are below `workspaces/`. Absolute.
    pub data_dir: PathBuf,
    /// The platform's installation, which tells its processes from another's.
    pub platform_instance: String,
    /// Program and arguments that run a workspace; see [`agent_program`].
    pub agent: Vec<String>,
    /// The directory of templates.
    pub templates: Option<PathBuf>,
    /// What all workspaces find in their environment.
    pub environment: CommonEnvironment,
    /// What runtimes' names stand for.
    pub runtimes: Arc<Runtimes>,
}

/// Where the agent's program is: as configured, else beside our own, else wherever `PATH` has it.
pub fn agent_program(configured: Option<&Path>) -> PathBuf {
    let beside = || {
        let own = std::env::current_exe().ok()?;
        Some(own.parent()?.join(AGENT_PROGRAM)).filter(|path| path.is_file())
    };
    configured.map(Path::to_owned).or_else(beside).unwrap_or_else(|| PathBuf::from(AGENT_PROGRAM))
}

/// The adapter. Clones share everything.
#[derive(Clone, Debug)]
pub struct ProcessBackend {
    settings: Arc<ProcessSettings>,
    root: PathBuf,
    exits: Arc<Exits>,
    /// Starts and stops of one workspace follow each other. One entry a workspace ever seen; they are small.
    turns: Arc<Mutex<HashMap<WorkspaceId, Arc<tokio::sync::Mutex<()>>>>>,
}

impl ProcessBackend {
    /// A backend over the workspaces of this data directory, which is created if missing. Starts and adopts nothing.
    ///
    /// Must be called within a tokio runtime: the tasks that wait for processes run on it.
    pub fn new(settings: ProcessSettings) -> io::Result<Self> {
        let root = settings.data_dir.join("workspaces");
        create_private(&root)?;
        Ok(Self {
            settings: Arc::new(settings),
            root,
            exits: Arc::new(Exits::new(Handle::try_current().map_err(io::Error::other)?)),
            turns: Arc::default(),
        })
    }

    fn layout(&self, workspace: WorkspaceId) -> Layout {
        Layout::new(&self.root, workspace)
    }

    async fn turn(&self, workspace: WorkspaceId) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(workspace).or_default())
        };
        turn.lock_owned().await
    }

    /// Watches a process and puts its end on record. `None` if it is gone.
    fn watch_process(&self, record: &Record, identity: &Identity) -> Result<Option<Watched>, BackendError> {
        let subject = Subject {
            workspace: record.workspace,
            generation: record.generation,
            identity: identity.clone(),
        };
        let (this, ended) = (self.clone(), subject.clone());
        self.exits.watch(&subject, move |exit| async move {
            let _turn = this.turn(ended.workspace).await;
            let layout = this.layout(ended.workspace);
            let recorded = blocking(move || match Record::read(&layout)? {
                Some(mut record) if record.process.as_ref() == Some(&ended.identity) => {
                    record.exit = Some(exit);
                    record.write(&layout).map_err(|error| file_error("record an exit", &error))
                }
                _ => Ok(()),
            });
            if let Err(error) | Ok(Err(error)) = recorded.await {
                tracing::warn!(%error, "exit not recorded");
            }
        })
    }

    /// Watches what an earlier run of the platform started.
    fn adopt(&self, record: &Record, identity: &Identity) {
        if self.exits.is_watched(identity) {
            return;
        }
        match self.watch_process(record, identity) {
            Ok(Some(watched)) => watched.announce(),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, workspace = %record.workspace, "process can't be watched"),
        }
    }

    /// Ends a workspace up to a generation; the caller has its turn.
    async fn end(
        &self,
        workspace: WorkspaceId,
        up_to: Generation,
        grace: Duration,
    ) -> Result<(), BackendError> {
        let this = self.clone();
        let (target, is_covered) = blocking(move || this.target(workspace, up_to)).await?;
        stop::end(&target, grace).await?;
        if is_covered {
            let layout = self.layout(workspace);
            blocking(move || Record::remove(&layout)).await??;
        }
        Ok(())
    }

    /// Like [`ProcessBackend::end`], if there is nobody to end, as after a death; `false` if there is. Blocking.
    fn clear_if_alone(&self, workspace: WorkspaceId, up_to: Generation) -> Result<bool, BackendError> {
        let (target, is_covered) = self.target(workspace, up_to);
        let is_alone = target.members()?.is_empty();
        if is_alone && is_covered {
            Record::remove(&self.layout(workspace))?;
        }
        Ok(is_alone)
    }

    /// What is to end of a workspace, and whether its record goes with it. Blocking.
    fn target(&self, workspace: WorkspaceId, up_to: Generation) -> (Target, bool) {
        let (agent, is_covered) = match Record::read(&self.layout(workspace)) {
            Ok(Some(record)) => {
                let is_covered = record.generation <= up_to;
                (record.process.filter(|_| is_covered), is_covered)
            }
            Ok(None) => (None, false),
            // Found by their environment then.
            Err(error) => {
                tracing::warn!(%workspace, %error, "instance record not readable");
                (None, true)
            }
        };
        (Target { instance: self.settings.platform_instance.clone(), workspace, up_to, agent }, is_covered)
    }

    /// The directories of a workspace whose process runs. Blocking.
    fn running(&self, workspace: WorkspaceId) -> Result<files::Places, FileError> {
        let layout = self.layout(workspace);
        let record = Record::read(&layout)?.ok_or(FileError::NotRunning)?;
        match &record.process {
            Some(process) if process.presence()? == Presence::Alive => {
                Ok(files::Places::new(&layout, &record))
            }
            Some(_) | None => Err(FileError::NotRunning),
        }
    }

    async fn bound_logs(&self) {
        let this = self.clone();
        let looked = blocking(move || {
            for record in this.records()?.into_iter().filter_map(|(_, record)| record.ok()) {
                let logs = this.layout(record.workspace).logs();
                if let Err(error) = logs::bound(&logs, record.generation) {
                    tracing::warn!(workspace = %record.workspace, %error, "log not cut");
                }
            }
            Ok::<(), BackendError>(())
        });
        if let Err(error) | Ok(Err(error)) = looked.await {
            tracing::warn!(%error, "logs not looked at");
        }
    }
}

#[async_trait]
impl Backend for ProcessBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::Process
    }

    async fn provision(&self, spec: &ProvisionSpec) -> Result<Provisioned, ProvisionError> {
        let _turn = self.turn(spec.workspace).await;
        self.start(spec).await
    }

    async fn find(&self, workspace: WorkspaceId, generation: Generation) -> Inspection {
        let this = self.clone();
        flatten(blocking(move || this.find_generation(workspace, generation)).await)
    }

    async fn inspect(&self, workspace: WorkspaceId, instance: &InstanceRef) -> Inspection {
        let (this, instance) = (self.clone(), instance.clone());
        flatten(blocking(move || this.inspect_instance(workspace, &instance)).await)
    }

    async fn list(&self) -> Result<Vec<Listed>, BackendError> {
        let this = self.clone();
        blocking(move || this.list_all()).await?
    }

    async fn stop(
        &self,
        workspace: WorkspaceId,
        generation: Generation,
        grace: Duration,
    ) -> Result<(), BackendError> {
        let _turn = self.turn(workspace).await;
        self.end(workspace, generation, grace).await
    }

    async fn purge(&self, workspace: WorkspaceId) -> Result<(), BackendError> {
        let _turn = self.turn(workspace).await;
        let layout = self.layout(workspace);
        blocking(move || {
            let running = match Record::read(&layout) {
                Ok(Some(Record { process: Some(process), .. })) => process.presence()? == Presence::Alive,
                _ => false,
            };
            if running {
                let detail = "the workspace still runs; stop it before its files are removed".to_owned();
                return Err(BackendError { code: "running", detail });
            }
            match std::fs::remove_dir_all(&layout.directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(file_error("remove the workspace's files", &error))
                }
                _ => Ok(()),
            }
        })
        .await?
    }

    async fn remove_stranger(&self, instance: &InstanceRef) -> Result<(), BackendError> {
        let identity: Identity = instance.id.parse()?;
        let (named, name) = (identity.clone(), self.settings.platform_instance.clone());
        let ours = blocking(move || {
            let owner = scan::owner(named.pid, &name, &mut Vec::with_capacity(scan::ENVIRONMENT_BYTES));
            // Looked at afterwards: then the environment was this very process's.
            Ok::<_, BackendError>((named.presence()? == Presence::Alive).then_some(owner))
        })
        .await??;
        match ours {
            None => Ok(()),
            Some(None) => Err(BackendError {
                code: "refused",
                detail: "that process was not started by this platform".to_owned(),
            }),
            Some(Some((workspace, up_to))) => {
                let _turn = self.turn(workspace).await;
                let instance = self.settings.platform_instance.clone();
                stop::end(&Target { instance, workspace, up_to, agent: Some(identity) }, STRANGER_GRACE).await
            }
        }
    }

    async fn watch(&self, signals: mpsc::Sender<Signal>) {
        self.exits.listen(signals.clone());
        let this = self.clone();
        if let Err(error) | Ok(Err(error)) = blocking(move || this.adopt_all()).await {
            tracing::warn!(%error, "running processes not adopted");
            // The comparison by list adopts them one by one.
            let _ = signals.send(Signal::Gap).await;
        }
        let mut look = tokio::time::interval(LOG_LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = signals.closed() => return,
                () = self.exits.gap() => {
                    if signals.send(Signal::Gap).await.is_err() {
                        return;
                    }
                }
                _ = look.tick() => self.bound_logs().await,
            }
        }
    }

    async fn logs(&self, workspace: WorkspaceId, query: LogQuery) -> Result<LogStream, BackendError> {
        logs::stream(self.layout(workspace).logs(), query).await
    }

    async fn put_files(&self, workspace: WorkspaceId, files: Vec<NewFile>) -> Result<(), FileError> {
        let this = self.clone();
        blocking(move || files::put(&this.running(workspace)?, &files)).await?
    }

    async fn open_file(&self, workspace: WorkspaceId, path: &FilePath) -> Result<FoundFile, FileError> {
        let (this, path) = (self.clone(), path.clone());
        blocking(move || files::open(&this.running(workspace)?, &path)).await?
    }
}

fn flatten(looked: Result<Result<Inspection, BackendError>, BackendError>) -> Inspection {
    match looked {
        Ok(Ok(inspection)) => inspection,
        Ok(Err(error)) | Err(error) => Inspection::Unknown(error),
    }
}

/// Runs what may block (files, `/proc`, starting a process) away from the tasks that must not.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, BackendError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| BackendError {
        code: "panicked",
        detail: format!("the work did not finish: {error}"),
    })
}
