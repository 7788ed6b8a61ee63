//! The suite that every [`Backend`](super::Backend) that runs something passes, on the real thing.
//!
//! An adapter gives a [`Fixture`] and calls [`every_case`], or one case a test. Each case uses a workspace of its own and
//! removes it, so cases may run side by side. A failed expectation panics with what was seen.

#![expect(clippy::panic, reason = "a suite for tests: a broken promise is a failed test")]

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use covalence_events::workspace::InstanceRef;
use covalence_events::{Generation, WorkspaceId};
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::files::{FileError, FilePath, NewFile};
use super::{Backend, Inspection, Listed, ListedState, LogQuery, ProvisionSpec, Provisioned, Signal};

/// Longer than any engine needs for what a case waits for; reached only by a failing test.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a condition is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// The grace given to instances: short, since theirs is not what is tested.
const GRACE: Duration = Duration::from_secs(2);
/// More signals than any case causes.
const SIGNALS: usize = 64;

/// What the suite needs of an adapter under test.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// A backend over the fixture's state. Each call is a platform that was started anew.
    async fn backend(&self) -> Arc<dyn Backend>;

    /// A workspace that runs until it is stopped, and prints [`Fixture::output`] at its start.
    fn spec(&self, workspace: WorkspaceId, generation: Generation) -> ProvisionSpec;

    /// What instances print.
    fn output(&self) -> &'static str;

    /// Kills an instance with SIGKILL, behind the backend's back.
    async fn kill(&self, instance: &InstanceRef);

    /// Makes the engine not answer. `false` if that can't be arranged; then the cases about it are left out.
    async fn break_engine(&self) -> bool {
        false
    }

    /// Undoes [`Fixture::break_engine`].
    async fn repair_engine(&self) {}
}

/// Runs every case, one after the other.
pub async fn every_case(fixture: &dyn Fixture) {
    provisioning_twice_starts_once(fixture).await;
    an_instance_is_found_by_its_generation_only(fixture).await;
    a_killed_instance_is_not_there_and_its_exit_is_told(fixture).await;
    stopping_what_is_not_there_is_fine(fixture).await;
    stopping_an_older_generation_leaves_a_newer_one(fixture).await;
    a_newer_generation_replaces_an_older_one(fixture).await;
    a_list_names_workspace_generation_and_instance(fixture).await;
    logs_hold_the_output(fixture).await;
    files_go_into_what_runs_and_come_out_of_it(fixture).await;
    a_restarted_platform_finds_the_same_instance_and_sees_it_end(fixture).await;
    purging_leaves_nothing(fixture).await;
    an_engine_that_does_not_answer_proves_nothing(fixture).await;
}

/// `provision` is idempotent by (workspace, generation).
pub async fn provisioning_twice_starts_once(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let first = case.provision(1).await;
    let second = case.provision(1).await;
    assert_eq!(first, second, "the second call answers what runs");
    assert_eq!(case.listed().await.len(), 1, "one instance, not two");
    case.over().await;
}

/// `find` answers for the generation that was asked for, and for no other.
pub async fn an_instance_is_found_by_its_generation_only(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let started = case.provision(2).await;
    expect_running(case.backend.find(case.workspace, Generation(2)).await, &started);
    for other in [1, 3] {
        expect_not_there(&case.backend.find(case.workspace, Generation(other)).await);
    }
    expect_not_there(&case.backend.find(WorkspaceId::generate(), Generation(2)).await);
    expect_running(case.backend.inspect(case.workspace, &instance(&started)).await, &started);
    case.over().await;
}

/// A death from outside is seen at once, and an inspect proves it.
pub async fn a_killed_instance_is_not_there_and_its_exit_is_told(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let mut signals = case.watch().await;
    let killed = instance(&case.provision(1).await);
    fixture.kill(&killed).await;
    let status = case.exit_told(&mut signals, &killed).await;
    assert_eq!(status, Some(137), "killed by signal 9");
    let found = case.until_not_there(&killed).await;
    assert!(matches!(found, Inspection::NotThere { exit_status: Some(137), .. }), "{found:?}");
    case.over().await;
}

/// `stop` is `Ok` where there is nothing, and stops what there is.
pub async fn stopping_what_is_not_there_is_fine(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    case.stop(5).await;
    let started = instance(&case.provision(1).await);
    case.stop(1).await;
    expect_not_there(&case.backend.inspect(case.workspace, &started).await);
    case.stop(1).await;
    case.over().await;
}

/// `stop` reaches up to the generation that it names.
pub async fn stopping_an_older_generation_leaves_a_newer_one(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let started = case.provision(3).await;
    case.stop(2).await;
    expect_running(case.backend.inspect(case.workspace, &instance(&started)).await, &started);
    case.over().await;
}

