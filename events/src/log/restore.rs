//! A log from segments, and from what is left of the log that is there: the same frames, the same chain, in a directory of its own.
//!
//! Where a segment is missing or damaged, and behind the last, it goes on with what lies intact in the files of the log that is
//! replaced ([`Remains`]).
//!
//! It is made beside its place and moved there when it is whole, so that a restore that was interrupted has changed
//! nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::OpenError;
use super::checkpoint::{Book, hex};
use super::frame::{Frame, Frames, Payload};
use super::order::Order;
use super::segments::walk::Walk;
use super::segments::{Place, Segment, SegmentError};
use super::sled::{Rebuild, Remains, high_water};
use crate::envelope::Timestamp;
use crate::id::Position;

/// How far to restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// All there is.
    End,
    /// This position, or the end of the last append before it.
    Position(Position),
    /// Everything that had happened by then.
    Time(Timestamp),
}

/// What a restore led to.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The last position, which is also the number of facts.
    pub head: Position,
    /// Hex of the chain's last link.
    pub chain: String,
    /// When the last fact happened.
    pub at: Option<Timestamp>,
    /// Facts that were in no sound segment, and came from what is left of the log that was there.
    pub salvaged: u64,
    /// Checkpoints that came along.
    pub checkpoints: usize,
    /// The last position that was acknowledged, as far as the directory that was moved aside says.
    pub high_water: Option<Position>,
    /// Where the log is that was there before.
    pub moved_to: Option<PathBuf>,
    /// The first and the last position that were asked for, or acknowledged, and were found nowhere.
    pub missing: Option<(Position, Position)>,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is something already.
    #[error("`{path}` is not empty: a log is restored into a directory of its own")]
    NotEmpty {
        /// What.
        path: PathBuf,
    },
    /// Nothing had happened by then, or nothing is left.
    #[error("{from} no fact that early")]
    Nothing {
        /// What has none.
        from: String,
    },
    /// There is nothing that a log could be made of.
    #[error("there is no log in `{path}` of which something could be left: name a place that has segments")]
    NoSource {
        /// Where.
        path: PathBuf,
    },
    /// The file system said no.
    #[error("{step} `{path}`", path = path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Doing what.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The segments could not be used.
    #[error(transparent)]
    Segments(#[from] SegmentError),
}

/// Makes the log at `path` from the segments of a place, and from what is left of the log that is there. With `move_aside`, that one
/// is kept under another name; without, it is an error that it is there.
///
/// # Errors
/// Whatever is wrong with the segments up to where they are wanted, and what the file system refuses. Nothing at `path`
/// has changed then.
pub async fn restore(
    place: Option<&Place>,
    path: &Path,
    until: Until,
    move_aside: bool,
) -> Result<Restored, RestoreError> {
    let failed = |step| move |source| RestoreError::Io { path: path.to_owned(), step, source };
    let is_there = match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(failed("looking into")(error)),
    };
    if is_there && !move_aside {
        return Err(RestoreError::NotEmpty { path: path.to_owned() });
    }
    if !is_there && place.is_none() {
        return Err(RestoreError::NoSource { path: path.to_owned() });
    }
    // Held until the old log is out of the way, so that no server begins on it meanwhile.
    let held = if is_there { Some(high_water(path).map_err(SegmentError::from)?) } else { None };
    let beside = sibling(path, "restoring");
    if beside.exists() {
        fs::remove_dir_all(&beside).map_err(failed("removing what an interrupted restore left beside"))?;
    }
    let mut restored = match build((place, is_there.then_some(path)), &beside, until).await {
        Ok(restored) => restored,
        Err(error) => {
            // Nobody wants half a log; what was wrong is more important than that it can't be removed.
            let _ = fs::remove_dir_all(&beside);
            return Err(error);
        }
    };
    restored.high_water = held.as_ref().and_then(|(_, high_water)| *high_water);
    if is_there {
        let stamp = chrono::Utc::now().format("%Y%m%dT%H%M%SZ").to_string();
        let aside = sibling(path, &format!("damaged-{stamp}"));
        fs::rename(path, &aside).map_err(failed("moving aside"))?;
        restored.moved_to = Some(aside);
    } else if path.exists() {
        fs::remove_dir(path).map_err(failed("replacing"))?;
    }
    fs::rename(&beside, path).map_err(failed("moving the restored log to"))?;
    let parent =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    fs::File::open(parent)
        .and_then(|parent| parent.sync_all())
        .map_err(failed("syncing the directory of"))?;
    let wanted = match until {
        Until::End => restored.high_water,
        Until::Position(position) => Some(position),
        Until::Time(_) => None,
    };
    restored.missing =
        wanted.filter(|&wanted| wanted > restored.head).map(|wanted| (restored.head.next(), wanted));
    Ok(restored)
}

