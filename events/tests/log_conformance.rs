//! Every store passes the port's conformance suite.

use std::sync::Arc;

use async_trait::async_trait;
use covalence_events::log::EventLog;
use covalence_events::log::conformance::Factory;
use covalence_events::log::memory::MemoryLog;
use covalence_events::log::sled::{Options, SledLog};
use tempfile::TempDir;

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

mod memory {
    use super::Memory;
    covalence_events::log_conformance!(Memory);
}

mod sled {
    use super::Sled;
    covalence_events::log_conformance!(Sled::new());
}
