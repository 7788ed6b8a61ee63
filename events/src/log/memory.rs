//! A log in memory: the port's rules in their plainest form, with nothing kept. For tests, and for a part of another log.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{
    Ack, Append, AppendError, Appending, EventLog, ReadError, ReadOnly, Receipt, Verified, check_shape,
};
use crate::envelope::{Recorded, StreamId};
use crate::id::{EventId, Position, Version};
use crate::{seal, workspace};

/// See the module.
#[derive(Debug)]
pub struct MemoryLog {
    inner: Mutex<Inner>,
    head: watch::Receiver<Position>,
}

#[derive(Debug)]
struct Inner {
    all: Vec<Arc<Recorded>>,
    by_stream: HashMap<StreamId, Vec<usize>>,
    by_id: HashMap<EventId, usize>,
    /// Gone once the log is closed, so that readers who wait for more learn of it.
    publish: Option<watch::Sender<Position>>,
}

impl Default for MemoryLog {
    fn default() -> Self {
        let (publish, head) = watch::channel(Position(0));
        let inner = Inner {
            all: Vec::new(),
            by_stream: HashMap::new(),
            by_id: HashMap::new(),
            publish: Some(publish),
        };
        Self { inner: Mutex::new(inner), head }
    }
}

impl MemoryLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// A log of facts that were recorded elsewhere, in the order of their positions, at the places that they have. Positions
    /// and versions may have gaps: a part of a log is one, too.
    pub fn holding(facts: impl IntoIterator<Item = Arc<Recorded>>) -> Self {
        let log = Self::new();
        let mut inner = log.lock();
        for event in facts {
            inner.keep(event);
        }
        let head = inner.head();
        if let Some(publish) = &inner.publish {
            publish.send_replace(head);
        }
        drop(inner);
        log
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while holding the lock can only come from allocation; what is inside stays consistent.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn version(&self, stream: StreamId) -> Version {
        let last = self.by_stream.get(&stream).and_then(|indices| indices.last());
        last.map_or(Version(0), |&index| self.all[index].version)
    }

    fn head(&self) -> Position {
        self.all.last().map_or(Position(0), |last| last.position)
    }

    fn keep(&mut self, event: Arc<Recorded>) {
        let index = self.all.len();
        self.by_stream.entry(event.stream).or_default().push(index);
        self.by_id.insert(event.meta.id, index);
        self.all.push(event);
    }

    fn apply(&mut self, appends: Vec<Append>) -> Result<Receipt, AppendError> {
        if self.publish.is_none() {
            return Err(AppendError::Closed);
        }
        check_shape(&appends)?;
        if let Some(receipt) = self.repeated(&appends)? {
            return Ok(receipt);
        }
        for append in &appends {
            let actual = self.version(append.stream);
            if !append.expected.agrees(actual) {
                return Err(AppendError::Conflict {
                    stream: append.stream,
                    expected: append.expected,
                    actual,
                });
            }
        }
        let mut recorded = Vec::new();
        for append in appends {
            for event in append.events {
                let event = Arc::new(Recorded {
                    position: self.head().next(),
                    stream: append.stream,
                    version: self.version(append.stream).next(),
                    meta: event.meta,
                    fact: event.fact,
                });
                self.keep(Arc::clone(&event));
                if event.fact.tag() == workspace::ERASED_TAG {
                    self.erase(event.stream);
                }
                recorded.push(event);
            }
        }
        Ok(Receipt { events: recorded })
    }

    /// There are no keys to destroy here: the text itself goes.
    fn erase(&mut self, owner: StreamId) {
        for event in &mut self.all {
            if seal::owner(event.stream, &event.fact) == owner
                && let Ok(fact) = seal::erased(&event.fact)
            {
                *event = Arc::new(Recorded { fact, meta: event.meta.clone(), ..**event });
            }
        }
    }

    /// The first result, when every event of the append is already here.
    fn repeated(&self, appends: &[Append]) -> Result<Option<Receipt>, AppendError> {
        let ids = appends.iter().flat_map(|append| &append.events).map(|event| event.meta.id);
        let known: Vec<_> = ids.clone().filter_map(|id| self.by_id.get(&id)).collect();
        if known.is_empty() {
            return Ok(None);
        }
        if known.len() < ids.count() {
            return Err(AppendError::Invalid("some of the events are already in the log".into()));
        }
        Ok(Some(Receipt { events: known.into_iter().map(|&index| Arc::clone(&self.all[index])).collect() }))
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    fn append(&self, appends: Vec<Append>, _ack: Ack) -> Appending {
        let mut inner = self.lock();
        let result = inner.apply(appends);
        let head = inner.head();
        if let Some(publish) = &inner.publish {
            publish.send_if_modified(|current| std::mem::replace(current, head) != head);
        }
        drop(inner);
        Box::pin(std::future::ready(result))
    }

    async fn read(
        &self,
        stream: StreamId,
        from: Version,
        limit: usize,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        let inner = self.lock();
        let indices = inner.by_stream.get(&stream).map_or(&[][..], Vec::as_slice);
        let start = indices.partition_point(|&index| inner.all[index].version < from);
        Ok(indices.iter().skip(start).take(limit).map(|&index| Arc::clone(&inner.all[index])).collect())
    }

    async fn read_back(
        &self,
        stream: StreamId,
        through: Position,
        limit: usize,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        let inner = self.lock();
        let indices = inner.by_stream.get(&stream).map_or(&[][..], Vec::as_slice);
        let end = indices.partition_point(|&index| inner.all[index].position <= through);
        let start = end.saturating_sub(limit);
        Ok(indices[start..end].iter().map(|&index| Arc::clone(&inner.all[index])).collect())
    }

    async fn read_all(&self, from: Position, limit: usize) -> Result<Vec<Arc<Recorded>>, ReadError> {
        let inner = self.lock();
        let start = inner.all.partition_point(|event| event.position < from);
        Ok(inner.all.iter().skip(start).take(limit).cloned().collect())
    }

    async fn find(&self, id: EventId) -> Result<Option<Position>, ReadError> {
        let inner = self.lock();
        Ok(inner.by_id.get(&id).map(|&index| inner.all[index].position))
    }

    fn head(&self) -> Position {
        *self.head.borrow()
    }

    fn watch(&self) -> watch::Receiver<Position> {
        self.head.clone()
    }

    fn read_only(&self) -> Option<ReadOnly> {
        None
    }

    async fn verify(&self) -> Result<Verified, ReadError> {
        let head = self.head();
        Ok(Verified {
            events: self.lock().all.len() as u64,
            head,
            chain: String::new(),
            checkpoints: 0,
            erased: 0,
            sealed: 0,
            problems: Vec::new(),
        })
    }

    async fn close(&self) {
        self.lock().publish = None;
    }
}
