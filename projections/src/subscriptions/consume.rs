//! What consumers do: they fetch under a lease, settle what they got, and go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use covalence_events::{Position, Recorded};
use uuid::Uuid;

use super::answers::{Ask, Batch, Delivered, Refused, Standing};
use super::definition::{Definition, Name};
use super::place::{Delivery, Nack, Place};
use super::{Inner, Lease, Named, Subscriptions, now};

/// Facts of one delivery.
pub const BATCH_MAX: usize = 1000;
/// The longest that a delivery is waited for.
pub const WAIT_MAX: Duration = Duration::from_secs(60);
/// Facts read from the log at once.
const CHUNK: usize = 512;
/// Facts looked at for one delivery. A filter that fits little must not keep one consumer busy for minutes.
const SCAN_MAX: u64 = 100_000;
/// Facts that nobody wanted, after which the place is kept all the same, so that a restart looks at little again.
const KEEP_EVERY: u64 = 10_000;

impl Subscriptions {
    /// Delivers what is due, then what is new; waits for a while where there is nothing.
    pub async fn fetch(&self, name: &Name, ask: &Ask) -> Result<Batch, Refused> {
        let named = self.named(name)?;
        if named.definition.is_ours() {
            return Err(Refused::Ours);
        }
        self.fetched(&named, ask).await
    }

    /// The same for a subscription that the platform follows itself.
    pub async fn fetch_own(&self, name: &Name, ask: &Ask) -> Result<Batch, Refused> {
        let named = self.named(name)?;
        self.fetched(&named, ask).await
    }