/// Leftovers of older generations are stopped and removed first.
pub async fn a_newer_generation_replaces_an_older_one(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let older = instance(&case.provision(1).await);
    let newer = instance(&case.provision(2).await);
    assert_ne!(older, newer);
    expect_not_there(&case.backend.inspect(case.workspace, &older).await);
    let listed = case.listed().await;
    assert_eq!(listed.len(), 1, "only the newer one: {listed:?}");
    assert_eq!(listed[0].instance, newer);
    case.over().await;
}

/// `list` carries what identifies an instance, also when it has stopped.
pub async fn a_list_names_workspace_generation_and_instance(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let started = case.provision(4).await;
    let killed = instance(&started);
    let listed = case.listed().await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0].generation, Some(Generation(4)));
    assert_eq!(listed[0].instance, killed);
    assert_eq!(listed[0].state, ListedState::Running);
    assert_eq!(listed[0].url, started.url);
    fixture.kill(&killed).await;
    case.until("the list shows no running instance", async || {
        let listed = case.listed().await;
        (!listed.iter().any(|one| one.state == ListedState::Running)).then_some(()).ok_or(listed)
    })
    .await;
    case.over().await;
}

/// `logs` gives the output, wholly and its end.
pub async fn logs_hold_the_output(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    case.provision(1).await;
    for query in [LogQuery::default(), LogQuery { tail: Some(50), ..LogQuery::default() }] {
        case.until("the log holds the output", async || {
            let text = case.log(query.clone()).await;
            text.contains(fixture.output()).then_some(()).ok_or(text)
        })
        .await;
    }
    case.over().await;
}

/// What is put in is read again, byte by byte; what is not there, is no file or does not run is told apart.
pub async fn files_go_into_what_runs_and_come_out_of_it(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let path = |text: &str| FilePath::parse(text).expect("a path of the contract");
    let large: Bytes = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let files = [("/workspace/in/here/a b.txt", Bytes::from_static(b"words")), ("/workspace/large", large)];
    let files = files.map(|(text, body)| NewFile { path: path(text), body });
    assert_eq!(case.backend.put_files(case.workspace, files.to_vec()).await, Err(FileError::NotRunning));
    case.provision(1).await;
    case.backend.put_files(case.workspace, files.to_vec()).await.expect("files go in");
    for NewFile { path, body } in &files {
        let found = case.backend.open_file(case.workspace, path).await.expect("the file comes out");
        assert_eq!(found.bytes, body.len() as u64, "{path}");
        let read: Vec<Bytes> = found.body.map(|piece| piece.expect("it is read")).collect().await;
        assert_eq!(read.concat(), *body, "{path}");
    }
    for (text, expected) in [
        ("/workspace/in", FileError::NotRegular),
        ("/workspace/missing", FileError::NotFound),
        ("/workspace/large/below", FileError::NotFound),
    ] {
        let found = case.backend.open_file(case.workspace, &path(text)).await;
        assert_eq!(found.map(|found| found.bytes), Err(expected), "{text}");
    }
    case.stop(1).await;
    let gone = case.backend.open_file(case.workspace, &files[0].path).await;
    assert_eq!(gone.map(|found| found.bytes), Err(FileError::NotRunning));
    case.over().await;
}

/// A restart of the platform adopts what runs, under the same name, and sees it end.
pub async fn a_restarted_platform_finds_the_same_instance_and_sees_it_end(fixture: &dyn Fixture) {
    let mut case = Case::new(fixture).await;
    let started = case.provision(1).await;
    case.backend = fixture.backend().await;
    expect_running(case.backend.find(case.workspace, Generation(1)).await, &started);
    assert_eq!(case.provision(1).await, started, "adopted, not started again");
    let mut signals = case.watch().await;
    let killed = instance(&started);
    // The list makes sure that the watch covers it.
    assert_eq!(case.listed().await.len(), 1);
    fixture.kill(&killed).await;
    case.exit_told(&mut signals, &killed).await;
    case.until_not_there(&killed).await;
    case.over().await;
}

/// `purge` removes what a stopped workspace left; without anything there it is `Ok`.
pub async fn purging_leaves_nothing(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    case.provision(1).await;
    case.stop(1).await;
    case.purge().await;
    case.purge().await;
    assert_eq!(case.listed().await, Vec::new());
    assert!(case.backend.logs(case.workspace, LogQuery::default()).await.is_err(), "its logs are gone");
}

/// Every error is *unknown*: while the engine does not answer nothing is found dead.
pub async fn an_engine_that_does_not_answer_proves_nothing(fixture: &dyn Fixture) {
    let case = Case::new(fixture).await;
    let started = case.provision(1).await;
    if fixture.break_engine().await {
        let inspected = case.backend.inspect(case.workspace, &instance(&started)).await;
        let found = case.backend.find(case.workspace, Generation(1)).await;
        let listed = case.backend.list().await;
        fixture.repair_engine().await;
        assert!(matches!(inspected, Inspection::Unknown(_)), "{inspected:?}");
        assert!(matches!(found, Inspection::Unknown(_)), "{found:?}");
        assert!(listed.is_err(), "{listed:?}");
        expect_running(case.backend.inspect(case.workspace, &instance(&started)).await, &started);
    }
    case.over().await;
}

