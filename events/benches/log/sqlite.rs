//! `SQLite` as an event store: what somebody would take who does not write a store.
//!
//! Write-ahead log, `synchronous = FULL`, one transaction a batch. The index over stream and version is what an expected version is
//! checked with there.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;
use covalence_events::StreamId;
use rusqlite::{Connection, params};

use super::batched::{PREFIX, Record, Store};

/// `SQLite`'s cache in KiB, as a negative number: as large as the log's.
const CACHE: i64 = -(64 << 10);

/// See the module.
#[derive(Debug)]
pub(crate) struct SqliteStore {
    connection: Connection,
    head: i64,
    versions: HashMap<StreamId, i64>,
}

impl SqliteStore {
    pub(crate) fn create(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let connection = Connection::open(dir.join("events.sqlite"))?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "cache_size", CACHE)?;
        connection.execute_batch(
            "create table events (position integer primary key, stream blob not null, version integer not null, \
                                  bytes blob not null);
             create unique index by_stream on events (stream, version);",
        )?;
        Ok(Self { connection, head: 0, versions: HashMap::new() })
    }
}

impl Store for SqliteStore {
    fn commit(&mut self, batch: &mut [Record]) -> Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached("insert into events values (?1, ?2, ?3, ?4)")?;
            for record in batch {
                self.head += 1;
                let version = self.versions.entry(record.stream).or_default();
                *version += 1;
                let stream = match record.stream {
                    StreamId::Fleet => [0; 16],
                    StreamId::Workspace(id) => *id.0.as_bytes(),
                };
                insert.execute(params![self.head, stream, *version, &record.bytes[PREFIX..]])?;
            }
        }
        Ok(transaction.commit()?)
    }
}
