//! The one thread that writes.
//!
//! It takes everything that waits and makes one commit of it; while anybody waits for an append it never waits for more,
//! because while it commits the next commit's appends gather by themselves. What callers can do, they do before they
//! queue: encoding, digests. What is left here is order: expectations, positions, the chain, the flush.
//!
//! What a caller allocated goes back with its answer, and it frees it (`request`): a thread that only frees what others only allocate
//! makes all of them wait for each other in the allocator, which took more than half of this one's time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Shared;
use super::directory::HighWater;
use super::index::{self, Index};
use super::store::Store;
use crate::envelope::StreamId;
use crate::id::Position;
use crate::keyring::KeyringError;
use crate::log::frame::Link;
use crate::log::{AppendError, ReadOnly, Receipt};
use crate::metrics as names;
use crate::pulse::IDLE_ROUND;
use crate::{seal, workspace};

mod plan;
mod request;

use plan::{Plan, Spare};
pub(super) use request::Request;

/// Bytes of frames per value. sled keeps up to 16 values in a leaf and moves leaves over 128 KiB to files that it never
/// syncs; 16 × 6 KiB stays below that with room for keys and for the one frame that may be larger than the rest.
pub const CHUNK_BYTES_MAX: usize = 6 << 10;

/// The high-water mark is synced at most this often: it costs as much as a commit, and is only needed after a power cut.
const HIGH_WATER_SYNC_EVERY: Duration = Duration::from_secs(1);

/// Free space is looked at once in so many commits: with at most a few MiB a commit, the reserve can't be used up between …
const SPACE_CHECK_EVERY_COMMITS: u32 = 16;

/// … and after this long, because others write to the same disk: a look costs a few microseconds.
const SPACE_CHECK_EVERY: Duration = Duration::from_millis(50);

/// Between two looks for room, while space is short.
const SPACE_ROUND: Duration = Duration::from_millis(500);

/// While space is short, this share of the reserve has to be free beyond it before writing goes on, so that it does not
/// stop again at once.
const SPACE_MARGIN: u64 = 4;

/// Why a commit was not made.
enum Halt {
    /// It was not begun: there is too little room.
    LowSpace(String),
    /// Something failed on the way, and nobody knows what the disk has.
    Failed(String),
}

struct Meters {
    duration: metrics::Histogram,
    events: metrics::Histogram,
    depth: metrics::Gauge,
    head: metrics::Gauge,
}

/// See the module.
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// The database that is written to.
    store: Arc<Store>,
    high_water: HighWater,
    high_water_synced: Instant,
    publish: watch::Sender<Position>,
    link: Link,
    commits: u32,
    space_checked: Instant,
    meters: Meters,
    spare: Spare,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.queue.close();
        if std::thread::panicking() {
            self.shared.health.stop("the log's writer panicked");
        }
    }
}

impl Writer {
    /// A writer that goes on after `link`.
    pub(super) fn new(
        (shared, store): (Arc<Shared>, Arc<Store>),
        high_water: HighWater,
        publish: watch::Sender<Position>,
        link: Link,
    ) -> Self {
        let meters = Meters {
            duration: metrics::histogram!(names::APPEND_DURATION),
            events: metrics::histogram!(names::COMMIT_EVENTS),
            depth: metrics::gauge!(names::QUEUE_DEPTH),
            head: metrics::gauge!(names::HEAD),
        };
        let (high_water_synced, space_checked) = (Instant::now(), Instant::now());
        let writer = Self {
            shared,
            store,
            high_water,
            high_water_synced,
            publish,
            link,
            commits: 0,
            space_checked,
            meters,
            spare: Spare::default(),
        };
        if let Err(halt) = writer.check_space(writer.shared.reserve_bytes) {
            writer.halt(&halt);
        }
        writer
    }

