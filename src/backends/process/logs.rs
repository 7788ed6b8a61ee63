//! The output of a workspace: one file a generation, bounded in number and in size.
//!
//! The process writes straight into its file, so nothing is lost while the platform is away. A file that grows too large
//! is moved aside by copying and then cut to nothing, since the process goes on writing through its own handle.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use covalence_actors::effect::{BackendError, LogQuery, LogStream};
use covalence_events::Generation;

use super::record::file_error;

/// The current one, the one before, and one more for a crash loop's first words.
const GENERATIONS_KEPT: usize = 3;
/// Some hours of a talkative agent; two such parts are kept for each generation.
pub(super) const LOG_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// What is read at once: a page of output.
const CHUNK_BYTES: usize = 64 * 1024;
/// How far back the last lines of a log are looked for.
const TAIL_BYTES_MAX: u64 = 1024 * 1024;
/// How long new output may wait until a follower sees it.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

/// The file of one generation.
pub(super) fn file(logs: &Path, generation: Generation) -> PathBuf {
    logs.join(format!("{generation}.log"))
}

fn moved_aside(current: &Path) -> PathBuf {
    current.with_extension("log.old")
}

/// Opens the file of a generation for its process, and removes those of generations long gone. Blocking.
pub(super) fn open(logs: &Path, generation: Generation) -> io::Result<File> {
    let older = generations(logs)?.filter(|known| *known < generation);
    for gone in older.rev().skip(GENERATIONS_KEPT - 1) {
        let path = file(logs, gone);
        let _ = std::fs::remove_file(moved_aside(&path));
        std::fs::remove_file(path)?;
    }
    OpenOptions::new().append(true).create(true).mode(0o600).open(file(logs, generation))
}

/// Moves a file that is too large aside. Blocking. Lines written during the copy may be lost.
pub(super) fn bound(logs: &Path, generation: Generation) -> io::Result<()> {
    let current = file(logs, generation);
    match std::fs::metadata(&current) {
        Ok(metadata) if metadata.len() > LOG_BYTES_MAX => {
            let mut from = File::open(&current)?;
            // A burst between two looks may have made it much larger; the end is what matters.
            from.seek(SeekFrom::Start(metadata.len() - LOG_BYTES_MAX))?;
            let mut to = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(moved_aside(&current))?;
            io::copy(&mut from.take(LOG_BYTES_MAX), &mut to)?;
            OpenOptions::new().write(true).open(&current)?.set_len(0)
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The last lines of a generation's output, for an error message. Blocking; empty if there is none.
pub(super) fn last_lines(logs: &Path, generation: Generation, lines: u32) -> String {
    let path = file(logs, generation);
    let Ok(mut file) = File::open(&path) else { return String::new() };
    let Ok(start) = tail_start(&mut file, lines) else { return String::new() };
    let mut bytes = Vec::new();
    if file.seek(SeekFrom::Start(start)).is_err()
        || file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes).is_err()
    {
        return String::new();
    }
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// Generations with a file, sorted.
fn generations(logs: &Path) -> io::Result<std::vec::IntoIter<Generation>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(logs)? {
        let name = entry?.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_suffix(".log")).and_then(|text| text.parse().ok());
        found.extend(number.map(Generation));
    }
    found.sort_unstable();
    Ok(found.into_iter())
}

/// Where the last `lines` lines begin.
fn tail_start(file: &mut File, lines: u32) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let from = length.saturating_sub(TAIL_BYTES_MAX);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    Read::by_ref(file).take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    let body = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    if lines == 0 {
        return Ok(length);
    }
    let wanted = usize::try_from(lines).unwrap_or(usize::MAX);
    let newlines = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    let start = newlines.map(|(at, _)| at + 1).nth(wanted - 1).unwrap_or(0);
    Ok(from + u64::try_from(start).unwrap_or(0))
}

/// Where a reader is.
#[derive(Debug)]
struct Reader {
    logs: PathBuf,
    generation: Generation,
    /// Files to read before the current one, oldest first.
    parts: Vec<PathBuf>,
    offset: u64,
    follow: bool,
}

enum Step {
    Chunk(Bytes),
    Idle,
    End,
}

