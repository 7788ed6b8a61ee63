//! Every store passes the port's conformance suite.

use std::sync::Arc;

use async_trait::async_trait;
use covalence_events::keyring::Keyring;
use covalence_events::log::conformance::Factory;
use covalence_events::log::memory::MemoryLog;
use covalence_events::log::sled::{Options, SledLog};
use covalence_events::log::{Ack, Append, Appending, EventLog, ReadError, ReadOnly, Verified};
use covalence_events::{EventId, Position, Recorded, StreamId, Version};
use tempfile::TempDir;
use tokio::sync::watch;

struct Memory;

#[async_trait]
impl Factory for Memory {
    async fn open(&self) -> Arc<dyn EventLog> {
        Arc::new(MemoryLog::new())
    }

    fn keeps(&self) -> bool {
        false
    }
}

struct Sled(TempDir);

impl Sled {
    fn new() -> Self {
        Self(TempDir::new().expect("a directory for the log"))
    }
}

#[async_trait]
impl Factory for Sled {
    async fn open(&self) -> Arc<dyn EventLog> {
        let (log, opened) =
            SledLog::open(&self.0.path().join("log"), &Options::default()).expect("the log opens");
        assert_eq!(opened.repaired, None);
        Arc::new(log)
    }

    fn keeps(&self) -> bool {
        true
    }
}

/// A log that is rolled every few facts, and read only when everything that was rolled is archived: nearly all that is read comes
/// from the archive, and every page crosses from one part to the next.
#[derive(Debug)]
struct Rolled(SledLog);

#[async_trait]
impl EventLog for Rolled {
    fn append(&self, appends: Vec<Append>, ack: Ack) -> Appending {
        self.0.append(appends, ack)
    }

    async fn read(
        &self,
        stream: StreamId,
        from: Version,
        limit: usize,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        self.0.settle().await;
        self.0.read(stream, from, limit).await
    }

    async fn read_back(
        &self,
        stream: StreamId,
        through: Position,
        limit: usize,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        self.0.settle().await;
        self.0.read_back(stream, through, limit).await
    }

    async fn read_all(&self, from: Position, limit: usize) -> Result<Vec<Arc<Recorded>>, ReadError> {
        self.0.settle().await;
        self.0.read_all(from, limit).await
    }

    async fn find(&self, id: EventId) -> Result<Option<Position>, ReadError> {
        self.0.find(id).await
    }

    fn head(&self) -> Position {
        self.0.head()
    }

    fn watch(&self) -> watch::Receiver<Position> {
        self.0.watch()
    }

    fn read_only(&self) -> Option<ReadOnly> {
        self.0.read_only()
    }

    async fn verify(&self) -> Result<Verified, ReadError> {
        self.0.settle().await;
        self.0.verify().await
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

struct Rolling(TempDir);

impl Rolling {
    fn new() -> Self {
        Self(TempDir::new().expect("a directory for the log"))
    }
}

#[async_trait]
impl Factory for Rolling {
    async fn open(&self) -> Arc<dyn EventLog> {
        let options = Options { roll_events: Some(3), ..Options::default() };
        let (log, opened) = SledLog::open(&self.0.path().join("log"), &options).expect("the log opens");
        assert_eq!(opened.repaired, None);
        Arc::new(Rolled(log))
    }

    fn keeps(&self) -> bool {
        true
    }
}

/// The same store with a keyring: what it seals must not show.
struct Sealed(TempDir);

#[async_trait]
impl Factory for Sealed {
    async fn open(&self) -> Arc<dyn EventLog> {
        let keys = Keyring::open(&self.0.path().join("keys"), None).expect("the keys open");
        let options = Options { keys: Some(Arc::new(keys)), ..Options::default() };
        let opened = SledLog::open_with(&self.0.path().join("log"), &options, &mut |_| {});
        Arc::new(opened.expect("the log opens").0)
    }

    fn keeps(&self) -> bool {
        true
    }
}

mod memory {
    use super::Memory;
    covalence_events::log_conformance!(Memory);
}

mod sled {
    use super::Sled;
    covalence_events::log_conformance!(Sled::new());
}

mod rolling {
    use super::Rolling;
    covalence_events::log_conformance!(Rolling::new());
}

mod sealed {
    use super::{Sealed, TempDir};
    covalence_events::log_conformance!(Sealed(TempDir::new().expect("a directory for the log")));
}