    /// Writes until the queue is closed and empty, then flushes.
    pub(super) fn run(mut self) {
        let round = |waits: bool| if waits { SPACE_ROUND } else { IDLE_ROUND };
        let mut waits = self.shared.health.waits_for_room();
        while let Some(requests) = self.shared.queue.drain(&self.shared.pulse, round(waits)) {
            self.meters.depth.set(to_f64(requests.len()));
            if waits {
                self.look_for_room();
            }
            if !requests.is_empty() {
                self.commit(requests);
            }
            waits = self.shared.health.waits_for_room();
        }
        if self.shared.health.read_only().is_none() {
            let flushed = self.store.flush();
            if let Err(reason) =
                flushed.and_then(|()| self.high_water.sync().map_err(|error| error.to_string()))
            {
                self.shared.health.stop(&reason);
            }
        }
    }

    /// Goes on if there is room again.
    fn look_for_room(&self) {
        let reserve = self.shared.reserve_bytes;
        match self.check_space(reserve.saturating_add(reserve / SPACE_MARGIN)) {
            Ok(()) => self.shared.health.go_on(),
            Err(Halt::LowSpace(_)) => {}
            Err(halt) => drop(self.halt(&halt)),
        }
    }

    /// Takes nothing more, as what happened demands.
    fn halt(&self, halt: &Halt) -> ReadOnly {
        match halt {
            Halt::LowSpace(reason) => self.shared.health.wait_for_room(reason),
            Halt::Failed(reason) => self.shared.health.stop(reason),
        }
    }

    fn commit(&mut self, requests: VecDeque<Request>) {
        if let Some(read_only) = self.shared.health.read_only() {
            for request in requests {
                request.refuse(AppendError::ReadOnly(read_only.clone()));
            }
            return;
        }
        let mut spare = std::mem::take(&mut self.spare);
        let mut plan = self.plan(requests, &mut spare);
        self.spare = spare;
        if plan.events.is_empty() {
            return plan.answer(&self.meters);
        }
        if let Err(halt) = self.write(&plan) {
            return plan.refuse(&AppendError::ReadOnly(self.halt(&halt)));
        }
        self.link = plan.link;
        let erased = self.destroy_keys(&plan);
        self.publish(&plan, &erased);
        self.spare.keep(&mut plan.chunks);
        plan.answer(&self.meters);
    }

    /// Decides each request in order, against the log and what this commit has already taken.
    fn plan(&self, requests: VecDeque<Request>, spare: &mut Spare) -> Plan {
        let index = self.shared.index();
        let mut plan = Plan::new(&index, self.link, requests.len());
        for request in requests {
            match self.repeated(&request, &plan, &index) {
                Ok(None) => {}
                Ok(Some(receipt)) => {
                    plan.repeat(request, receipt);
                    continue;
                }
                Err(error) => {
                    request.refuse(error);
                    continue;
                }
            }
            match plan.conflict(&request, &index) {
                Some(conflict) => request.refuse(conflict),
                None => plan.take(request, &index, spare),
            }
        }
        plan
    }

    /// The first result, when all events of the request are already in the log or in this commit.
    fn repeated(
        &self,
        request: &Request,
        plan: &Plan,
        index: &Index,
    ) -> Result<Option<Receipt>, AppendError> {
        let known = request.ids().filter(|id| plan.ids.contains_key(id) || index.find(*id).is_some()).count();
        if known == 0 {
            return Ok(None);
        }
        if known < request.ids().count() {
            return Err(AppendError::Invalid("some of the events are already in the log".into()));
        }
        let mut events = Vec::with_capacity(known);
        for id in request.ids() {
            if let Some(&offset) = plan.ids.get(&id) {
                events.push(Arc::clone(&plan.events[offset]));
            } else if let Some(position) = index.find(id) {
                let found = if let Some(event) = index.recent(position) {
                    Arc::clone(event)
                } else {
                    let loaded = index.gather_one(position).and_then(|found| self.shared.load_locked(found));
                    let loaded =
                        loaded.map_err(|error| AppendError::Invalid(error.to_string().into()))?.pop();
                    loaded.ok_or_else(|| AppendError::Invalid("a repeated event is gone".into()))?
                };
                events.push(found);
            }
        }
        Ok(Some(Receipt { events }))
    }

