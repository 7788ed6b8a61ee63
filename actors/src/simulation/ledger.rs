//! The log in memory: what was recorded, in order, and when in the world's own time. It can be slow, busy, or stop taking
//! writes for good, as the real one does when its disk is full.

use std::collections::BTreeMap;

use covalence_events::{NewEvent, Position, Recorded, StreamId, Version};

use super::Millis;

/// Why an append was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// For the moment.
    Busy,
    /// Until the platform is started again.
    ReadOnly,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    facts: Vec<(Millis, Recorded)>,
    versions: BTreeMap<StreamId, Version>,
    /// Nothing can be written at the moment.
    pub full: bool,
    /// Nothing is taken at the moment.
    pub busy: bool,
    /// A write failed in this run of the platform: none is tried again.
    read_only: bool,
    /// How long an append takes.
    pub latency: Millis,
}

impl Ledger {
    /// Appends the facts of one decision, or none of them.
    pub fn append(
        &mut self,
        now: Millis,
        stream: StreamId,
        events: Vec<NewEvent>,
    ) -> Result<Vec<Recorded>, Refused> {
        if self.full {
            self.read_only = true;
        }
        if self.read_only {
            return Err(Refused::ReadOnly);
        }
        if self.busy {
            return Err(Refused::Busy);
        }
        let mut appended = Vec::with_capacity(events.len());
        for event in events {
            let version = self.versions.entry(stream).or_default();
            *version = version.next();
            let position = Position(self.facts.len() as u64 + 1);
            let recorded =
                Recorded { position, stream, version: *version, meta: event.meta, fact: event.fact };
            self.facts.push((now, recorded.clone()));
            appended.push(recorded);
        }
        Ok(appended)
    }

    /// Opens it anew, as a start of the platform does.
    pub fn reopen(&mut self) {
        self.read_only = false;
    }

    /// Everything that was recorded, and when.
    pub fn facts(&self) -> &[(Millis, Recorded)] {
        &self.facts
    }

    /// The time stamp of the last fact.
    pub fn latest(&self) -> Option<covalence_events::Timestamp> {
        self.facts.last().map(|(_, recorded)| recorded.meta.at)
    }
}