/// One workspace of one case.
struct Case<'a> {
    fixture: &'a dyn Fixture,
    backend: Arc<dyn Backend>,
    workspace: WorkspaceId,
}

impl<'a> Case<'a> {
    async fn new(fixture: &'a dyn Fixture) -> Self {
        Self { fixture, backend: fixture.backend().await, workspace: WorkspaceId::generate() }
    }

    async fn provision(&self, generation: u64) -> Provisioned {
        let spec = self.fixture.spec(self.workspace, Generation(generation));
        match self.backend.provision(&spec).await {
            Ok(provisioned) => provisioned,
            Err(error) => panic!("generation {generation} did not start: {error:?}"),
        }
    }

    async fn stop(&self, generation: u64) {
        let stopped = self.backend.stop(self.workspace, Generation(generation), GRACE).await;
        assert_eq!(stopped, Ok(()), "stop of generation {generation}");
    }

    async fn purge(&self) {
        assert_eq!(self.backend.purge(self.workspace).await, Ok(()), "purge");
    }

    async fn over(self) {
        self.stop(u64::MAX).await;
        self.purge().await;
    }

    /// What the list says of this workspace.
    async fn listed(&self) -> Vec<Listed> {
        match self.backend.list().await {
            Ok(all) => all.into_iter().filter(|one| one.workspace == Some(self.workspace)).collect(),
            Err(error) => panic!("no list: {error:?}"),
        }
    }

    async fn watch(&self) -> mpsc::Receiver<Signal> {
        let (tell, signals) = mpsc::channel(SIGNALS);
        let backend = Arc::clone(&self.backend);
        let mut watching = Box::pin(async move { backend.watch(tell).await });
        // What ends before it is there is a gap to it, not an exit.
        tokio::select! {
            biased;
            () = &mut watching => panic!("a watch ends with its receiver"),
            () = std::future::ready(()) => {}
        }
        tokio::spawn(watching);
        signals
    }

    async fn exit_told(&self, signals: &mut mpsc::Receiver<Signal>, wanted: &InstanceRef) -> Option<i32> {
        let told = async {
            while let Some(signal) = signals.recv().await {
                if let Signal::Exited { workspace, instance, exit_status, .. } = signal
                    && workspace == self.workspace
                    && instance == *wanted
                {
                    return Some(exit_status);
                }
            }
            None
        };
        match tokio::time::timeout(PATIENCE, told).await {
            Ok(Some(status)) => status,
            Ok(None) => panic!("the watch ended without the exit of {wanted:?}"),
            Err(elapsed) => panic!("{elapsed}: the exit of {wanted:?} was not told within {PATIENCE:?}"),
        }
    }

    async fn until_not_there(&self, instance: &InstanceRef) -> Inspection {
        self.until("the instance is not there", async || {
            match self.backend.inspect(self.workspace, instance).await {
                gone @ Inspection::NotThere { .. } => Ok(gone),
                other @ (Inspection::Running(_) | Inspection::Unknown(_)) => Err(other),
            }
        })
        .await
    }

    async fn log(&self, query: LogQuery) -> String {
        let mut chunks = match self.backend.logs(self.workspace, query).await {
            Ok(chunks) => chunks,
            Err(error) => return error.to_string(),
        };
        let mut text = String::new();
        while let Some(chunk) = chunks.next().await {
            match chunk {
                Ok(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
                Err(error) => return error.to_string(),
            }
        }
        text
    }

    /// Waits for a condition; `Err` is what was seen instead.
    async fn until<T, S: Debug>(&self, what: &str, mut look: impl AsyncFnMut() -> Result<T, S>) -> T {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match look().await {
                Ok(value) => return value,
                Err(seen) if tokio::time::Instant::now() > deadline => {
                    panic!("not within {PATIENCE:?}: {what}; last seen: {seen:?}")
                }
                Err(_) => tokio::time::sleep(LOOK_INTERVAL).await,
            }
        }
    }
}

fn instance(provisioned: &Provisioned) -> InstanceRef {
    match &provisioned.instance {
        Some(instance) => instance.clone(),
        None => panic!("no instance in {provisioned:?}"),
    }
}

fn expect_running(found: Inspection, started: &Provisioned) {
    match found {
        Inspection::Running(running) => {
            assert_eq!(running.instance, started.instance);
            assert_eq!(running.url, started.url);
        }
        other @ (Inspection::NotThere { .. } | Inspection::Unknown(_)) => panic!("not running: {other:?}"),
    }
}

fn expect_not_there(found: &Inspection) {
    assert!(matches!(found, Inspection::NotThere { .. }), "expected not there: {found:?}");
}