    fn write(&mut self, plan: &Plan) -> Result<(), Halt> {
        if self.commits.is_multiple_of(SPACE_CHECK_EVERY_COMMITS)
            || self.space_checked.elapsed() >= SPACE_CHECK_EVERY
        {
            // Nothing of the commit is anywhere yet, so it can be refused and writing go on later.
            self.check_space(self.shared.reserve_bytes)?;
            self.space_checked = Instant::now();
        }
        self.commits = self.commits.wrapping_add(1);
        self.put(plan).map_err(Halt::Failed)
    }

    fn put(&self, plan: &Plan) -> Result<(), String> {
        if let Some(keys) = &self.shared.keys {
            // Before the facts: what is sealed by a key that is nowhere is lost.
            keys.settle().map_err(|error| format!("keep new keys: {}", in_full(&error)))?;
        }
        for (digest, payload) in &plan.elsewhere {
            self.shared
                .blobs
                .put(digest, payload)
                .map_err(|error| format!("write the payload `{}`: {error}", digest.to_hex()))?;
        }
        self.store.commit(&plan.chunks)
    }

    /// Whether so many bytes are free.
    fn check_space(&self, wanted: u64) -> Result<(), Halt> {
        let free = self.shared.disk.free_bytes(self.shared.directory.root());
        let free = free.map_err(|error| Halt::Failed(format!("ask for free space: {error}")))?;
        if free < wanted {
            let reserve = self.shared.reserve_bytes;
            let reason = format!("low space: {free} bytes are free, {reserve} are kept in reserve");
            return Err(Halt::LowSpace(reason));
        }
        Ok(())
    }

    /// Destroys the keys of those whose erasure is recorded: once its append is answered, it is done.
    fn destroy_keys(&self, plan: &Plan) -> Vec<StreamId> {
        let erasures = plan.events.iter().filter(|event| event.fact.tag() == workspace::ERASED_TAG);
        let erased: Vec<StreamId> = erasures.map(|event| event.stream).collect();
        for owner in &erased {
            let Some(keys) = &self.shared.keys else { break };
            if let Err(error) = keys.erase(*owner) {
                // Out of use, but maybe still in its file. The next start tries again.
                self.shared.health.stop(&format!("destroy the key of `{owner}`: {}", in_full(&error)));
            }
        }
        erased
    }

    /// Lets readers see what is durable.
    fn publish(&mut self, plan: &Plan, erased: &[StreamId]) {
        let mut index = self.shared.index_mut();
        for (first, _) in &plan.chunks {
            index.add_chunk(*first);
        }
        for event in &plan.events {
            index.add(event.position, event.stream, event.meta.id);
            // It may have been encoded before its text was erased.
            let keys = self.shared.keys.as_deref();
            let kept = if keys.is_some_and(|keys| keys.is_erased(seal::owner(event.stream, &event.fact))) {
                index::erased(event)
            } else {
                Arc::clone(event)
            };
            self.spare.forgotten.extend(index.keep(kept));
        }
        for owner in erased {
            index.forget(*owner);
        }
        let head = index.head();
        if let Some(last) = plan.events.last() {
            index.note_time(plan.events[0].meta.at);
            if let Some(next) = self.shared.next_store(&mut index, last.meta.at) {
                self.store = next;
            }
        }
        drop(index);
        // Before the answers, so that no acknowledged position is above it after a crash of this process.
        if let Err(error) = self.note_high_water(head) {
            self.shared.health.stop(&format!("write the high-water mark: {error}"));
        }
        self.publish.send_replace(head);
        self.meters.events.record(to_f64(plan.events.len()));
        #[expect(clippy::cast_precision_loss, reason = "a gauge; exact up to 2^53 facts")]
        self.meters.head.set(head.0 as f64);
    }

    fn note_high_water(&mut self, head: Position) -> std::io::Result<()> {
        self.high_water.note(head)?;
        if self.high_water_synced.elapsed() >= HIGH_WATER_SYNC_EVERY {
            self.high_water.sync()?;
            self.high_water_synced = Instant::now();
        }
        Ok(())
    }
}

fn in_full(error: &KeyringError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn to_f64(count: usize) -> f64 {
    // Counts of one commit fit easily.
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
