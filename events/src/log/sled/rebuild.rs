//! A log made anew from frames that were read elsewhere: the same bytes, all of them in its archive.

use std::fs::File;
use std::io;
use std::path::Path;

use super::ROLL_EVENTS_DEFAULT;
use super::directory::{Directory, lock, read_high_water};
use crate::envelope::StreamId;
use crate::id::{Position, Version};
use crate::log::OpenError;
use crate::log::archive::Builder;
use crate::log::frame::{Frame, GENESIS, Link};
use crate::log::segments::Segment;

/// How far a log was acknowledged that nobody has open, whatever is wrong with it, its format too; it is held until the first is
/// dropped. Nothing in it is changed but its lock.
pub(crate) fn high_water(path: &Path) -> Result<(File, Option<Position>), OpenError> {
    Ok((lock(path)?, read_high_water(path)?))
}

/// See the module. Nothing of it counts until [`Rebuild::finish`] has returned.
#[derive(Debug)]
pub(crate) struct Rebuild {
    part: Option<Builder>,
    /// Facts in the part that is being written.
    events: u64,
    head: Position,
    link: Link,
    directory: Directory,
}

impl Rebuild {
    /// Begins in a directory that does not exist yet.
    pub(crate) fn begin(path: &Path) -> Result<Self, OpenError> {
        let directory = Directory::take(path)?;
        let rebuild = Self { part: None, events: 0, head: Position(0), link: GENESIS, directory };
        rebuild.directory.raise_format().map_err(|error| rebuild.failed("write the format", &error))?;
        Ok(rebuild)
    }

    /// Adds the next frame, which the caller has checked, with its payload if that lies apart.
    pub(crate) fn frame(
        &mut self,
        frame: &Frame<'_>,
        payload: Option<([u8; 32], Vec<u8>)>,
    ) -> Result<(), OpenError> {
        let part = match self.part.take() {
            Some(part) => Ok(part),
            None => Builder::begin(&self.directory.archive(), self.head, self.link),
        };
        let pushed = part.and_then(|mut part| part.push(frame, payload).map(|()| part));
        self.part = Some(pushed.map_err(|error| self.failed("write the facts", &error))?);
        (self.head, self.link) = (frame.position, frame.link);
        self.events += 1;
        if self.events >= ROLL_EVENTS_DEFAULT && frame.last {
            self.finish_part()?;
        }
        Ok(())
    }

    /// Adds a segment from which facts were removed, which the caller has checked. `ends` are the last versions of their streams.
    pub(crate) fn adopt(&mut self, segment: &Segment, ends: &[(StreamId, Version)]) -> Result<(), OpenError> {
        let (last, link, events) = (segment.name.last, segment.after, segment.events());
        let part = match self.part.take() {
            Some(part) => Ok(part),
            None => Builder::begin(&self.directory.archive(), self.head, self.link),
        };
        let pushed = part.and_then(|mut part| part.adopt(segment, ends).map(|()| part));
        self.part = Some(pushed.map_err(|error| self.failed("write the facts", &error))?);
        (self.head, self.link) = (last, link);
        self.events += events;
        if self.events >= ROLL_EVENTS_DEFAULT { self.finish_part() } else { Ok(()) }
    }

    /// Makes everything durable, and lets go of it.
    pub(crate) fn finish(mut self) -> Result<Position, OpenError> {
        self.finish_part()?;
        let (high_water, _) = self.directory.high_water()?;
        high_water
            .note(self.head)
            .and_then(|()| high_water.sync())
            .map_err(|error| self.failed("write the high-water mark", &error))?;
        Ok(self.head)
    }

    fn finish_part(&mut self) -> Result<(), OpenError> {
        self.events = 0;
        let finished = self.part.take().map_or(Ok(None), Builder::finish);
        finished.map(drop).map_err(|error| self.failed("write the facts", &error))
    }

    fn failed(&self, step: &'static str, error: &io::Error) -> OpenError {
        OpenError::Store { path: self.directory.root().to_owned(), step, reason: error.to_string() }
    }
}