    async fn fetched(&self, named: &Named, ask: &Ask) -> Result<Batch, Refused> {
        let give_up = now() + ask.wait.min(WAIT_MAX);
        let mut lease = ask.lease;
        let mut head = self.log.watch();
        loop {
            head.borrow_and_update();
            // Before the look: what changes while we look wakes us.
            let changed = named.changed.notified();
            let mut due = None;
            match self.attempt(named, ask, &mut lease).await {
                Ok((batch, _)) if !batch.facts.is_empty() || ask.limit == 0 || now() >= give_up => {
                    return Ok(batch);
                }
                // It is about to be looked at.
                Ok((batch, _)) if !batch.caught_up => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Ok((_, next_due)) => due = next_due,
                Err(Refused::Taken { .. }) if ask.standby && now() < give_up => {}
                Err(refused) => return Err(refused),
            }
            // Often enough that neither our lease nor another's end is missed.
            let soon = now() + named.definition.ack_within() / 4;
            let wake = due.into_iter().chain([soon, give_up]).min().unwrap_or(give_up);
            tokio::select! {
                ended = head.changed() => if ended.is_err() {
                    tokio::time::sleep_until(give_up.min(soon).into()).await;
                },
                () = changed => {}
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
    }

    /// One try: the batch, which may be empty, and when to look again.
    async fn attempt(
        &self,
        named: &Named,
        ask: &Ask,
        lease: &mut Option<Uuid>,
    ) -> Result<(Batch, Option<Instant>), Refused> {
        let mut inner = named.inner.lock().await;
        self.check(&mut inner).await?;
        let now = now();
        let until = now + named.definition.ack_within();
        let id = inner.hold(ask, *lease, now, until)?;
        *lease = Some(id);
        let facts = self.deliver(named, &mut inner, ask.limit.min(BATCH_MAX), (now, until)).await?;
        let standing = self.standing(named, &inner);
        let caught_up = standing.next > self.log.head() || inner.place.room() == 0;
        let expires_in = named.definition.ack_within();
        let batch = Batch { lease: id, expires_in, facts, caught_up, standing };
        Ok((batch, inner.place.next_due()))
    }

    async fn deliver(
        &self,
        named: &Named,
        inner: &mut Inner,
        limit: usize,
        (now, until): (Instant, Instant),
    ) -> Result<Vec<Delivered>, Refused> {
        let mut facts = Vec::new();
        let parked = inner.place.parked().len();
        for delivery in inner.place.send_again(now, until, limit) {
            let found = self.log.read_all(delivery.position, 1).await?.into_iter().next();
            match found.filter(|fact| fact.position == delivery.position) {
                Some(fact) => facts.push(Delivered::new(delivery, fact)),
                // Retention took it: there is nothing left to deliver.
                None => drop(inner.place.ack([delivery.position])),
            }
        }
        let stop = inner.place.next().0.saturating_add(SCAN_MAX);
        'scan: while facts.len() < limit && inner.place.room() > 0 && inner.place.next().0 < stop {
            let chunk = self.log.read_all(inner.place.next(), CHUNK).await?;
            if chunk.is_empty() {
                break;
            }
            for fact in chunk {
                let place = (fact.position, fact.meta.id);
                if !named.definition.wanted.matches(&fact) {
                    inner.place.pass(place.0, place.1);
                } else if facts.len() < limit && inner.place.room() > 0 {
                    let delivery = inner.place.send(place, fact.subject(), until);
                    facts.push(Delivered::new(delivery, fact));
                } else {
                    break 'scan;
                }
            }
        }
        // What is delivered need not be kept: it is delivered again where it was not acknowledged.
        let far = inner.place.next().0.saturating_sub(inner.kept.0) >= KEEP_EVERY;
        if far || inner.place.parked().len() != parked {
            self.keep(&named.definition, &inner.place).await?;
            inner.kept = inner.place.next();
        }
        Ok(facts)
    }

    /// These are settled, and everything that is open up to a position. Answers how many of them were open: the others were
    /// settled or parked already.
    pub async fn ack(
        &self,
        name: &Name,
        lease: Uuid,
        positions: &[Position],
        up_to: Option<Position>,
    ) -> Result<(usize, Standing), Refused> {
        let ack = |place: &mut Place, _: &Definition, _| {
            let open = up_to.map(|through| place.open_up_to(through)).unwrap_or_default();
            place.ack(positions.iter().copied().chain(open))
        };
        self.settle(name, lease, ack).await
    }

    /// These are refused. Answers how many of them are parked now.
    pub async fn nack(
        &self,
        name: &Name,
        lease: Uuid,
        positions: &[Position],
        nack: &Nack,
    ) -> Result<(usize, Standing), Refused> {
        let each = |place: &mut Place, definition: &Definition, now| {
            let parked = |position: &&Position| place.nack(**position, nack, definition.nacks_max, now);
            positions.iter().filter(parked).count()
        };
        self.settle(name, lease, each).await
    }

    async fn settle(
        &self,
        name: &Name,
        lease: Uuid,
        change: impl FnOnce(&mut Place, &Definition, Instant) -> usize,
    ) -> Result<(usize, Standing), Refused> {
        let named = self.named(name)?;
        let mut inner = named.inner.lock().await;
        let now = now();
        let until = now + named.definition.ack_within();
        let held = inner.lease.as_mut().filter(|held| held.id == lease).ok_or(Refused::LeaseLost)?;
        held.until = until;
        let count = self.change(&named, &mut inner, |place| change(place, &named.definition, now)).await?;
        Ok((count, self.standing(&named, &inner)))
    }

    /// The consumer goes in order: its lease is free, and what it had is due.
    pub async fn release(&self, name: &Name, lease: Uuid) -> Result<(), Refused> {
        let named = self.named(name)?;
        let mut inner = named.inner.lock().await;
        if inner.lease.as_ref().is_none_or(|held| held.id != lease) {
            return Err(Refused::LeaseLost);
        }
        inner.lease = None;
        inner.place.take_back();
        named.changed.notify_waiters();
        Ok(())
    }
}

impl Inner {
    /// The lease with which this consumer goes on.
    fn hold(
        &mut self,
        ask: &Ask,
        lease: Option<Uuid>,
        now: Instant,
        until: Instant,
    ) -> Result<Uuid, Refused> {
        match (&mut self.lease, lease) {
            (Some(held), Some(id)) if held.id == id => {
                held.until = until;
                return Ok(id);
            }
            (_, Some(_)) => return Err(Refused::LeaseLost),
            (Some(held), None) if held.until > now && held.consumer != ask.consumer => {
                return Err(Refused::Taken { consumer: held.consumer.clone(), remaining: held.until - now });
            }
            (_, None) => {}
        }
        let id = Uuid::new_v4();
        self.place.take_back();
        self.lease = Some(Lease { id, consumer: ask.consumer.clone(), until });
        Ok(id)
    }
}

impl Delivered {
    fn new(delivery: Delivery, fact: Arc<Recorded>) -> Self {
        Self { fact, attempt: delivery.attempt, replayed: delivery.replayed }
    }
}
