//! A log that refuses, to see that nothing is lost when it does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use covalence_events::log::memory::MemoryLog;
use covalence_events::log::{Ack, Append, AppendError, Appending, EventLog, ReadError, ReadOnly, Verified};
use covalence_events::{EventId, Position, Recorded, StreamId, Version};

/// A log whose queue is full for the first appends of one kind of fact, or that never comes to answer them.
#[derive(Debug)]
pub(super) struct FullAtFirst {
    log: Arc<MemoryLog>,
    refusals: AtomicUsize,
    silent: bool,
    of: &'static str,
}

impl FullAtFirst {
    pub(super) fn refusing(times: usize, of: &'static str, log: Arc<MemoryLog>) -> Self {
        Self { log, refusals: AtomicUsize::new(times), silent: false, of }
    }

    pub(super) fn silent(of: &'static str, log: Arc<MemoryLog>) -> Self {
        Self { log, refusals: AtomicUsize::new(0), silent: true, of }
    }
}

#[async_trait]
impl EventLog for FullAtFirst {
    fn append(&self, appends: Vec<Append>, ack: Ack) -> Appending {
        let events = appends.iter().flat_map(|append| &append.events);
        let meant = events.into_iter().any(|event| event.fact.tag() == self.of);
        let refuse = |left: usize| left.checked_sub(1);
        if meant && self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, refuse).is_ok() {
            return Box::pin(std::future::ready(Err(AppendError::Busy)));
        }
        let appending = self.log.append(appends, ack);
        if meant && self.silent && ack == Ack::Accepted {
            Box::pin(std::future::pending())
        } else {
            appending
        }
    }

    async fn read(
        &self,
        stream: StreamId,
        from: Version,
        limit: usize,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        self.log.read(stream, from, limit).await
    }

    async fn read_back(
        &self,
        stream: StreamId,
        through: Position,
        limit: usize,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        self.log.read_back(stream, through, limit).await
    }

    async fn read_all(&self, from: Position, limit: usize) -> Result<Vec<Arc<Recorded>>, ReadError> {
        self.log.read_all(from, limit).await
    }

    async fn find(&self, id: EventId) -> Result<Option<Position>, ReadError> {
        self.log.find(id).await
    }

    fn head(&self) -> Position {
        self.log.head()
    }

    fn watch(&self) -> tokio::sync::watch::Receiver<Position> {
        self.log.watch()
    }

    fn read_only(&self) -> Option<ReadOnly> {
        None
    }

    async fn verify(&self) -> Result<Verified, ReadError> {
        self.log.verify().await
    }

    async fn close(&self) {
        self.log.close().await;
    }
}
