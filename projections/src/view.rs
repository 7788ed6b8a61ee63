//! One projection with its checkpoint: folded, followed, read, and replaced by a fresh one beside it.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use covalence_events::{Position, Recorded};
use tokio::sync::watch;

use crate::metrics as names;
use crate::projection::Projection;

/// Why a projection does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stalled {
    /// The fact that it could not apply, or could not be read.
    pub position: Position,
    /// Why.
    pub reason: String,
}

/// One projection's state as `/ready` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: u32,
    /// The last fact that it has taken in.
    pub checkpoint: Position,
    /// Facts in the log after that.
    pub lag: u64,
    /// Why it stopped, if it did.
    pub stalled: Option<Stalled>,
}

/// What a state comes to: two folds of the same facts have the same hash at the same position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// The last fact that it has taken in.
    pub position: Position,
    /// Hex of the BLAKE3 of the state.
    pub hash: String,
}

/// A state as a snapshot keeps it.
#[derive(Clone, Debug)]
pub(crate) struct EncodedState {
    pub(crate) name: &'static str,
    pub(crate) version: u32,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Inner<P> {
    state: P,
    at: Position,
    /// The last fact that it was offered, also where it is stopped.
    offered: Position,
    stalled: Option<Stalled>,
}

/// See the module.
pub struct View<P> {
    inner: RwLock<Inner<P>>,
    checkpoint: watch::Sender<Position>,
}

impl<P> fmt::Debug for View<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("checkpoint", &*self.checkpoint.borrow()).finish_non_exhaustive()
    }
}

impl<P: Projection> Default for View<P> {
    fn default() -> Self {
        Self::restored(P::default(), Position(0))
    }
}

/// A look at a projection. Short: the writer waits for it. Never kept across an `.await`.
#[derive(Debug)]
pub struct Reading<'a, P>(RwLockReadGuard<'a, Inner<P>>);

impl<P> std::ops::Deref for Reading<'_, P> {
    type Target = P;

    fn deref(&self) -> &P {
        &self.0.state
    }
}

impl<P: Projection> View<P> {
    /// A state that is known to be the one at this position.
    pub(crate) fn restored(state: P, at: Position) -> Self {
        let inner = Inner { state, at, offered: at, stalled: None };
        Self { inner: RwLock::new(inner), checkpoint: watch::Sender::new(at) }
    }

    /// A look at it as it is.
    pub fn read(&self) -> Reading<'_, P> {
        Reading(self.look())
    }

    fn look(&self) -> RwLockReadGuard<'_, Inner<P>> {
        // Only a panic inside a fold poisons; what it left is still the last thing known.
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last fact that it has taken in.
    pub fn checkpoint(&self) -> Position {
        *self.checkpoint.borrow()
    }

    /// Tells of each new checkpoint. A wake-up, not a queue.
    pub fn watch(&self) -> watch::Receiver<Position> {
        self.checkpoint.subscribe()
    }

    /// Why it stopped, if it did.
    pub fn stalled(&self) -> Option<Stalled> {
        self.look().stalled.clone()
    }

    /// Another one that is like it, and goes its own way from here.
    pub(crate) fn fork(&self) -> Self {
        let inner = self.look().clone();
        let at = inner.at;
        Self { inner: RwLock::new(inner), checkpoint: watch::Sender::new(at) }
    }

    pub(crate) fn fold(&mut self, recorded: &Recorded) {
        self.inner.get_mut().unwrap_or_else(PoisonError::into_inner).take(recorded);
    }

    /// Tampers with it.
    #[cfg(test)]
    pub(crate) fn change(&self, change: impl FnOnce(&mut P)) {
        change(&mut self.inner.write().unwrap_or_else(PoisonError::into_inner).state);
    }

    pub(crate) fn apply(&self, batch: &[Arc<Recorded>]) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let went_on = inner.stalled.is_none();
        let applied: u64 = batch.iter().map(|recorded| u64::from(inner.take(recorded))).sum();
        let (at, stalled) = (inner.at, inner.stalled.clone().filter(|_| went_on));
        drop(inner);
        if let Some(stalled) = stalled {
            loud::<P>(&stalled);
        }
        metrics::counter!(names::APPLIED, names::PROJECTION => P::NAME).increment(applied);
        self.checkpoint.send_replace(at);
    }
}

