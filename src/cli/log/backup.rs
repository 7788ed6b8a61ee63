//! `covalence log backup`: the log in segments, somewhere else.

use clap::Args;
use covalence_events::Position;
use covalence_events::log::checkpoint::{Book, Checkpoint};
use covalence_events::log::segments::{Cutter, Place, SEGMENT_BYTES, Segment, SegmentError};
use covalence_events::log::sled::ClosedLog;
use covalence_events::log::{Frames as _, Link, OpenError, ReadError};
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::verify::{held, own_checkpoints};
use super::{found, log_path, segment_failure};
use crate::cli::Shared;
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::output::note;
use crate::segments::Destination;

const EXAMPLES: &str = "\
Examples:
  covalence log backup /media/usb/covalence
  covalence log backup s3://backups/covalence";

#[expect(clippy::doc_markdown, reason = "these comments are help texts, where backticks would show")]
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Backup {
    /// Where to: a directory, or s3://bucket/prefix. What it has already is continued
    #[arg(value_name = "PLACE")]
    to: Destination,
}

/// Where segments come from.
enum From<'a> {
    Server(&'a Client),
    Directory(std::sync::Arc<ClosedLog>),
}

impl Backup {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let place = found(&self.to, self.to.to_write())?;
        let path = log_path(shared)?;
        let book = Book::new(&path);
        let opened = tokio::task::spawn_blocking(move || ClosedLog::open(&path)).await;
        let client;
        let (from, checkpoints) = match opened.map_err(anyhow::Error::from)? {
            Ok(log) => (From::Directory(log.into()), book.read()?.0),
            Err(locked @ OpenError::Locked { .. }) => {
                client = shared.client()?;
                note(&format!("the log is in use: asking the server at {}", client.url()));
                let checkpoints = match own_checkpoints(&client).await {
                    Err(failure) if failure.exit == Exit::Unreachable => return Err(held(locked)),
                    answer => answer?,
                };
                (From::Server(&client), checkpoints)
            }
            Err(error) => return Err(anyhow::Error::from(error).into()),
        };
        let (had, segments, last) = copy(&from, &place).await?;
        let signed = copy_checkpoints(&checkpoints, &place, last).await?;
        let output = shared.output();
        if output.json {
            return output.document(&json!({
                "place": place.shown(), "had": had, "segments": segments, "position": last, "checkpoints": signed,
            }));
        }
        output.line(&match segments {
            0 => format!("`{}` has the log up to position {last} already", place.shown()),
            _ => format!(
                "positions {} to {last} are in `{}`, in {segments} new segments",
                had.next(),
                place.shown()
            ),
        })
    }
}

/// Copies what the place lacks; the last position that it had, how many segments came, and the last position now.
async fn copy(from: &From<'_>, place: &Place) -> Outcome<(Position, u64, Position)> {
    let (had, mut link) =
        match place.segments().await.map_err(segment_failure)?.into_iter().max_by_key(|name| name.last) {
            None => (Position(0), Link::default()),
            Some(name) => {
                let segment = place.get(name).await.map_err(segment_failure)?;
                (segment.name.last, segment.after)
            }
        };
    let (mut last, mut segments) = (had, 0);
    // Facts come while others are copied; a log that is written faster than it is copied has to end somewhere.
    let mut until = None;
    while until.is_none_or(|until| last < until) {
        let Some((segment, file, head)) =
            next(from, last).await.map_err(|failure| foreign(failure, place, had))?
        else {
            break;
        };
        if segment.before != link {
            let reason = format!("the chain differs at position {last}");
            let place = place.shown().to_owned();
            return Err(segment_failure(SegmentError::Foreign { place, last: had, reason }));
        }
        place.put(segment.name, file).await.map_err(segment_failure)?;
        (last, link) = (segment.name.last, segment.after);
        segments += 1;
        until = until.or(head);
    }
    Ok((had, segments, last))
}

/// A place that has more than the log is of another one. One that ends where the log was rolled up since can't be continued.
fn foreign(failure: Failure, place: &Place, had: Position) -> Failure {
    let removed = matches!(failure.error.downcast_ref(), Some(ReadError::Removed { .. }));
    if removed || failure.exit == Exit::NotFound {
        let hint =
            format!("it can't be continued after so long; begin another backup beside `{}`", place.shown());
        return failure.hint(hint);
    }
    if failure.exit == Exit::Refused {
        let reason = format!("{:#}", failure.error);
        return segment_failure(SegmentError::Foreign { place: place.shown().to_owned(), last: had, reason });
    }
    failure
}

/// The segment after a position, and the log's head where it is known.
async fn next(from: &From<'_>, after: Position) -> Outcome<Option<(Segment, Vec<u8>, Option<Position>)>> {
    match from {
        From::Server(client) => {
            let request = client.request(Method::GET, &["admin", "log", "segments"]);
            let response = client.send(request.query(&[("after", after.0)])).await?;
            if response.status() == StatusCode::NO_CONTENT {
                return Ok(None);
            }
            let head =
                response.headers().get("x-covalence-head").and_then(|head| head.to_str().ok()?.parse().ok());
            let file = response.bytes().await.map_err(|error| client.transport_failure(error))?.to_vec();
            let segment = Segment::decode(&file).map_err(|flaw| {
                Failure::new(Exit::Failure, format!("the server's segment after {after}: {flaw}"))
            })?;
            Ok(Some((segment, file, head.map(Position))))
        }
        From::Directory(log) => {
            if after > log.head() {
                return Err(Failure::new(Exit::Refused, format!("the log ends at {}", log.head())));
            }
            let log = std::sync::Arc::clone(log);
            let cut = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
                let mut cutter = Cutter::at(log.as_ref(), after)?;
                cutter.fill(log.as_ref(), SEGMENT_BYTES)?;
                let Some(segment) = cutter.segment(log.as_ref())? else { return Ok(None) };
                let file = segment.encode()?;
                Ok(Some((segment, file, None)))
            });
            Ok(cut.await.map_err(anyhow::Error::from)??)
        }
    }
}

async fn copy_checkpoints(checkpoints: &[Checkpoint], place: &Place, last: Position) -> Outcome<usize> {
    let (there, _) = place.checkpoints(last).await.map_err(segment_failure)?;
    let missing =
        checkpoints.iter().filter(|checkpoint| checkpoint.position <= last && !there.contains(checkpoint));
    let mut copied = 0;
    for checkpoint in missing {
        place.put_checkpoint(checkpoint).await.map_err(segment_failure)?;
        copied += 1;
    }
    Ok(copied)
}