impl Reader {
    fn open(logs: PathBuf, query: &LogQuery) -> Result<Self, BackendError> {
        let nothing = || BackendError {
            code: "no_logs",
            detail: format!(
                "no {} run of this workspace has left any output",
                if query.previous { "previous" } else { "current" }
            ),
        };
        let mut known = match generations(&logs) {
            Ok(known) => known.rev(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(nothing()),
            Err(error) => return Err(file_error("list the logs", &error)),
        };
        let generation = known.nth(usize::from(query.previous)).ok_or_else(nothing)?;
        let current = file(&logs, generation);
        let (parts, offset) = match query.tail {
            Some(lines) => {
                let start = File::open(&current).and_then(|mut file| tail_start(&mut file, lines));
                (Vec::new(), start.map_err(|error| file_error("read the log", &error))?)
            }
            None => (vec![moved_aside(&current)], 0),
        };
        // Output of a run that is over does not grow.
        Ok(Self { logs, generation, parts, offset, follow: query.follow && !query.previous })
    }

    fn step(&mut self) -> io::Result<Step> {
        loop {
            let path = self.parts.first().cloned().unwrap_or_else(|| file(&self.logs, self.generation));
            let chunk = match File::open(&path) {
                Ok(file) => self.chunk(file)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                Err(error) => return Err(error),
            };
            if !chunk.is_empty() {
                return Ok(Step::Chunk(Bytes::from(chunk)));
            }
            if self.parts.is_empty() {
                return self.at_end();
            }
            self.parts.remove(0);
            self.offset = 0;
        }
    }

    fn chunk(&mut self, mut file: File) -> io::Result<Vec<u8>> {
        // Shorter than what was read: it was cut, and goes on from the beginning.
        if file.metadata()?.len() < self.offset {
            self.offset = 0;
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::with_capacity(CHUNK_BYTES);
        file.take(CHUNK_BYTES as u64).read_to_end(&mut bytes)?;
        self.offset += bytes.len() as u64;
        Ok(bytes)
    }

    fn at_end(&mut self) -> io::Result<Step> {
        if !self.follow {
            return Ok(Step::End);
        }
        match generations(&self.logs) {
            Ok(mut known) => {
                if let Some(next) = known.find(|known| *known > self.generation) {
                    self.generation = next;
                    self.offset = 0;
                }
                Ok(Step::Idle)
            }
            // The workspace was removed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Step::End),
            Err(error) => Err(error),
        }
    }
}

/// The output as a stream. A follower goes on with the next generation when one starts, until it is dropped.
pub(super) async fn stream(logs: PathBuf, query: LogQuery) -> Result<LogStream, BackendError> {
    let reader = super::blocking(move || Reader::open(logs, &query)).await??;
    let chunks = futures_util::stream::unfold(Some(reader), |state| async move {
        let mut reader = state?;
        loop {
            let stepped = super::blocking(move || {
                let step = reader.step();
                (reader, step)
            });
            let (back, step) = match stepped.await {
                Ok(done) => done,
                Err(error) => return Some((Err(error), None)),
            };
            reader = back;
            match step {
                Ok(Step::Chunk(bytes)) => return Some((Ok(bytes), Some(reader))),
                Ok(Step::Idle) => tokio::time::sleep(FOLLOW_INTERVAL).await,
                Ok(Step::End) => return None,
                Err(error) => return Some((Err(file_error("read the log", &error)), None)),
            }
        }
    });
    Ok(Box::pin(chunks))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use futures_util::TryStreamExt;

    use super::*;

    async fn text(logs: &Path, query: LogQuery) -> String {
        let chunks: Vec<Bytes> = stream(logs.to_owned(), query).await.unwrap().try_collect().await.unwrap();
        String::from_utf8(chunks.concat()).unwrap()
    }

    #[tokio::test]
    async fn a_tail_is_the_last_lines_of_the_current_run() {
        let logs = tempfile::tempdir().unwrap();
        open(logs.path(), Generation(1)).unwrap().write_all(b"old\n").unwrap();
        open(logs.path(), Generation(2)).unwrap().write_all(b"a\nb\nc\n").unwrap();
        let query = LogQuery { tail: Some(2), ..LogQuery::default() };
        assert_eq!(text(logs.path(), query).await, "b\nc\n");
        let query = LogQuery { previous: true, ..LogQuery::default() };
        assert_eq!(text(logs.path(), query).await, "old\n");
    }

    #[tokio::test]
    async fn a_log_that_grew_too_large_is_cut_and_still_read_in_order() {
        let logs = tempfile::tempdir().unwrap();
        let mut process = open(logs.path(), Generation(1)).unwrap();
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        for _ in 0..=LOG_BYTES_MAX / 1024 {
            process.write_all(&line).unwrap();
        }
        bound(logs.path(), Generation(1)).unwrap();
        process.write_all(b"after\n").unwrap();
        assert_eq!(std::fs::metadata(file(logs.path(), Generation(1))).unwrap().len(), 6);
        let all = text(logs.path(), LogQuery::default()).await;
        assert!(all.ends_with("x\nafter\n") && all.len() > 1024);
    }

    #[test]
    fn logs_of_generations_long_gone_are_removed() {
        let logs = tempfile::tempdir().unwrap();
        for generation in 1..=6 {
            open(logs.path(), Generation(generation)).unwrap();
        }
        let kept: Vec<_> = generations(logs.path()).unwrap().collect();
        assert_eq!(kept, [Generation(4), Generation(5), Generation(6)]);
    }
}
