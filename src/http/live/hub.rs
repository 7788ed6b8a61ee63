//! Who listens, and what each of them gets: one reader of the log, one encoding of each event, a bounded queue for each
//! listener.
//!
//! # Guarantees
//! - A listener gets every event that it may see after the position that it begins at, in the log's order, each once.
//! - A slow listener holds up nobody: when its queue is full it is let go with the reason, and goes on from the last
//!   position that it got.
//! - A token that is revoked ends what it opened.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use covalence_events::log::{EventLog, ReadError, Subscription};
use covalence_events::pulse::Pulse;
use covalence_events::workspace::Event;
use covalence_events::{Fact, Position, Recorded, TokenId, WorkspaceId, fleet};
use covalence_projections::Views;
use covalence_projections::live::{Teller, Told};
use covalence_projections::roster::{Removed, RootTalk};
use tokio::sync::mpsc;

use super::frame;

/// Events that wait for one listener. Half a minute of a busy fleet, and well under a megabyte.
pub const QUEUE: usize = 1024;
/// Facts read at a time.
const BATCH: usize = 256;
/// Between two batches where events come thick: what happens meanwhile goes out in one write for each listener, which costs
/// far more than the events in it. An event after a quiet while waits for nothing.
const REST: std::time::Duration = std::time::Duration::from_millis(20);
/// Pause before the log is read again after its store failed.
const READ_RETRY: std::time::Duration = std::time::Duration::from_millis(500);

/// What a listener may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    /// Everything: the operator and his canvas.
    All,
    /// Whom this workspace may talk with, itself included.
    Team(WorkspaceId),
    /// This workspace only.
    One(WorkspaceId),
}

impl Sees {
    /// Whether events of a workspace are told, as the hierarchy is now.
    pub fn admits(self, workspace: WorkspaceId, views: &Views) -> bool {
        match self {
            Self::All => true,
            Self::One(own) => own == workspace,
            Self::Team(own) => {
                own == workspace
                    || views.roster.read().can_communicate(own, workspace, RootTalk::Open).allowed
            }
        }
    }
}

/// How an event is written down for a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// A text frame of a web socket.
    Socket,
    /// An event of an event stream.
    Events,
}

/// Why a listener was let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its queue was full.
    Slow,
    /// Its token is worthless.
    Revoked,
    /// The platform goes down.
    Leaving,
}

impl Reason {
    /// For people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slow => "too slow: come back with `after`",
            Self::Revoked => "token revoked",
            Self::Leaving => "the platform goes down",
        }
    }
}

/// How a listener ended, and how far it got.
#[derive(Debug, Default)]
pub struct End {
    reason: OnceLock<Reason>,
    last: AtomicU64,
}

impl End {
    /// Why it was let go, if it was.
    pub fn reason(&self) -> Option<Reason> {
        self.reason.get().copied()
    }

    /// The last position that it was given.
    pub fn last(&self) -> Position {
        Position(self.last.load(Ordering::Relaxed))
    }
}

struct Listener {
    id: u64,
    sees: Sees,
    wire: Wire,
    token: Option<TokenId>,
    queue: mpsc::Sender<Bytes>,
    end: Arc<End>,
    /// Whom it may talk with, as far as somebody asked since the hierarchy last changed.
    allowed: HashMap<WorkspaceId, bool>,
}

/// What a new listener holds.
#[derive(Debug)]
pub struct Listening {
    /// Its name, to end it by.
    pub id: u64,
    /// What it gets.
    pub queue: mpsc::Receiver<Bytes>,
    /// How it ended.
    pub end: Arc<End>,
    /// Everything up to here was told before it came.
    pub from: Position,
}

#[derive(Default)]
struct Inner {
    listeners: Vec<Listener>,
    next: u64,
    teller: Teller,
    at: Position,
    closed: bool,
}

/// See the module.
#[derive(Default)]
pub struct Hub(Mutex<Inner>);

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("listeners", &self.lock().listeners.len()).finish_non_exhaustive()
    }
}

impl Hub {
    /// Begins to listen; none once the platform goes down.
    pub fn listen(&self, sees: Sees, wire: Wire, token: Option<TokenId>) -> Option<Listening> {
        let mut inner = self.lock();
        if inner.closed {
            return None;
        }
        let (sender, queue) = mpsc::channel(QUEUE);
        let (id, end, from) = (inner.next, Arc::new(End::default()), inner.at);
        end.last.store(from.0, Ordering::Relaxed);
        inner.next += 1;
        let allowed = HashMap::new();
        inner.listeners.push(Listener {
            id,
            sees,
            wire,
            token,
            queue: sender,
            end: Arc::clone(&end),
            allowed,
        });
        Some(Listening { id, queue, end, from })
    }

    /// Gives one listener something of its own; it is let go if it can't take it.
    pub fn send_to(&self, id: u64, bytes: &Bytes) {
        let mut inner = self.lock();
        inner
            .listeners
            .retain(|listener| listener.id != id || listener.queue.try_send(Bytes::clone(bytes)).is_ok());
    }

    /// Ends one listener.
    pub fn leave(&self, id: u64) {
        self.lock().listeners.retain(|listener| listener.id != id);
    }

    /// How many listen.
    pub fn len(&self) -> usize {
        self.lock().listeners.len()
    }

    /// How many of them listen at a web socket.
    pub fn sockets(&self) -> usize {
        self.lock().listeners.iter().filter(|listener| listener.wire == Wire::Socket).count()
    }

