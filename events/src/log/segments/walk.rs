//! Reading segments in order, as if they were one log.

use std::collections::VecDeque;

use super::{Name, Place, Segment, SegmentError};
use crate::id::Position;
use crate::log::frame::{GENESIS, Link};

/// See the module. Each segment continues the chain of the one before; where several begin in time, the one that reaches
/// furthest is taken, so that places which were written by two runs are read once.
#[derive(Debug)]
pub struct Walk {
    place: Place,
    names: VecDeque<Name>,
    next: Position,
    link: Link,
}

impl Walk {
    /// From the first position on. Nothing is read yet but the names.
    ///
    /// # Errors
    /// When the place does not answer.
    pub async fn begin(place: &Place) -> Result<Self, SegmentError> {
        let names = place.segments().await?.into();
        Ok(Self { place: place.clone(), names, next: Position(1), link: GENESIS })
    }

    /// The next segment; `None` after the last.
    ///
    /// # Errors
    /// When it is damaged, missing while others follow, or does not continue the one before.
    pub async fn next(&mut self) -> Result<Option<Segment>, SegmentError> {
        let mut best: Option<Name> = None;
        while let Some(&name) = self.names.front().filter(|name| name.first <= self.next) {
            self.names.pop_front();
            if name.last >= self.next && best.is_none_or(|best| best.last < name.last) {
                best = Some(name);
            }
        }
        let Some(name) = best else {
            return match self.names.front() {
                None => Ok(None),
                Some(name) => Err(SegmentError::Gap {
                    place: self.place.shown().to_owned(),
                    from: self.next,
                    to: Position(name.first.0 - 1),
                }),
            };
        };
        let segment = self.place.get(name).await?;
        // One that begins earlier was checked by its own chain, and is followed into by its reader frame by frame.
        if segment.name.first == self.next && segment.before != self.link {
            return Err(SegmentError::Damaged {
                place: self.place.shown().to_owned(),
                name,
                flaw: format!("it does not continue the chain at position {}", self.next).into(),
            });
        }
        (self.next, self.link) = (segment.name.last.next(), segment.after);
        Ok(Some(segment))
    }

    /// Goes on behind what was found elsewhere; whether there is anything behind that.
    pub(in crate::log) fn skip_to(&mut self, next: Position, link: Link) -> bool {
        (self.next, self.link) = (next, link);
        self.promised().is_some_and(|last| last >= next)
    }

    /// The last position that the names promise.
    pub fn promised(&self) -> Option<Position> {
        self.names.iter().map(|name| name.last).max()
    }
}
