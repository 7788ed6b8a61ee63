//! A log in memory, for tests: the port's rules in their plainest form, with nothing kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Ack, Append, AppendError, Appending, EventLog, ReadError, Receipt, Verified, check_shape};
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

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while holding the lock can only come from allocation; what is inside stays consistent.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn version(&self, stream: StreamId) -> Version {
        Version(self.by_stream.get(&stream).map_or(0, Vec::len) as u64)
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
                let index = self.all.len();
                let event = Arc::new(Recorded {
                    position: Position(index as u64 + 1),
                    stream: append.stream,
                    version: self.version(append.stream).next(),
                    meta: event.meta,
                    fact: event.fact,
                });
                self.by_stream.entry(append.stream).or_default().push(index);
                self.by_id.insert(event.meta.id, index);
                self.all.push(Arc::clone(&event));
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
        let head = Position(inner.all.len() as u64);
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
        let start = usize::try_from(from.0.saturating_sub(1)).unwrap_or(usize::MAX);
        let indices = inner.by_stream.get(&stream).map_or(&[][..], Vec::as_slice);
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
        let end = indices.partition_point(|&index| index < usize::try_from(through.0).unwrap_or(usize::MAX));
        let start = end.saturating_sub(limit);
        Ok(indices[start..end].iter().map(|&index| Arc::clone(&inner.all[index])).collect())
    }

    async fn read_all(&self, from: Position, limit: usize) -> Result<Vec<Arc<Recorded>>, ReadError> {
        let inner = self.lock();
        let start = usize::try_from(from.0.saturating_sub(1)).unwrap_or(usize::MAX);
        Ok(inner.all.iter().skip(start).take(limit).cloned().collect())
    }

    async fn find(&self, id: EventId) -> Result<Option<Position>, ReadError> {
        Ok(self.lock().by_id.get(&id).map(|&index| Position(index as u64 + 1)))
    }

    fn head(&self) -> Position {
        *self.head.borrow()
    }

    fn watch(&self) -> watch::Receiver<Position> {
        self.head.clone()
    }

    fn read_only(&self) -> Option<Arc<str>> {
        None
    }

    async fn verify(&self) -> Result<Verified, ReadError> {
        let head = self.head();
        Ok(Verified {
            events: head.0,
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
