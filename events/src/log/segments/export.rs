//! The follower that keeps the log's segments and checkpoints up to date.
//!
//! It reads what is durable, on threads that may block, and holds one segment at most; the writer never waits for it. What
//! is not exported yet is found in the log again after a restart, so nothing of its own has to be remembered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::{Cutter, Place, SEGMENT_BYTES, SegmentError};
use crate::envelope::Timestamp;
use crate::id::Position;
use crate::log::checkpoint::{Book, Checkpoint, Signer};
use crate::log::{Frames, ReadError};
use crate::metrics as names;
use crate::pulse::Pulse;

/// Between two looks at the log. A segment is cut this much late at most.
const TICK: Duration = Duration::from_secs(1);

/// Between two tries at a place that fails: the first, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// Checkpoints that wait for a place that fails; older ones are only in the log's own directory.
const PENDING_MAX: usize = 64;

/// When to cut, and when to sign.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// A segment is cut at this many bytes before compression …
    pub bytes: usize,
    /// … or when its first fact is this old, so that a quiet log is exported too.
    pub every: Duration,
    /// A checkpoint is signed after this long, if there is anything new …
    pub sign_every: Duration,
    /// … or after this many facts, but not within [`Rules::sign_gap`].
    pub sign_events: u64,
    /// Between two checkpoints at least: each costs a flush on the log's own disk.
    pub sign_gap: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            bytes: SEGMENT_BYTES,
            every: Duration::from_hours(1),
            sign_every: Duration::from_mins(10),
            sign_events: 10_000,
            sign_gap: Duration::from_mins(1),
        }
    }
}

/// How the export fares, for whoever asks.
#[derive(Debug)]
pub struct Status {
    /// Where segments go; `None`: nowhere.
    pub place: Option<String>,
    now: Mutex<Progress>,
}

/// See [`Status`].
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The last position that is in a segment.
    pub exported: Position,
    /// When everything that was due had been written, last.
    pub succeeded_at: Option<Timestamp>,
    /// Why the last try failed, if it did.
    pub failed: Option<String>,
    /// The position of the last checkpoint.
    pub signed: Option<Position>,
}

impl Status {
    /// Of an export to a place that fares so.
    pub fn new(place: Option<String>, now: Progress) -> Self {
        Self { place, now: now.into() }
    }