/// A name beside a path.
fn sibling(path: &Path, what: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(what);
    path.with_file_name(name)
}

async fn build(
    (place, old): (Option<&Place>, Option<&Path>),
    path: &Path,
    until: Until,
) -> Result<Restored, RestoreError> {
    let mut walk = None;
    if let Some(place) = place {
        let begun = Walk::begin(place).await?;
        if begun.promised().is_none() {
            return Err(SegmentError::None { place: place.shown().to_owned() }.into());
        }
        walk = Some((place, begun));
    }
    let mut building = Building {
        log: Rebuild::begin(path).map_err(SegmentError::from)?,
        order: Order::default(),
        until,
        at: None,
        done: false,
    };
    let (mut remains, mut salvaged) = (None, 0);
    loop {
        let flaw;
        (building, flaw) = match &mut walk {
            Some((place, walk)) => follow(walk, place, building).await?,
            None => (building, None),
        };
        let before = building.order.next;
        if let Some(old) = old.filter(|_| !building.is_done()) {
            (building, remains) = salvage(building, remains, old.to_owned()).await?;
        }
        let after = building.order.next;
        salvaged += after.0 - before.0;
        if building.is_done() {
            break;
        }
        let more = walk.as_mut().is_some_and(|(_, walk)| walk.skip_to(after, building.order.link));
        if !more || after == before {
            if let Some(flaw) = flaw.filter(|_| more) {
                return Err(flaw.into());
            }
            break;
        }
    }
    let (chain, at) = (hex(&building.order.link), building.at);
    let head = building.log.finish().map_err(SegmentError::from)?;
    if head == Position(0) {
        let from = match place {
            Some(place) => format!("the segments in `{}` have", place.shown()),
            None => "what is left of the log has".to_owned(),
        };
        return Err(RestoreError::Nothing { from });
    }
    let failed = |step| move |source| RestoreError::Io { path: path.to_owned(), step, source };
    let mut checkpoints = match place {
        Some(place) => place.checkpoints(head).await?.0,
        None => Vec::new(),
    };
    if let Some(old) = old {
        let own = Book::new(old).read().map_err(failed("reading the checkpoints of"))?.0;
        checkpoints.extend(own.into_iter().filter(|own| own.position <= head));
        checkpoints.sort_by_key(|checkpoint| checkpoint.position);
        checkpoints.dedup();
    }
    Book::new(path).add(&checkpoints).map_err(failed("writing the checkpoints of"))?;
    let checkpoints = checkpoints.len();
    Ok(Restored { head, chain, at, salvaged, checkpoints, high_water: None, moved_to: None, missing: None })
}

/// Takes what the segments have, up to the first that is missing or damaged; and what is wrong with that.
async fn follow(
    walk: &mut Walk,
    place: &Place,
    mut building: Building,
) -> Result<(Building, Option<SegmentError>), RestoreError> {
    while !building.is_done() {
        let segment = match walk.next().await {
            Ok(Some(segment)) => segment,
            Ok(None) => break,
            Err(flaw @ (SegmentError::Gap { .. } | SegmentError::Damaged { .. })) => {
                return Ok((building, Some(flaw)));
            }
            Err(error) => return Err(error.into()),
        };
        let name = segment.name;
        let taken;
        (building, taken) = aside(building, move |building| building.take(&segment)).await?;
        taken.map_err(|problem| problem.at(place, name))?;
    }
    Ok((building, None))
}

/// Takes what is left of the log that was there, and continues the chain.
async fn salvage(
    building: Building,
    remains: Option<Remains>,
    old: PathBuf,
) -> Result<(Building, Option<Remains>), RestoreError> {
    let path = old.clone();
    let failed =
        move |source| RestoreError::Io { path, step: "looking for what is left of the log in", source };
    let (building, remains) = aside(building, move |building| {
        let remains = match remains {
            Some(remains) => remains,
            None => Remains::of(&old, building.order.next).map_err(failed.clone())?,
        };
        while !building.is_done()
            && let Some(piece) =
                remains.piece(building.order.next, building.order.link).map_err(failed.clone())?
        {
            building.take(&piece).map_err(|problem| problem.of(&old))?;
        }
        Ok::<_, RestoreError>(remains)
    })
    .await?;
    Ok((building, Some(remains?)))
}

