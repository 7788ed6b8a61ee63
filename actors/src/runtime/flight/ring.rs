//! The ring itself: bounded by time and by room, with heartbeats apart from the rest, so that many of them push nothing out that
//! happens seldom.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use chrono::TimeDelta;
use covalence_events::fleet::{FlightCounts, FlightRecorded};
use covalence_events::flight::{Counter, Observation, Observed, PACKED_BYTES_MAX, Packed, Shown};
use covalence_events::workspace::BackendKind;
use covalence_events::{Timestamp, WorkspaceId};

use super::lists::{Picture, apply};

/// How far it reaches back. What leads to a brake takes minutes; how well all was before belongs to it.
pub(super) const KEPT: TimeDelta = TimeDelta::minutes(15);
/// Bytes of observations. A quarter of an hour of fifteen workspaces and two engines takes less than 200 KiB.
pub(super) const BYTES_MAX: usize = 4 << 20;
/// Heartbeats: those of a thousand workspaces, which each send one every thirty seconds, in a mebibyte.
pub(super) const BEATS_MAX: usize = 32_768;

type Pictures = BTreeMap<BackendKind, Picture>;

/// A heartbeat that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beat {
    pub(super) at: Timestamp,
    pub(super) workspace: WorkspaceId,
    pub(super) refused: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ring {
    begun: Timestamp,
    seen: VecDeque<Observation>,
    bytes: usize,
    beats: VecDeque<Beat>,
    /// The time of the last one that had to go for want of room.
    pushed_out: Option<Timestamp>,
    /// The same of a beat.
    beat_pushed_out: Option<Timestamp>,
    /// What the lists that are not in it any more came to, by cell.
    before: Pictures,
}

impl Ring {
    /// Nothing has been observed yet.
    pub(super) fn new(begun: Timestamp) -> Self {
        Self {
            begun,
            seen: VecDeque::new(),
            bytes: 0,
            beats: VecDeque::new(),
            pushed_out: None,
            beat_pushed_out: None,
            before: BTreeMap::new(),
        }
    }

    /// Bytes that the observations take.
    #[cfg(test)]
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes one more.
    pub(super) fn keep(&mut self, observation: Observation) {
        let at = observation.at;
        self.bytes += weight(&observation);
        self.seen.push_back(observation);
        while self.seen.front().is_some_and(|first| first.at < at - KEPT) {
            self.forget_first();
        }
        while self.bytes > BYTES_MAX {
            self.pushed_out = self.seen.front().map(|first| first.at);
            self.forget_first();
        }
    }

    /// Takes one more heartbeat.
    pub(super) fn beat(&mut self, beat: Beat) {
        while self.beats.front().is_some_and(|first| first.at < beat.at - KEPT) {
            self.beats.pop_front();
        }
        if self.beats.len() == BEATS_MAX {
            self.beat_pushed_out = self.beats.pop_front().map(|first| first.at);
        }
        self.beats.push_back(beat);
    }

    fn forget_first(&mut self) {
        let Some(first) = self.seen.pop_front() else { return };
        self.bytes = self.bytes.saturating_sub(weight(&first));
        pass(&mut self.before, &first);
    }

    /// A copy of what it holds, for a brake that engaged at a time; none if that was before it had begun.
    pub(super) fn taken_for(&self, braked: Timestamp, now: Timestamp) -> Option<Taken> {
        if braked <= self.begun {
            return None;
        }
        let from = self.begun.max(now - KEPT);
        let old = |pushed_out: Option<Timestamp>| pushed_out.filter(|at| *at >= from);
        let since = |pushed_out| old(pushed_out).map_or(from, |at| at + TimeDelta::microseconds(1));
        let mut before = self.before.clone();
        let first = self.seen.partition_point(|one| one.at < from);
        self.seen.iter().take(first).for_each(|one| pass(&mut before, one));
        Some(Taken {
            since: since(self.pushed_out),
            beats_since: since(self.beat_pushed_out),
            until: now,
            cut: old(self.pushed_out).is_some() || old(self.beat_pushed_out).is_some(),
            before,
            seen: self.seen.iter().skip(first).cloned().collect(),
            beats: self.beats.iter().skip_while(|beat| beat.at < from).copied().collect(),
        })
    }
}