    /// How it fares now.
    pub fn progress(&self) -> Progress {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn update(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// See the module.
#[derive(Debug)]
pub struct Exporter {
    log: Arc<dyn Frames>,
    head: watch::Receiver<Position>,
    place: Option<Place>,
    book: Book,
    signer: Arc<Signer>,
    rules: Rules,
    status: Arc<Status>,
    pulse: Arc<Pulse>,
    cutter: Option<Cutter>,
    /// When the first fact was taken that is in no segment yet.
    begun: Option<Instant>,
    /// Whether facts wait since before this run, or since the place failed: nobody knows for how long.
    overdue: bool,
    retry: Option<(Instant, Duration)>,
    signed: (Position, Instant),
    pending: Vec<Checkpoint>,
}

impl Exporter {
    /// Follows a log whose `head` ends when it is closed. `place`: none for checkpoints only.
    ///
    /// # Errors
    /// When the key or the checkpoints can't be read.
    pub fn new(
        (log, head): (Arc<dyn Frames>, watch::Receiver<Position>),
        book: Book,
        place: Option<Place>,
        rules: Rules,
    ) -> std::io::Result<Self> {
        let signer = Arc::new(book.signer()?);
        let last = book.read()?.0.last().map(|checkpoint| checkpoint.position);
        let progress = Progress { signed: last, ..Progress::default() };
        let status = Status::new(place.as_ref().map(|place| place.shown().to_owned()), progress);
        Ok(Self {
            log,
            head,
            place,
            book,
            signer,
            rules,
            status: Arc::new(status),
            pulse: Pulse::new("log-export"),
            cutter: None,
            begun: None,
            overdue: false,
            retry: None,
            signed: (last.unwrap_or_default(), Instant::now()),
            pending: Vec::new(),
        })
    }

    /// How it fares.
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// Comes round about once a second.
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Exports until the log is closed, and then what is left.
    pub async fn run(mut self) {
        loop {
            let closing = tokio::select! {
                () = sleep(TICK) => false,
                () = closed(&mut self.head) => true,
            };
            self.step(closing).await;
            self.pulse.tick();
            if closing {
                return;
            }
        }
    }

    async fn step(&mut self, closing: bool) {
        let head = self.log.head();
        if let Err(error) = self.sign(head, closing).await {
            tracing::error!(%error, "a checkpoint of the log could not be signed");
        }
        let waits = self.retry.is_some_and(|(until, _)| Instant::now() < until);
        if let Some(place) = self.place.clone()
            && (closing || !waits)
        {
            let exported = self.export(&place, closing).await;
            self.note(exported);
        }
        if self.place.is_some() {
            let lag = head.0.saturating_sub(self.status.progress().exported.0);
            #[expect(clippy::cast_precision_loss, reason = "a gauge; exact up to 2^53 facts")]
            metrics::gauge!(names::EXPORT_LAG).set(lag as f64);
        }
    }

    fn note(&mut self, exported: Result<(), SegmentError>) {
        match exported {
            Ok(()) => {
                if self.retry.take().is_some() {
                    tracing::info!(place = self.status.place, "the log is exported again");
                }
                let now = chrono::Utc::now();
                #[expect(clippy::cast_precision_loss, reason = "a gauge; seconds since 1970")]
                metrics::gauge!(names::EXPORT_SUCCESS).set(now.timestamp() as f64);
                self.status.update(|progress| {
                    progress.succeeded_at = Some(now);
                    progress.failed = None;
                });
            }
            Err(error) => {
                let reason = chain(&error);
                let wait = self.retry.map_or(RETRY.0, |(_, wait)| (wait * 2).min(RETRY.1));
                if self.retry.is_none() {
                    tracing::warn!(reason, "the log is not exported; trying again");
                }
                self.retry = Some((Instant::now() + wait, wait));
                self.status.update(|progress| progress.failed = Some(reason));
            }
        }
    }

    /// Writes every segment that is due.
    async fn export(&mut self, place: &Place, closing: bool) -> Result<(), SegmentError> {
        let mut cutter = if let Some(cutter) = self.cutter.take() {
            cutter
        } else {
            let cutter = self.resume(place).await?;
            self.overdue = cutter.last() < self.log.head();
            cutter
        };
        loop {
            let (log, bytes) = (Arc::clone(&self.log), self.rules.bytes);
            let (filled, full) = blocking("reading the log", move || {
                let full = cutter.fill(log.as_ref(), bytes)?;
                Ok((cutter, full))
            })
            .await?;
            cutter = filled;
            if cutter.is_empty() {
                break;
            }
            let begun = *self.begun.get_or_insert_with(Instant::now);
            if !full && !closing && !self.overdue && begun.elapsed() < self.rules.every {
                break;
            }
            let (log, following) = (Arc::clone(&self.log), cutter.following());
            let cut = blocking("cutting a segment", move || {
                let segment = cutter.segment(log.as_ref())?;
                let encoded = segment.map(|segment| segment.encode().map(|file| (segment.name, file)));
                let failed = |error: std::io::Error| ReadError::Store {
                    what: "a segment".to_owned(),
                    reason: error.to_string(),
                };
                encoded.transpose().map_err(failed)
            });
            // What was taken in is read anew if the place fails; it is not worth holding on to meanwhile.
            if let Some((name, file)) = cut.await? {
                place.put(name, file).await?;
                tracing::debug!(%name, "a segment of the log was written");
                self.status.update(|progress| progress.exported = name.last);
            }
            self.begun = None;
            self.overdue &= full;
            cutter = following;
        }
        self.cutter = Some(cutter);
        while let Some(checkpoint) = self.pending.first() {
            place.put_checkpoint(checkpoint).await?;
            self.pending.remove(0);
        }
        Ok(())
    }

    /// Goes on behind the last segment, if that is one of this log.
    async fn resume(&self, place: &Place) -> Result<Cutter, SegmentError> {
        let log = Arc::clone(&self.log);
        let Some(name) = place.segments().await?.into_iter().max_by_key(|name| name.last) else {
            self.status.update(|progress| progress.exported = Position(0));
            return blocking("reading the log", move || Cutter::at(log.as_ref(), Position(0))).await;
        };
        let segment = place.get(name).await?;
        let link = blocking("reading the log", move || log.link(name.last)).await?;
        if link != Some(segment.after) {
            let reason = match link {
                None => format!("this log ends at {}", self.log.head()),
                Some(_) => "the chain differs there".to_owned(),
            };
            let place = place.shown().to_owned();
            return Err(SegmentError::Foreign { place, last: name.last, reason });
        }
        self.status.update(|progress| progress.exported = name.last);
        Ok(Cutter::after(name.last, segment.after))
    }

    /// Signs a checkpoint where one is due.
    async fn sign(&mut self, head: Position, closing: bool) -> Result<(), SegmentError> {
        let (last, at) = self.signed;
        let due = at.elapsed() >= self.rules.sign_every
            || (head.0.saturating_sub(last.0) >= self.rules.sign_events
                && at.elapsed() >= self.rules.sign_gap);
        if head == last || head == Position(0) || !(due || closing) {
            return Ok(());
        }
        self.signed = (head, Instant::now());
        let (log, book, signer) = (Arc::clone(&self.log), self.book.clone(), Arc::clone(&self.signer));
        let signed = blocking("signing a checkpoint", move || {
            let Some(link) = log.link(head)? else { return Ok(None) };
            let checkpoint = signer.sign(head, link, chrono::Utc::now());
            let failed = |error: std::io::Error| ReadError::Store {
                what: "the checkpoints".to_owned(),
                reason: error.to_string(),
            };
            book.add(std::slice::from_ref(&checkpoint)).map_err(failed)?;
            Ok(Some(checkpoint))
        });
        if let Some(checkpoint) = signed.await? {
            self.status.update(|progress| progress.signed = Some(checkpoint.position));
            if self.place.is_some() {
                self.pending.push(checkpoint);
                let surplus = self.pending.len().saturating_sub(PENDING_MAX);
                self.pending.drain(..surplus);
            }
        }
        Ok(())
    }
}

/// Waits until the log is closed.
async fn closed(head: &mut watch::Receiver<Position>) {
    while head.changed().await.is_ok() {}
}

async fn blocking<T: Send + 'static>(
    step: &str,
    work: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, SegmentError> {
    let done = spawn_blocking(work).await;
    let done = done
        .map_err(|error| SegmentError::Io { step: step.to_owned(), source: std::io::Error::other(error) })?;
    Ok(done?)
}

/// An error with its causes, for people.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