/// Does what takes seconds of reading and writing on a thread that may block.
async fn aside<T: Send + 'static>(
    mut building: Building,
    step: impl FnOnce(&mut Building) -> T + Send + 'static,
) -> Result<(Building, T), RestoreError> {
    let done = tokio::task::spawn_blocking(move || {
        let done = step(&mut building);
        (building, done)
    });
    done.await.map_err(|error| {
        SegmentError::Io { step: "restoring".to_owned(), source: io::Error::other(error) }.into()
    })
}

struct Building {
    log: Rebuild,
    order: Order,
    until: Until,
    at: Option<Timestamp>,
    /// Something came that is not wanted any more.
    done: bool,
}

enum Problem {
    Frame(Position, &'static str),
    Log(OpenError),
}

impl Problem {
    fn of(self, old: &Path) -> RestoreError {
        let error = match self {
            Self::Frame(position, reason) => {
                OpenError::Damaged { path: old.to_owned(), position, reason: reason.to_owned() }
            }
            Self::Log(error) => error,
        };
        SegmentError::from(error).into()
    }

    fn at(self, place: &Place, name: super::segments::Name) -> RestoreError {
        let error = match self {
            Self::Frame(position, wrong) => SegmentError::Damaged {
                place: place.shown().to_owned(),
                name,
                flaw: format!("position {position}: {wrong}").into(),
            },
            Self::Log(error) => error.into(),
        };
        error.into()
    }
}

impl Building {
    /// Whether all that is wanted is there.
    fn is_done(&self) -> bool {
        self.done || matches!(self.until, Until::Position(position) if self.order.next > position)
    }

    /// Takes a segment's appends, as far as they are wanted.
    fn take(&mut self, segment: &Segment) -> Result<(), Problem> {
        let goes_on = if segment.removal().is_some() { self.thinned(segment) } else { self.appends(segment) };
        self.done |= !goes_on?;
        Ok(())
    }

    /// Takes appends; whether more are wanted.
    fn appends(&mut self, segment: &Segment) -> Result<bool, Problem> {
        let mut append = Vec::new();
        for frame in Frames::new(&segment.frames) {
            let frame = frame.map_err(|wrong| Problem::Frame(self.order.next, wrong))?;
            if frame.position < self.order.next {
                continue;
            }
            append.push(frame);
            if frame.last {
                if !self.append(segment, &append)? {
                    return Ok(false);
                }
                append.clear();
            }
        }
        Ok(true)
    }

    /// Takes a segment from which facts were removed, if all of it is wanted: a part of it would have nobody's signature.
    fn thinned(&mut self, segment: &Segment) -> Result<bool, Problem> {
        let at = |position| move |wrong| Problem::Frame(position, wrong);
        if segment.name.first != self.order.next {
            return Err(at(segment.name.first)(
                "facts were removed around it, and it is in another segment too",
            ));
        }
        let mut latest = self.at;
        for frame in Frames::new(&segment.frames) {
            let frame = frame.map_err(at(self.order.next))?;
            latest = latest.max(Some(frame.at().map_err(at(frame.position))?));
        }
        let wanted = match self.until {
            Until::End => true,
            Until::Position(position) => segment.name.last <= position,
            Until::Time(time) => latest.is_none_or(|latest| latest <= time),
        };
        if !wanted {
            return Ok(false);
        }
        self.order.enter(segment);
        for frame in Frames::new(&segment.frames).flatten() {
            self.order.follow(&frame).map_err(at(frame.position))?;
        }
        let ends = self.order.leave().map_err(at(segment.name.last))?;
        self.log.adopt(segment, &ends).map_err(Problem::Log)?;
        self.at = latest;
        Ok(true)
    }

    /// Takes an append as a whole, if it is wanted.
    fn append(&mut self, segment: &Segment, frames: &[Frame<'_>]) -> Result<bool, Problem> {
        let mut latest = self.at;
        for frame in frames {
            let at = frame.at().map_err(|wrong| Problem::Frame(frame.position, wrong))?;
            let wanted = match self.until {
                Until::End => true,
                Until::Position(position) => frame.position <= position,
                Until::Time(time) => at <= time,
            };
            if !wanted {
                return Ok(false);
            }
            latest = Some(at);
        }
        for frame in frames {
            self.order.follow(frame).map_err(|wrong| Problem::Frame(frame.position, wrong))?;
            let payload = match frame.payload() {
                Payload::Inline(_) => None,
                Payload::Elsewhere(digest) => {
                    let digest = *digest.as_bytes();
                    segment.payloads.get(&digest).map(|payload| (digest, payload.clone()))
                }
            };
            self.log.frame(frame, payload).map_err(Problem::Log)?;
        }
        self.at = latest;
        Ok(true)
    }
}
