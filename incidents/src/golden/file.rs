//! How a case lies in its file: a JSON document that anybody can read, a line feed, and the facts as one zstd frame.
//!
//! Facts are in the log's own encoding, so that a case of today is read for as long as a log of today is.

use std::sync::Arc;

use covalence_events::{Fact, Meta, Position, Recorded, Version};
use serde::{Deserialize, Serialize};

use super::{Case, CaseError, Header};

/// The format of the file. A larger number is refused.
pub(super) const FORMAT: u32 = 1;
/// Bytes of the facts before compression that are taken from a file: a damaged or malicious one must not fill the memory.
const BYTES_MAX: usize = 256 * 1024 * 1024;
/// zstd's level: a case is written once and kept for years.
const LEVEL: i32 = 19;

/// One fact.
#[derive(Serialize, Deserialize)]
struct Line {
    position: Position,
    stream: String,
    version: Version,
    meta: Meta,
    tag: String,
    #[serde(with = "serde_bytes")]
    payload: Vec<u8>,
}

impl Case {
    /// The file.
    pub fn write(mut self) -> Result<Vec<u8>, CaseError> {
        let mut facts = Vec::new();
        for event in &self.facts {
            let failed = |source| CaseError::Fact { position: event.position.0, source };
            let line = Line {
                position: event.position,
                stream: event.stream.to_string(),
                version: event.version,
                meta: event.meta.clone(),
                tag: event.fact.tag().to_owned(),
                payload: event.fact.encode().map_err(failed)?,
            };
            let bytes =
                rmp_serde::to_vec_named(&line).map_err(|error| CaseError::Write(error.to_string()))?;
            facts.extend_from_slice(&bytes);
        }
        self.header.format = FORMAT;
        self.header.facts = self.facts.len() as u64;
        self.header.digest = blake3::hash(&facts).to_hex().to_string();
        let mut file =
            serde_json::to_vec_pretty(&self.header).map_err(|error| CaseError::Write(error.to_string()))?;
        file.push(b'\n');
        let packed =
            zstd::bulk::compress(&facts, LEVEL).map_err(|error| CaseError::Write(error.to_string()))?;
        file.extend_from_slice(&packed);
        Ok(file)
    }

    /// Reads a file.
    pub fn read(file: &[u8]) -> Result<Self, CaseError> {
        let (header, packed) = header(file)?;
        let facts = zstd::bulk::decompress(packed, BYTES_MAX)
            .map_err(|error| CaseError::NoCase(format!("its facts can't be unpacked: {error}")))?;
        if blake3::hash(&facts).to_hex().as_str() != header.digest {
            return Err(CaseError::NoCase("its facts are not those that its header names".to_owned()));
        }
        let mut rest = facts.as_slice();
        let mut read = Vec::new();
        while !rest.is_empty() {
            let line: Line = rmp_serde::from_read(&mut rest)
                .map_err(|error| CaseError::NoCase(format!("fact {}: {error}", read.len() + 1)))?;
            read.push(Arc::new(fact(line)?));
        }
        Ok(Self { header, facts: read })
    }
}

/// What a file says about itself, and what follows.
fn header(file: &[u8]) -> Result<(Header, &[u8]), CaseError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let no_case = |error: serde_json::Error| CaseError::NoCase(format!("its header: {error}"));
    let mut documents = serde_json::Deserializer::from_slice(file).into_iter::<serde_json::Value>();
    let value = documents.next().ok_or_else(|| CaseError::NoCase("it is empty".to_owned()))?;
    let value = value.map_err(no_case)?;
    let packed = file.get(documents.byte_offset() + 1..).unwrap_or_default();
    let Format { format } = Format::deserialize(&value).map_err(no_case)?;
    if format > FORMAT {
        return Err(CaseError::NewerFormat { found: format, known: FORMAT });
    }
    Ok((serde_json::from_value(value).map_err(no_case)?, packed))
}

fn fact(line: Line) -> Result<Recorded, CaseError> {
    let stream = line.stream.parse().map_err(|error| CaseError::NoCase(format!("{error}")))?;
    let fact = Fact::decode(&line.tag, &line.payload)
        .map_err(|source| CaseError::Fact { position: line.position.0, source })?;
    Ok(Recorded { position: line.position, stream, version: line.version, meta: line.meta, fact })
}
