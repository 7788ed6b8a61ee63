//! Output of containers, and what is kept of it when a container is removed.
//!
//! A stale container is removed before the next one starts, and its log with it. The last part is kept as
//! `<data-dir>/workspaces/<id>/logs/<generation>.log`, so that "why did it die" has an answer afterwards.

use std::path::PathBuf;
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::LogsOptionsBuilder;
use bytes::{Bytes, BytesMut};
use covalence_actors::effect::{BackendError, LogQuery, LogStream};
use covalence_events::{Generation, WorkspaceId};
use futures_util::{StreamExt, stream};

use super::DockerBackend;
use super::engine::within;
use super::errors::Failure;
use super::observe::generation_of;

/// The end of a log explains a death; a megabyte is some ten thousand lines.
const KEPT_BYTES_MAX: usize = 1024 * 1024;
/// Asked of the engine, so that a huge log isn't read to its end for the last megabyte.
const KEPT_LINES: &str = "10000";
/// Older ones than the last five generations' explain nothing any more.
const KEPT_LOGS_MAX: usize = 5;
/// A log that is kept before its container goes: a restart waits for it.
const KEEP_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two chunks of a log that is not followed. The engine reads it from a local file.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(10);

/// One run whose output can be shown.
enum Run {
    Container(String),
    Kept(PathBuf),
}

impl DockerBackend {
    pub(super) async fn output(
        &self,
        workspace: WorkspaceId,
        query: LogQuery,
    ) -> Result<LogStream, BackendError> {
        let mut runs: Vec<(Generation, Run)> = Vec::new();
        for container in self.containers_of(Some(workspace)).await? {
            if let (Some(generation), Some(id)) = (generation_of(&container), container.id) {
                runs.push((generation, Run::Container(id)));
            }
        }
        for (generation, path) in self.kept_logs(workspace).await {
            runs.push((generation, Run::Kept(path)));
        }
        // Newest first; a container before what was kept of it (the sort is stable).
        runs.sort_by_key(|(generation, _)| std::cmp::Reverse(*generation));
        runs.dedup_by_key(|(generation, _)| *generation);
        match runs.into_iter().nth(usize::from(query.previous)) {
            Some((_, Run::Container(id))) => Ok(container_output(&self.engine.client()?, &id, &query)),
            Some((_, Run::Kept(path))) => kept_output(path, query.tail).await,
            None => Err(BackendError {
                code: "no_logs",
                detail: format!(
                    "no {} run of this workspace has left any output",
                    if query.previous { "previous" } else { "current" }
                ),
            }),
        }
    }

    fn log_directory(&self, workspace: WorkspaceId) -> PathBuf {
        self.config.data_dir.join("workspaces").join(workspace.to_string()).join("logs")
    }

    async fn kept_logs(&self, workspace: WorkspaceId) -> Vec<(Generation, PathBuf)> {
        let mut found = Vec::new();
        let Ok(mut entries) = tokio::fs::read_dir(self.log_directory(workspace)).await else { return found };
        while let Ok(Some(entry)) = entries.next_entry().await {
            let path = entry.path();
            let generation =
                path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            if let (Some(generation), Some(true)) = (generation, path.extension().map(|ext| ext == "log")) {
                found.push((Generation(generation), path));
            }
        }
        found.sort_by_key(|(generation, _)| std::cmp::Reverse(*generation));
        found
    }

    /// Keeps the end of a container's log. A log that can't be kept must not keep the container.
    pub(super) async fn keep_log(&self, id: &str, workspace: WorkspaceId, generation: Option<Generation>) {
        let Some(generation) = generation else { return };
        if let Err(error) = self.try_keep_log(id, workspace, generation).await {
            tracing::warn!(%workspace, %generation, error, "can't keep a removed container's log");
        }
    }

