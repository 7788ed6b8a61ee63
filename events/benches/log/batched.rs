//! The batching that all stores here share: one writer takes whatever waits, makes it durable at once, and answers.
//!
//! It is what the log does as well, so that a ratio compares stores and not ways of grouping commits.

use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use covalence_events::{NewEvent, StreamId};
use tokio::sync::oneshot;

/// Bytes in front of a record that its store fills in.
pub(crate) const PREFIX: usize = 8;

/// An encoded fact that waits.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) stream: StreamId,
    /// [`PREFIX`] bytes of room, then envelope and payload.
    pub(crate) bytes: Vec<u8>,
    reply: oneshot::Sender<()>,
}

/// Where batches go.
pub(crate) trait Store: Send + 'static {
    /// Keeps them all, durable on return.
    fn commit(&mut self, batch: &mut [Record]) -> Result<()>;
}

#[derive(Debug, Default)]
struct Waiting {
    records: Vec<Record>,
    closed: bool,
}

/// A store behind its one writer.
#[derive(Debug)]
pub(crate) struct Batched {
    shared: Arc<(Mutex<Waiting>, Condvar)>,
    writer: Option<JoinHandle<Result<()>>>,
}

impl Batched {
    pub(crate) fn new(store: impl Store) -> Self {
        let shared = Arc::<(Mutex<Waiting>, Condvar)>::default();
        let queue = Arc::clone(&shared);
        let writer = std::thread::spawn(move || write(&queue, store));
        Self { shared, writer: Some(writer) }
    }

    /// Encodes one fact, and waits until it is durable.
    pub(crate) async fn append(&self, stream: StreamId, event: &NewEvent) -> Result<()> {
        let bytes = encode(event)?;
        let (reply, answer) = oneshot::channel();
        self.shared.0.lock().expect("no panic under the lock").records.push(Record { stream, bytes, reply });
        self.shared.1.notify_one();
        answer.await.context("the writer is gone")
    }

    pub(crate) fn close(mut self) -> Result<()> {
        self.shared.0.lock().expect("no panic under the lock").closed = true;
        self.shared.1.notify_all();
        self.writer.take().map_or(Ok(()), |writer| writer.join().expect("the writer ends well"))
    }
}

/// A fact as any store would keep it.
pub(crate) fn encode(event: &NewEvent) -> Result<Vec<u8>> {
    let payload = event.fact.encode()?;
    let mut bytes = vec![0; PREFIX];
    bytes.extend_from_slice(event.meta.id.0.as_bytes());
    bytes.extend_from_slice(&event.meta.at.timestamp_micros().to_be_bytes());
    bytes.extend_from_slice(event.meta.boot.0.as_bytes());
    bytes.extend_from_slice(event.meta.correlation.0.as_bytes());
    bytes.push(u8::try_from(event.fact.tag().len())?);
    bytes.extend_from_slice(event.fact.tag().as_bytes());
    bytes.extend_from_slice(&payload);
    Ok(bytes)
}

fn write((waiting, wake): &(Mutex<Waiting>, Condvar), mut store: impl Store) -> Result<()> {
    loop {
        let mut records = {
            let mut waiting = waiting.lock().expect("no panic under the lock");
            while waiting.records.is_empty() && !waiting.closed {
                waiting = wake.wait(waiting).expect("no panic under the lock");
            }
            if waiting.records.is_empty() {
                return Ok(());
            }
            std::mem::take(&mut waiting.records)
        };
        store.commit(&mut records)?;
        for record in records {
            // The load generator may have stopped listening.
            let _ = record.reply.send(());
        }
    }
}