impl<P: Projection> Inner<P> {
    /// Whether the fact was new and was applied.
    fn take(&mut self, recorded: &Recorded) -> bool {
        self.offered = self.offered.max(recorded.position);
        if recorded.position <= self.at || self.stalled.is_some() {
            return false;
        }
        match self.state.apply(recorded) {
            Ok(()) => {
                self.at = recorded.position;
                true
            }
            Err(error) => {
                self.stalled = Some(Stalled { position: recorded.position, reason: error.to_string() });
                false
            }
        }
    }
}

/// Says that a projection which somebody relies on has stopped. What is folded aside says it to who asked for it.
fn loud<P: Projection>(stalled: &Stalled) {
    tracing::error!(projection = P::NAME, position = stalled.position.0, reason = %stalled.reason,
        "projection stopped: it answers with what it knew before this fact");
    metrics::gauge!(names::STALLED, names::PROJECTION => P::NAME).set(1.0);
}

/// Any projection, where which one it is makes no difference.
pub(crate) trait AnyView: Send + Sync {
    /// Its name.
    fn name(&self) -> &'static str;
    /// How it fares, against the log's head.
    fn health(&self, head: Position) -> Health;
    /// Tells waiters where it is.
    fn publish(&self);
    /// From here on somebody relies on it.
    fn serve(&self);
    /// Stops it.
    fn stop(&self, stalled: &Stalled);
    /// Takes in one fact, without a lock.
    fn fold_one(&mut self, recorded: &Recorded);
    /// Another one that is like it.
    fn fork_any(&self) -> Box<dyn AnyView>;
    /// An empty one of the same kind.
    fn fresh(&self) -> Box<dyn AnyView>;
    /// Its state as bytes, and the position that it is of.
    fn encode(&self) -> Result<(Position, EncodedState), String>;
    /// The last fact that it was offered.
    fn offered(&self) -> Position;
    /// Takes the place of what this one knows, if the other is not behind; gives it back if it is.
    fn replace(&self, by: Box<dyn AnyView>) -> Result<(), Box<dyn AnyView>>;
    /// For [`AnyView::replace`].
    fn into_any(self: Box<Self>) -> Box<dyn Any>;

    /// What its state comes to.
    fn fingerprint(&self) -> Result<Fingerprint, String> {
        let (position, state) = self.encode()?;
        Ok(Fingerprint { position, hash: blake3::hash(&state.bytes).to_hex().to_string() })
    }
}

impl<P: Projection> AnyView for View<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn health(&self, head: Position) -> Health {
        let inner = self.look();
        Health {
            name: P::NAME,
            version: P::VERSION,
            checkpoint: inner.at,
            lag: head.0.saturating_sub(inner.at.0),
            stalled: inner.stalled.clone(),
        }
    }

    fn publish(&self) {
        let at = self.look().at;
        self.checkpoint.send_replace(at);
    }

    fn serve(&self) {
        self.publish();
        if let Some(stalled) = self.stalled() {
            loud::<P>(&stalled);
        }
    }

    fn stop(&self, stalled: &Stalled) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if inner.stalled.is_none() {
            inner.stalled = Some(stalled.clone());
            drop(inner);
            loud::<P>(stalled);
        }
    }

    fn fold_one(&mut self, recorded: &Recorded) {
        self.fold(recorded);
    }

    fn fork_any(&self) -> Box<dyn AnyView> {
        Box::new(self.fork())
    }

    fn fresh(&self) -> Box<dyn AnyView> {
        Box::new(Self::default())
    }

    fn encode(&self) -> Result<(Position, EncodedState), String> {
        // A clone shares what is large; writing it out takes longer than anybody should wait for a lock.
        let inner = self.look().clone();
        let bytes = rmp_serde::to_vec_named(&inner.state).map_err(|error| error.to_string())?;
        Ok((inner.at, EncodedState { name: P::NAME, version: P::VERSION, bytes }))
    }

    fn offered(&self) -> Position {
        self.look().offered
    }

    fn replace(&self, by: Box<dyn AnyView>) -> Result<(), Box<dyn AnyView>> {
        if by.name() != P::NAME {
            return Err(by);
        }
        // Names are those of types: what bears this one's is of its type.
        let Ok(by) = by.into_any().downcast::<Self>() else { return Ok(()) };
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if by.look().at < inner.offered {
            drop(inner);
            return Err(by);
        }
        let fresh = by.inner.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (at, before) = (fresh.at, std::mem::replace(&mut *inner, fresh));
        drop(inner);
        metrics::gauge!(names::STALLED, names::PROJECTION => P::NAME).set(0.0);
        self.checkpoint.send_replace(at);
        // Freed without the lock: it may be large.
        drop(before);
        Ok(())
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
