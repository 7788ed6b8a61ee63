//! Reading the log's files: as they are, and if that fails, without what sled keeps beside its own.

use std::sync::Arc;

use super::blobs::Blobs;
use super::boot::{self, Scanned};
use super::decode::Decoder;
use super::directory::{Directory, failed};
use super::ending::Ending;
use super::layers::{Layers, Purpose};
use super::mend::{Mended, mend};
use super::store::Disk;
use super::{Options, Visit};
use crate::envelope::Recorded;
use crate::id::{EventId, Position};
use crate::log::OpenError;

/// What was read.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) layers: Layers,
    pub(super) blobs: Blobs,
    pub(super) scanned: Scanned,
    /// What was acknowledged, if it is not all there.
    pub(super) lost: Option<Position>,
    pub(super) mended: Option<Mended>,
}

/// Shows each fact to `visit` once, however often it is read.
struct Once<'v> {
    visit: Option<Visit<'v>>,
    last: Option<(Position, EventId)>,
    /// A fact that was shown came again as another one.
    differs: Option<Position>,
}

impl Once<'_> {
    fn show(&mut self, event: &Arc<Recorded>) {
        let this = (event.position, event.meta.id);
        match self.last {
            Some(last) if last.0 == this.0 && last != this => self.differs = Some(last.0),
            Some(last) if last.0 >= this.0 => {}
            Some(_) | None => {
                self.last = Some(this);
                if let Some(visit) = &mut self.visit {
                    visit(event);
                }
            }
        }
    }
}

/// Reads everything, mending it if need be. Unless losses are accepted, a log that is short of what was acknowledged is an error, and
/// its files hold what they held.
pub(super) fn read(
    directory: &Directory,
    (options, disk): (&Options, &Arc<dyn Disk>),
    acknowledged: Option<Position>,
    visit: Option<Visit<'_>>,
) -> Result<Opening, OpenError> {
    let visits = visit.is_some();
    let mut once = Once { visit, last: None, differs: None };
    let endings = Endings::read(directory)?;
    let mut read_once = || attempt(directory, (options, disk), acknowledged, visits.then_some(&mut once));
    // What was read goes before its databases are copied.
    let (failure, short) = match read_once() {
        Ok(Opening { lost: None, layers, blobs, scanned, mended }) => {
            return Ok(Opening { lost: None, layers, blobs, scanned, mended });
        }
        Ok(opening) => (opening.short(directory), true),
        Err(error) => (error, false),
    };
    endings.put_back();
    match mend(directory, (options, disk), acknowledged, visits) {
        Ok(Some(set_aside)) => {
            let reason = failure.to_string();
            tracing::warn!(reason, ?set_aside, "the log was opened without what sled keeps beside its files");
            return match read_once() {
                Ok(opening) if opening.lost.is_none() || options.accept_loss => {
                    Ok(Opening { mended: Some(Mended { reason, set_aside }), ..opening })
                }
                again => {
                    let failure = again.map_or_else(|error| error, |opening| opening.short(directory));
                    endings.put_back();
                    Err(failure)
                }
            };
        }
        Ok(None) => {}
        Err(why) => {
            tracing::warn!(why, "the log does not open without what sled keeps beside its files either");
        }
    }
    if short && options.accept_loss { read_once() } else { Err(failure) }
}

/// The ends of all databases.
struct Endings(Vec<Ending>);

impl Endings {
    fn read(directory: &Directory) -> Result<Self, OpenError> {
        let mut endings = Vec::new();
        for store in directory.store_places()? {
            endings.extend(Ending::read(&store).map_err(failed(&store, "read the store's end"))?);
        }
        Ok(Self(endings))
    }

    /// Undoes what sled did to them. Nobody has the log open any more.
    fn put_back(&self) {
        for ending in &self.0 {
            if let Err(error) = ending.put_back() {
                tracing::error!(%error, ?ending, "what sled overwrote at the store's end could not be written back");
            }
        }
    }
}

fn attempt(
    directory: &Directory,
    (options, disk): (&Options, &Arc<dyn Disk>),
    acknowledged: Option<Position>,
    once: Option<&mut Once<'_>>,
) -> Result<Opening, OpenError> {
    let purpose = if options.roll_events.is_some() { Purpose::Write } else { Purpose::Copy };
    let (layers, heads) =
        Layers::open(directory, &directory.store_places()?, options.cache_bytes, disk, purpose)?;
    let blobs = Blobs::new(directory.blobs());
    let decoder = Decoder { keys: options.keys.as_deref() };
    let scanned = match once {
        None => boot::scan(directory, (&layers, heads), (&blobs, decoder), None)?,
        Some(once) => {
            let mut show = |event: &Arc<Recorded>| once.show(event);
            let scanned = boot::scan(directory, (&layers, heads), (&blobs, decoder), Some(&mut show))?;
            if let Some(position) = once.differs {
                let reason = "it came as another one when it was read again".to_owned();
                return Err(OpenError::Damaged { path: directory.root().to_owned(), position, reason });
            }
            scanned
        }
    };
    let head = scanned.index.head();
    let lost = acknowledged.filter(|&acknowledged| acknowledged > head);
    if lost.is_some()
        && let Some(reason) = scanned.torn_reason()
    {
        tracing::error!(%head, reason, "acknowledged facts are in a damaged end of the log");
    }
    Ok(Opening { layers, blobs, scanned, lost, mended: None })
}

impl Opening {
    /// That it is short of what was acknowledged.
    fn short(&self, directory: &Directory) -> OpenError {
        let head = self.scanned.index.head();
        let high_water = self.lost.unwrap_or(head);
        OpenError::Lost { path: directory.root().to_owned(), head, high_water }
    }
}
