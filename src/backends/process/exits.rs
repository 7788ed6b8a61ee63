//! Sees processes end: one task a process waits on the kernel's handle for it, takes note of a child (so that no zombie
//! stays) and tells whoever listens.
//!
//! Works the same for our children and for adopted processes, except that only a parent learns an exit status.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use covalence_actors::effect::{BackendError, Signal};
use covalence_events::workspace::InstanceRef;
use covalence_events::{Generation, WorkspaceId};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::identity::{Identity, Presence};
use super::record::Exit;

/// Only where the kernel's handle can't be waited on: often enough to be a short delay, seldom enough to cost nothing.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// A process under watch.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    /// Becomes `Some` when the process has ended.
    pub(super) exit: watch::Receiver<Option<Exit>>,
    announced: watch::Sender<bool>,
}

impl Watched {
    /// Its end is news for the listener, also if it is over already. A start that fails at once is the starter's to tell.
    pub(super) fn announce(&self) {
        self.announced.send_replace(true);
    }

    /// Waits for the end, at most so long.
    pub(super) async fn ended_within(&self, limit: Duration) -> Option<Exit> {
        let mut exit = self.exit.clone();
        let ended = tokio::time::timeout(limit, exit.wait_for(Option::is_some)).await;
        ended.ok()?.ok()?.clone()
    }
}

/// Whose process a watched one is.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) workspace: WorkspaceId,
    pub(super) generation: Generation,
    pub(super) identity: Identity,
}

/// All watches of a backend, and the one listener.
#[derive(Debug)]
pub(super) struct Exits {
    runtime: Handle,
    watched: Mutex<HashMap<Identity, Watched>>,
    listener: Mutex<Option<mpsc::Sender<Signal>>>,
    missed: AtomicBool,
    gap: Notify,
}

impl Exits {
    pub(super) fn new(runtime: Handle) -> Self {
        Self {
            runtime,
            watched: Mutex::default(),
            listener: Mutex::default(),
            missed: AtomicBool::new(false),
            gap: Notify::new(),
        }
    }

    /// Starts to watch a process, or returns the watch that there is. `None` if it is gone already.
    /// `on_exit` runs once, after the listener was told if it is to be told by then.
    pub(super) fn watch<F>(
        self: &Arc<Self>,
        subject: &Subject,
        on_exit: impl FnOnce(Exit) -> F + Send + 'static,
    ) -> Result<Option<Watched>, BackendError>
    where
        F: Future<Output = ()> + Send,
    {
        let mut table = lock(&self.watched);
        if let Some(watched) = table.get(&subject.identity) {
            return Ok(Some(watched.clone()));
        }
        let Some(fd) = subject.identity.open()? else { return Ok(None) };
        let (ended, exit) = watch::channel(None);
        let (announced, mut is_news) = watch::channel(false);
        let watched = Watched { exit, announced };
        table.insert(subject.identity.clone(), watched.clone());
        drop(table);
        let (this, subject) = (Arc::clone(self), subject.clone());
        self.runtime.spawn(async move {
            let exit = wait(fd, &subject.identity).await;
            ended.send_replace(Some(exit.clone()));
            let told = *is_news.borrow();
            if told {
                this.tell(&subject, &exit);
            }
            on_exit(exit.clone()).await;
            lock(&this.watched).remove(&subject.identity);
            // Whoever is about to announce it still can; for the others the wait is over when they let go of it.
            if !told && is_news.wait_for(|is_news| *is_news).await.is_ok() {
                this.tell(&subject, &exit);
            }
        });
        Ok(Some(watched))
    }

    /// How a process ended, as long as that is not on disk yet.
    pub(super) fn exit_of(&self, identity: &Identity) -> Option<Exit> {
        lock(&self.watched).get(identity).and_then(|watched| watched.exit.borrow().clone())
    }

    /// Whether the process is under watch.
    pub(super) fn is_watched(&self, identity: &Identity) -> bool {
        lock(&self.watched).contains_key(identity)
    }