    async fn try_keep_log(
        &self,
        id: &str,
        workspace: WorkspaceId,
        generation: Generation,
    ) -> Result<(), String> {
        let docker = self.engine.client().map_err(|failure| failure.detail)?;
        let log = collect(&docker, id, KEPT_LINES).await.map_err(|failure| failure.detail)?;
        let directory = self.log_directory(workspace);
        let write = async {
            tokio::fs::create_dir_all(&directory).await?;
            tokio::fs::write(directory.join(format!("{generation}.log")), log).await
        };
        write.await.map_err(|error: std::io::Error| error.to_string())?;
        for (_, path) in self.kept_logs(workspace).await.into_iter().skip(KEPT_LOGS_MAX) {
            tokio::fs::remove_file(path).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    pub(super) async fn drop_logs(&self, workspace: WorkspaceId) -> Result<(), Failure> {
        match tokio::fs::remove_dir_all(self.log_directory(workspace)).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::garbage("remove the kept logs", &error.to_string()))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// The last lines of a container that did not live, in one text; empty if there are none.
pub(super) async fn last_lines(docker: &Docker, id: &str, lines: &str) -> String {
    let log = collect(docker, id, lines).await.unwrap_or_default();
    String::from_utf8_lossy(&log).trim().to_owned()
}

async fn collect(docker: &Docker, id: &str, lines: &str) -> Result<Bytes, Failure> {
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(lines).build();
    let mut kept = BytesMut::new();
    let read = async {
        let mut chunks = std::pin::pin!(docker.logs(id, Some(options)));
        while let Some(chunk) = chunks.next().await {
            kept.extend_from_slice(&chunk?.into_bytes());
            if kept.len() > 2 * KEPT_BYTES_MAX {
                let _older = kept.split_to(kept.len() - KEPT_BYTES_MAX);
            }
        }
        Ok(())
    };
    within("read the container's log", KEEP_TIMEOUT, read).await?;
    let start = kept.len().saturating_sub(KEPT_BYTES_MAX);
    Ok(kept.split_off(start).freeze())
}

fn container_output(docker: &Docker, id: &str, query: &LogQuery) -> LogStream {
    let follow = query.follow;
    let tail = query.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).follow(follow).tail(&tail).build();
    let chunks = docker.logs(id, Some(options)).boxed();
    Box::pin(stream::unfold(Some(chunks), move |chunks| async move {
        let mut chunks = chunks?;
        let what = "read the container's log";
        // A followed log may be silent for as long as its agent is.
        let next = if follow {
            Ok(chunks.next().await)
        } else {
            tokio::time::timeout(CHUNK_TIMEOUT, chunks.next()).await
        };
        match next {
            Ok(Some(Ok(chunk))) => Some((Ok(chunk.into_bytes()), Some(chunks))),
            Ok(Some(Err(error))) => Some((Err(Failure::from_client(what, &error).into()), None)),
            Ok(None) => None,
            Err(_) => Some((Err(Failure::timeout(what, CHUNK_TIMEOUT).into()), None)),
        }
    }))
}

async fn kept_output(path: PathBuf, tail: Option<u32>) -> Result<LogStream, BackendError> {
    let log = tokio::fs::read(&path).await.map_err(|error| BackendError {
        code: "no_logs",
        detail: format!("can't read the kept log: {error}"),
    })?;
    let start = tail.map_or(0, |lines| start_of_last_lines(&log, lines));
    Ok(Box::pin(stream::iter([Ok(Bytes::from(log).slice(start..))])))
}

fn start_of_last_lines(log: &[u8], lines: u32) -> usize {
    let Some(lines) = usize::try_from(lines).ok().filter(|&lines| lines > 0) else { return log.len() };
    let body = log.strip_suffix(b"\n").unwrap_or(log);
    let breaks = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    breaks.map(|(place, _)| place + 1).nth(lines - 1).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_begin_after_a_line_break() {
        let log = b"one\ntwo\nthree\n";
        assert_eq!(&log[start_of_last_lines(log, 1)..], b"three\n");
        assert_eq!(&log[start_of_last_lines(log, 2)..], b"two\nthree\n");
        assert_eq!(&log[start_of_last_lines(log, 9)..], log);
        assert_eq!(&log[start_of_last_lines(log, 0)..], b"");
        assert_eq!(&b"one\ntwo"[start_of_last_lines(b"one\ntwo", 1)..], b"two");
    }
}