/// An observation is left behind: what its list changed is what later lists begin with.
fn pass(before: &mut Pictures, left: &Observation) {
    if let (Observed::Listed { changed, .. }, Some(cell)) = (&left.what, left.cell) {
        apply(before.entry(cell).or_default(), changed);
    }
}

/// Bytes that one takes.
fn weight(observation: &Observation) -> usize {
    let apart = match &observation.what {
        Observed::ShownBefore { instances: shown } | Observed::Listed { changed: shown, .. } => {
            shown.iter().map(|one| size_of::<Shown>() + one.instance.len()).sum()
        }
        Observed::Inspected { instance, .. } | Observed::Exited { instance, .. } => instance.len(),
        Observed::Asked { .. }
        | Observed::ListFailed { .. }
        | Observed::Probed { .. }
        | Observed::Gap
        | Observed::Lost { .. }
        | Observed::Found
        | Observed::Called { .. }
        | Observed::Late { .. }
        | Observed::Pressed { .. }
        | Observed::Beat { .. } => 0,
    };
    size_of::<Observation>() + apart
}

/// What the ring held at a moment.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) since: Timestamp,
    pub(super) beats_since: Timestamp,
    until: Timestamp,
    pub(super) cut: bool,
    before: Pictures,
    seen: Vec<Observation>,
    beats: Vec<Beat>,
}

impl Taken {
    /// Everything, in the order of time.
    pub(super) fn observations(&self) -> Vec<Observation> {
        let at = self.since;
        let shown = self.before.iter().filter(|(_, picture)| !picture.is_empty()).map(|(cell, picture)| {
            let what = Observed::ShownBefore { instances: picture.values().cloned().collect() };
            Observation { at, cell: Some(*cell), what }
        });
        let beats = self.beats.iter().map(|beat| Observation {
            at: beat.at,
            cell: None,
            what: Observed::Beat { workspace: beat.workspace, refused: beat.refused },
        });
        let mut all: Vec<_> = shown.chain(self.seen.iter().cloned()).chain(beats).collect();
        // Stable: what the lists began with stays in front.
        all.sort_by_key(|one| one.at);
        all
    }

    /// The fact that holds it, for the brake of this cell. What does not fit is left out, oldest first.
    pub(super) fn pack(mut self, cell: BackendKind) -> io::Result<FlightRecorded> {
        loop {
            let all = self.observations();
            let packed = Packed::of(&all)?;
            let is_bare = self.seen.is_empty() && self.beats.is_empty();
            if packed.len() <= PACKED_BYTES_MAX || is_bare {
                return Ok(self.fact(cell, counted(&all), packed));
            }
            self.halve();
        }
    }

    /// Leaves out the older half: of beats as long as these are more than the rest.
    fn halve(&mut self) {
        self.cut = true;
        let next = TimeDelta::microseconds(1);
        if self.beats.len() > self.seen.len() {
            let left = self.beats.split_off(self.beats.len().div_ceil(2));
            let last = std::mem::replace(&mut self.beats, left).pop();
            self.beats_since = last.map_or(self.beats_since, |last| last.at + next);
        } else {
            let left = self.seen.split_off(self.seen.len().div_ceil(2));
            let gone = std::mem::replace(&mut self.seen, left);
            self.since = gone.last().map_or(self.since, |last| last.at + next);
            for one in &gone {
                pass(&mut self.before, one);
            }
        }
    }

    fn fact(self, cell: BackendKind, counts: FlightCounts, observations: Packed) -> FlightRecorded {
        let Self { since, beats_since, until, cut, .. } = self;
        FlightRecorded { cell, since, beats_since, until, cut, counts, observations }
    }
}

fn counted(all: &[Observation]) -> FlightCounts {
    let mut counter = Counter::default();
    for observation in all {
        counter.add(observation);
    }
    counter.finish()
}