    /// Sets the listener.
    pub(super) fn listen(&self, signals: mpsc::Sender<Signal>) {
        *lock(&self.listener) = Some(signals);
        if self.missed.swap(false, Ordering::SeqCst) {
            self.gap.notify_one();
        }
    }

    /// Waits until signals were lost for want of room.
    pub(super) async fn gap(&self) {
        self.gap.notified().await;
    }

    fn tell(&self, subject: &Subject, exit: &Exit) {
        let signal = Signal::Exited {
            workspace: subject.workspace,
            generation: subject.generation,
            instance: InstanceRef { id: subject.identity.to_string() },
            exit_status: exit.status,
            detail: exit.detail(),
        };
        match &*lock(&self.listener) {
            Some(signals) if signals.try_send(signal).is_ok() => {}
            Some(_) => self.gap.notify_one(),
            None => self.missed.store(true, Ordering::SeqCst),
        }
    }
}

async fn wait(fd: OwnedFd, identity: &Identity) -> Exit {
    let kept = match fd.try_clone() {
        Ok(kept) => kept,
        Err(error) => {
            tracing::warn!(%identity, %error, "no handle left to learn an exit status with");
            poll_until_gone(identity).await;
            return Exit { status: None };
        }
    };
    match readable_handle(fd) {
        Ok(handle) if handle.readable().await.is_ok() => {}
        _ => {
            tracing::warn!(%identity, "the end of this process is polled for");
            poll_until_gone(identity).await;
        }
    }
    Exit { status: reap(&kept) }
}

/// Waits on the kernel's handle through the runtime's own event loop.
#[expect(
    deprecated,
    reason = "the replacement is unsafe, for types whose descriptor may change; an owned descriptor can't"
)]
fn readable_handle(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

async fn poll_until_gone(identity: &Identity) {
    while !matches!(identity.presence(), Ok(Presence::Gone(_))) {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Takes note of a dead child. `None` if it is not ours to know.
fn reap(fd: &OwnedFd) -> Option<i32> {
    let status = waitid(WaitId::PidFd(fd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).ok()??;
    status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal))
}

/// Whether all of these have ended, waiting at most so long.
pub(super) async fn gone_within(processes: &[Identity], limit: Duration) -> Result<bool, BackendError> {
    let deadline = Instant::now() + limit;
    for identity in processes {
        while identity.presence()? == Presence::Alive {
            let Some(fd) = identity.open()? else { break };
            let Ok(handle) = readable_handle(fd) else {
                return Ok(false);
            };
            if tokio::time::timeout_at(deadline, handle.readable()).await.is_err() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds these locks can leave the data half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// The end of a process that is killed right away, and what its watch tells once it was let go of.
    async fn end_of_one(announce: impl FnOnce(&Watched)) -> Option<Signal> {
        let exits = Arc::new(Exits::new(Handle::current()));
        let (tell, mut signals) = mpsc::channel(1);
        exits.listen(tell);
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let identity = Identity::of(i32::try_from(child.id()).unwrap()).unwrap().unwrap();
        let subject = Subject { workspace: WorkspaceId::generate(), generation: Generation(1), identity };
        let watched = exits.watch(&subject, |_| std::future::ready(())).unwrap().unwrap();
        child.kill().unwrap();
        assert_eq!(watched.ended_within(PATIENCE).await.unwrap().status, Some(137));
        assert!(child.wait().is_err(), "its watch has taken note of it");
        announce(&watched);
        drop(watched);
        // The wait of the task is over when it holds no sender any more.
        while Arc::strong_count(&exits) > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        signals.try_recv().ok()
    }

    #[tokio::test]
    async fn an_end_before_its_announcement_is_told_all_the_same() {
        assert!(matches!(end_of_one(Watched::announce).await, Some(Signal::Exited { .. })));
    }

    #[tokio::test]
    async fn an_end_that_nobody_announces_is_not_told() {
        assert_eq!(end_of_one(|_| ()).await, None);
    }
}
