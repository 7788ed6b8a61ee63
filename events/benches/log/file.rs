//! The least that a log can be: records in a file, each with its length and checksum.
//!
//! Segments of 64 MiB are filled with zeros before they are written to, so that a flush has no size to record; each batch is one
//! write and one `fdatasync`, and where a stream's records are is known in memory only. Floors are shares of what this does.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use covalence_events::StreamId;

use super::batched::{PREFIX, Record, Store};

/// Zeroed ahead of the writes.
const SEGMENT_BYTES: usize = 64 << 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct FileStore {
    dir: PathBuf,
    number: usize,
    segment: Segment,
    head: u64,
    streams: HashMap<StreamId, Vec<u64>>,
}

#[derive(Debug)]
struct Segment {
    file: File,
    at: usize,
}

impl Segment {
    fn create(dir: &Path, number: usize) -> Result<Self> {
        let path = dir.join(format!("{number:08}"));
        let file = OpenOptions::new().create_new(true).write(true).open(path)?;
        let zeros = vec![0; 1 << 20];
        for chunk in 0..SEGMENT_BYTES / zeros.len() {
            file.write_all_at(&zeros, (chunk * zeros.len()) as u64)?;
        }
        file.sync_all()?;
        Ok(Self { file, at: 0 })
    }
}

impl FileStore {
    pub(crate) fn create(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let segment = Segment::create(dir, 0)?;
        Ok(Self { dir: dir.to_owned(), number: 0, segment, head: 0, streams: HashMap::new() })
    }
}

impl Store for FileStore {
    fn commit(&mut self, batch: &mut [Record]) -> Result<()> {
        let mut buffer = Vec::new();
        for record in batch {
            self.head += 1;
            finish(&mut record.bytes)?;
            buffer.extend_from_slice(&record.bytes);
            self.streams.entry(record.stream).or_default().push(self.head);
        }
        if self.segment.at + buffer.len() > SEGMENT_BYTES {
            self.number += 1;
            self.segment = Segment::create(&self.dir, self.number)?;
        }
        self.segment.file.write_all_at(&buffer, self.segment.at as u64)?;
        self.segment.file.sync_data()?;
        self.segment.at += buffer.len();
        Ok(())
    }
}

/// Puts length and checksum in front of a record.
pub(crate) fn finish(bytes: &mut [u8]) -> Result<()> {
    let (prefix, body) = bytes.split_at_mut(PREFIX);
    prefix[..4].copy_from_slice(&u32::try_from(body.len())?.to_be_bytes());
    prefix[4..].copy_from_slice(&crc32fast::hash(body).to_be_bytes());
    Ok(())
}
