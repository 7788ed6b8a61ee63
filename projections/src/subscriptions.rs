//! Named subscriptions: a consumer comes back under a name and goes on where it was, after whatever ended it or us.
//!
//! # Guarantees
//! - Each wanted fact is delivered at least once, and again until it is acknowledged or parked: nothing is skipped. What was
//!   acknowledged is on disk before the answer, and is never delivered again, also after `kill -9`.
//! - New facts come in the log's order. One that is refused comes again after a pause, and holds up nothing behind it; refused
//!   [`Definition::nacks_max`] times it is *parked*, with the reason, until a person replays it or gives it up.
//! - At most [`place::WINDOW`] facts are with the consumer; then nothing new is delivered. A slow consumer holds up nobody else:
//!   the log is the queue.
//! - A name has one consumer at a time. It holds a *lease*, which runs out when nothing is heard of it; any other one is told who
//!   holds it and for how long, or waits. Whoever lost its lease is told so with its next word.
//!
//! # Where this is kept
//! Beside the log, in a file for each (`<data-dir>/subscriptions`), and not in it: a fact for each acknowledgement would be followed
//! by whoever follows everything, who would acknowledge it. What is lost with these files is what was delivered already.
//! They name a position and a fact: if the log has another fact there (it was restored to an earlier point, or is another one)
//! the subscription has lost its place and says so, and delivers nothing until it is removed.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use covalence_events::log::{EventLog, ReadError};
use covalence_events::{Position, Recorded, Timestamp, WorkspaceId};
use tokio::sync::{Mutex as Turns, MutexGuard, Notify};
use uuid::Uuid;

mod answers;
mod consume;
mod definition;
pub mod place;
mod store;

#[cfg(test)]
mod tests;

pub use answers::{Ask, Batch, Delivered, Refused, Standing};
pub use consume::{BATCH_MAX, WAIT_MAX};
pub use definition::{
    ACK_WITHIN_DEFAULT, ACK_WITHIN_MAX, Category, Definition, KINDS_MAX, NACKS_DEFAULT, NACKS_MAX, Name,
    Start, Wanted,
};

use place::{Parked, Place};
use store::Store;

use crate::metrics as names;

/// Subscriptions of one log.
pub const SUBSCRIPTIONS_MAX: usize = 100;

#[derive(Clone, Debug)]
struct Lease {
    id: Uuid,
    consumer: String,
    until: Instant,
}

#[derive(Debug)]
struct Inner {
    place: Place,
    /// What is looked at next, as it is on disk.
    kept: Position,
    lease: Option<Lease>,
    /// Whether the log is known to be the one that the place is of.
    checked: bool,
    lost: Option<String>,
    removed: bool,
}

#[derive(Debug)]
struct Named {
    definition: Definition,
    inner: Turns<Inner>,
    /// Something is due that was not, or the lease is free.
    changed: Notify,
}

/// See the module.
#[derive(Debug)]
pub struct Subscriptions {
    store: Store,
    log: Arc<dyn EventLog>,
    all: Mutex<BTreeMap<Name, Arc<Named>>>,
}

impl Subscriptions {
    /// Those that are kept in a directory, which is made with the first.
    ///
    /// # Errors
    /// One of the files can't be read: no consumer is told that there is nothing where there was something.
    pub fn open(dir: PathBuf, log: Arc<dyn EventLog>) -> io::Result<Self> {
        let store = Store::new(dir);
        let kept = store.load()?;
        let all = kept
            .into_iter()
            .map(|(definition, place)| (definition.name.clone(), Arc::new(Named::new(definition, place))));
        let all = Mutex::new(all.collect());
        Ok(Self { store, log, all })
    }