    /// Whether nobody listens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What to say about facts that are over, for who comes back.
    pub fn teller(&self) -> Teller {
        self.lock().teller.looking_back()
    }

    /// Lets everybody go.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        for listener in inner.listeners.drain(..) {
            let _ = listener.end.reason.set(Reason::Leaving);
        }
    }

    /// Follows the log until it is closed.
    pub async fn follow(&self, log: Arc<dyn EventLog>, views: Arc<Views>, pulse: &Pulse) {
        {
            let structure = views.structure.read();
            let mut inner = self.lock();
            let rows = views.roster.read().list(Removed::Show);
            let tasks = rows.into_iter().filter(|row| !row.current_task.is_empty());
            let tasks = tasks.map(|row| (row.id, row.current_task.clone())).collect();
            inner.teller = Teller::from(structure.moment().clone(), tasks);
            inner.at = views.structure.checkpoint();
        }
        loop {
            let next = self.lock().at.next();
            let mut subscription = Subscription::new(Arc::clone(&log), next);
            match self.tail(&mut subscription, &views, pulse).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(%error, "reading the log failed, trying again");
                    tokio::time::sleep(READ_RETRY).await;
                }
            }
        }
    }

    async fn tail(
        &self,
        subscription: &mut Subscription,
        views: &Views,
        pulse: &Pulse,
    ) -> Result<(), ReadError> {
        while let Some(batch) = pulse.waiting(subscription.next(BATCH), || true).await? {
            let is_heard = {
                let mut inner = self.lock();
                inner.take(&batch, views);
                !inner.listeners.is_empty()
            };
            // A full batch says that there is more to catch up with.
            if is_heard && batch.len() < BATCH {
                tokio::time::sleep(REST).await;
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing under the lock leaves a change half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn take(&mut self, batch: &[Arc<Recorded>], views: &Views) {
        let mut told = Vec::new();
        for recorded in batch {
            told.extend(self.teller.tell(recorded));
            self.at = recorded.position;
            // What was told so far goes to those who could see it then.
            match (&recorded.fact, recorded.subject()) {
                (Fact::Workspace(event), Some(workspace)) => {
                    if let Event::Created(_) | Event::Moved(_) | Event::Removed(_) = event {
                        self.publish(&mut told, views);
                        self.listeners.iter_mut().for_each(|listener| listener.allowed.clear());
                    }
                    if let Event::TokensRevoked(_) | Event::Removed(_) = event {
                        self.publish(&mut told, views);
                        self.revoke(workspace, event);
                    }
                }
                (Fact::Fleet(fleet::Event::OrgTokenRevoked(e)), _) => {
                    self.publish(&mut told, views);
                    self.end(|listener| listener.token == Some(e.token));
                }
                _ => {}
            }
        }
        self.publish(&mut told, views);
    }

    /// Gives each listener all that it may see of these, before the next listener's turn: whoever is woken by the first of
    /// them finds the others beside it.
    fn publish(&mut self, told: &mut Vec<Told>, views: &Views) {
        if told.is_empty() {
            return;
        }
        let (mut socket, mut events) = (Vec::new(), Vec::new());
        self.listeners.retain_mut(|listener| {
            let made = match listener.wire {
                Wire::Socket => &mut socket,
                Wire::Events => &mut events,
            };
            if made.is_empty() {
                made.extend(told.iter().map(|one| frame::of(listener.wire, one)));
            }
            told.iter().zip(made).all(|(one, bytes)| listener.offer(one, bytes, views))
        });
        told.clear();
    }

    fn revoke(&mut self, workspace: WorkspaceId, event: &Event) {
        let ended: Option<&[TokenId]> = match event {
            Event::TokensRevoked(e) => Some(&e.tokens),
            Event::Removed(_) => Some(&[]),
            _ => None,
        };
        let Some(tokens) = ended else { return };
        self.end(|listener| {
            let is_own = matches!(listener.sees, Sees::Team(own) | Sees::One(own) if own == workspace);
            is_own && listener.token.is_some_and(|token| tokens.is_empty() || tokens.contains(&token))
        });
    }

    /// Lets those go whose token is worthless.
    fn end(&mut self, is_over: impl Fn(&Listener) -> bool) {
        self.listeners.retain(|listener| {
            let is_over = is_over(listener);
            if is_over {
                let _ = listener.end.reason.set(Reason::Revoked);
            }
            !is_over
        });
    }
}

impl Listener {
    /// Queues an event if it may see it; whether it goes on listening.
    fn offer(&mut self, told: &Told, bytes: &Bytes, views: &Views) -> bool {
        if !self.may_see(told.workspace, views) {
            return true;
        }
        match self.queue.try_send(Bytes::clone(bytes)) {
            Ok(()) => {
                self.end.last.store(told.position.0, Ordering::Relaxed);
                true
            }
            Err(mpsc::error::TrySendError::Full(_)) => {
                let _ = self.end.reason.set(Reason::Slow);
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    fn may_see(&mut self, workspace: WorkspaceId, views: &Views) -> bool {
        let sees = self.sees;
        match sees {
            // Only this asks the roster, which others wait for.
            Sees::Team(_) => *self.allowed.entry(workspace).or_insert_with(|| sees.admits(workspace, views)),
            Sees::All | Sees::One(_) => sees.admits(workspace, views),
        }
    }
}
