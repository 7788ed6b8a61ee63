//! The same facts in a plain file: the least that keeping and reading them again can cost.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::path::Path;

use anyhow::{Result, ensure};
use covalence_events::{Fact, NewEvent};

use crate::batched::{PREFIX, encode};
use crate::file::finish;

const BUFFER: usize = 1 << 20;
/// Id, time, boot and correlation.
const ENVELOPE: usize = 16 + 8 + 16 + 16;

#[derive(Debug)]
pub(crate) struct Writer {
    file: BufWriter<File>,
}

impl Writer {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        Ok(Self { file: BufWriter::with_capacity(BUFFER, File::create(path)?) })
    }

    pub(crate) fn write(&mut self, event: &NewEvent) -> Result<()> {
        let mut record = encode(event)?;
        finish(&mut record)?;
        Ok(self.file.write_all(&record)?)
    }

    pub(crate) fn finish(self) -> Result<()> {
        Ok(self.file.into_inner()?.sync_all()?)
    }
}

/// Reads all of it, checks each record and decodes each fact. Answers how many there are.
pub(crate) fn replay(path: &Path) -> Result<u64> {
    let mut file = BufReader::with_capacity(BUFFER, File::open(path)?);
    let (mut prefix, mut record, mut facts) = ([0; PREFIX], Vec::new(), 0);
    while !file.fill(&mut prefix)? {
        let [length, crc] =
            [0, 4].map(|at| u32::from_be_bytes([prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]]));
        record.resize(usize::try_from(length)?, 0);
        file.read_exact(&mut record)?;
        ensure!(crc32fast::hash(&record) == crc, "a record of the plain file is damaged");
        let tag_end = ENVELOPE + 1 + usize::from(record[ENVELOPE]);
        let tag = std::str::from_utf8(&record[ENVELOPE + 1..tag_end])?;
        std::hint::black_box(Fact::decode(tag, &record[tag_end..])?);
        facts += 1;
    }
    Ok(facts)
}

trait Fill {
    /// Whether the file ended instead.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<bool>;
}

impl Fill for BufReader<File> {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<bool> {
        use std::io::BufRead as _;
        if self.fill_buf()?.is_empty() {
            return Ok(true);
        }
        self.read_exact(bytes)?;
        Ok(false)
    }
}