    fn all(&self) -> std::sync::MutexGuard<'_, BTreeMap<Name, Arc<Named>>> {
        // Nothing that runs under the lock can panic half-way through a change.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn named(&self, name: &Name) -> Result<Arc<Named>, Refused> {
        self.all().get(name).cloned().ok_or(Refused::NoSuch)
    }

    /// Makes one. One that is there already with the same wishes is answered as it is, so that a consumer may ask at each start.
    pub async fn create(&self, definition: Definition) -> Result<(Standing, bool), Refused> {
        let first = match definition.start {
            Start::Beginning => Position(1),
            Start::End => self.log.head().next(),
            Start::After(position) => position.next(),
        };
        let mut place = Place::before(first);
        let before = Position(first.0.saturating_sub(1));
        if let Some(fact) = self.log.read_all(before, 1).await?.first().filter(|fact| fact.position == before)
        {
            place.pass(before, fact.meta.id);
        }
        let name = definition.name.clone();
        let fresh = Arc::new(Named::new(definition, place));
        let there = {
            let mut all = self.all();
            match all.get(&name) {
                Some(there) if there.definition.wishes_like(&fresh.definition) => Some(Arc::clone(there)),
                Some(_) => return Err(Refused::Exists),
                None if all.len() >= SUBSCRIPTIONS_MAX => return Err(Refused::TooMany),
                None => {
                    all.insert(name.clone(), Arc::clone(&fresh));
                    None
                }
            }
        };
        if let Some(there) = there {
            return Ok((self.standing(&there, &*there.inner.lock().await), false));
        }
        let mut inner = fresh.inner.lock().await;
        if let Err(error) = self.keep(&fresh.definition, &inner.place).await {
            inner.removed = true;
            self.all().remove(&name);
            return Err(error.into());
        }
        Ok((self.standing(&fresh, &inner), true))
    }

    /// All of them, by name.
    pub async fn list(&self) -> Vec<Standing> {
        let all: Vec<_> = self.all().values().cloned().collect();
        let mut standings = Vec::with_capacity(all.len());
        for named in all {
            standings.push(self.standing(&named, &*named.inner.lock().await));
        }
        standings
    }

    /// How one stands.
    pub async fn show(&self, name: &Name) -> Result<Standing, Refused> {
        let named = self.named(name)?;
        let mut inner = named.inner.lock().await;
        self.check(&mut inner).await?;
        Ok(self.standing(&named, &inner))
    }

    /// Lets one go, with what is parked.
    pub async fn remove(&self, name: &Name) -> Result<(), Refused> {
        if self.named(name)?.definition.is_ours() {
            return Err(Refused::Ours);
        }
        self.remove_own(name).await
    }

    /// The same for a subscription that the platform follows itself.
    pub async fn remove_own(&self, name: &Name) -> Result<(), Refused> {
        let named = self.named(name)?;
        let mut inner = named.inner.lock().await;
        let (store, file) = (self.store.clone(), name.clone());
        blocking(move || store.remove(&file)).await?;
        inner.removed = true;
        self.all().remove(name);
        named.changed.notify_waiters();
        Ok(())
    }

    /// Changes a place, and keeps it before anybody is told.
    async fn change(
        &self,
        named: &Named,
        inner: &mut MutexGuard<'_, Inner>,
        change: impl FnOnce(&mut Place) -> usize,
    ) -> Result<usize, Refused> {
        if inner.removed {
            return Err(Refused::NoSuch);
        }
        let mut place = inner.place.clone();
        let count = change(&mut place);
        if place != inner.place {
            self.keep(&named.definition, &place).await?;
            inner.kept = place.next();
            inner.place = place;
            named.changed.notify_waiters();
        }
        Ok(count)
    }

    /// What is parked, oldest first, with the facts themselves; none of those that retention took.
    pub async fn parked(
        &self,
        name: &Name,
    ) -> Result<Vec<(Position, Parked, Option<Arc<Recorded>>)>, Refused> {
        let named = self.named(name)?;
        let parked = named.inner.lock().await.place.parked().clone();
        let mut all = Vec::with_capacity(parked.len());
        for (position, parked) in parked {
            let fact = self.log.read_all(position, 1).await?.into_iter().next();
            all.push((position, parked, fact.filter(|fact| fact.position == position)));
        }
        Ok(all)
    }

    /// Parked facts are delivered again, these or all. Answers how many.
    pub async fn replay(
        &self,
        name: &Name,
        positions: Option<&[Position]>,
    ) -> Result<(usize, Standing), Refused> {
        self.by_person(name, |place| place.replay(positions)).await
    }

    /// Parked facts are given up, these or all. Answers how many.
    pub async fn give_up(
        &self,
        name: &Name,
        positions: Option<&[Position]>,
    ) -> Result<(usize, Standing), Refused> {
        self.by_person(name, |place| place.give_up(positions)).await
    }

    async fn by_person(
        &self,
        name: &Name,
        change: impl FnOnce(&mut Place) -> usize,
    ) -> Result<(usize, Standing), Refused> {
        let named = self.named(name)?;
        let mut inner = named.inner.lock().await;
        let count = self.change(&named, &mut inner, change).await?;
        Ok((count, self.standing(&named, &inner)))
    }

    /// What consumers said about the facts of an erased workspace is forgotten.
    pub async fn forget(&self, workspace: WorkspaceId) -> io::Result<()> {
        let all: Vec<_> = self.all().values().cloned().collect();
        for named in all {
            let mut inner = named.inner.lock().await;
            if inner.place.forget(workspace) && !inner.removed {
                self.keep(&named.definition, &inner.place).await?;
            }
        }
        Ok(())
    }

    /// Shows lag and parked facts of each as metrics.
    pub async fn measure(&self) {
        for standing in self.list().await {
            let name = standing.definition.name.to_string();
            for (gauge, value) in [
                (names::SUBSCRIPTION_LAG, standing.lag),
                (names::SUBSCRIPTION_OPEN, standing.open as u64),
                (names::SUBSCRIPTION_PARKED, standing.parked as u64),
            ] {
                #[expect(clippy::cast_precision_loss, reason = "a gauge; exact up to 2^53 facts")]
                metrics::gauge!(gauge, names::SUBSCRIPTION => name.clone()).set(value as f64);
            }
        }
    }

    fn standing(&self, named: &Named, inner: &Inner) -> Standing {
        let (place, now) = (&inner.place, now());
        let checkpoint = place.checkpoint();
        let held = inner.lease.as_ref().filter(|lease| lease.until > now);
        Standing {
            definition: named.definition.clone(),
            checkpoint,
            next: place.next(),
            lag: self.log.head().0.saturating_sub(checkpoint.0),
            open: place.open(),
            parked: place.parked().len(),
            holder: held.map(|lease| (lease.consumer.clone(), lease.until - now)),
            lost: inner.lost.clone(),
        }
    }

    /// Whether the log still is the one that the place is of; looked at once in each run.
    async fn check(&self, inner: &mut Inner) -> Result<(), Refused> {
        if inner.removed {
            return Err(Refused::NoSuch);
        }
        if !inner.checked {
            inner.lost = self.displaced(&inner.place).await?;
            inner.checked = true;
        }
        match &inner.lost {
            Some(why) => Err(Refused::PlaceLost(why.clone())),
            None => Ok(()),
        }
    }

    async fn displaced(&self, place: &Place) -> Result<Option<String>, ReadError> {
        let (next, head) = (place.next(), self.log.head());
        if next.0 > head.0 + 1 {
            return Ok(Some(format!("the log ends at {head}, and it had come to {}", Position(next.0 - 1))));
        }
        let Some((position, id)) = place.last() else { return Ok(None) };
        let found = self.log.read_all(position, 1).await?;
        // Retention may have taken the fact; then another one comes next.
        let other = found.first().filter(|fact| fact.position == position && fact.meta.id != id);
        Ok(other.map(|_| format!("the log has another fact at {position} than it had")))
    }

    async fn keep(&self, definition: &Definition, place: &Place) -> io::Result<()> {
        let (store, definition, place) = (self.store.clone(), definition.clone(), place.clone());
        blocking(move || store.save(&definition, &place)).await
    }
}

/// On the clock that tests may stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

impl Named {
    fn new(definition: Definition, place: Place) -> Self {
        let kept = place.next();
        let inner = Inner { place, kept, lease: None, checked: false, lost: None, removed: false };
        Self { definition, inner: Turns::new(inner), changed: Notify::new() }
    }
}

impl Definition {
    /// Whether another one asks for the same.
    fn wishes_like(&self, other: &Self) -> bool {
        let wishes = |one: &Self| (one.wanted.clone(), one.start, one.nacks_max, one.ack_within_ms);
        wishes(self) == wishes(other) && self.by == other.by
    }

    /// What the platform follows itself. It takes its time: nothing that it was given is due again before it says so, as long as
    /// it lives.
    pub fn ours(name: Name, wanted: Wanted, start: Start, created: Timestamp) -> Self {
        let ack_within_ms = u64::try_from(ACK_WITHIN_MAX.as_millis()).unwrap_or(u64::MAX);
        let by = definition::OURS.to_owned();
        Self { name, wanted, start, nacks_max: NACKS_DEFAULT, ack_within_ms, created, by }
    }
}
