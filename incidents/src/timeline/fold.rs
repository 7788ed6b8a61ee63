//! Facts become lines: those that repeat are counted, and what was not observed becomes a gap.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use covalence_events::{BootId, EventId, Fact, Recorded, Timestamp, fleet};

use super::lane;
use super::{Lane, Line};
use crate::who::Who;
use crate::words::{self, Weight, lasting};

/// See the module.
pub(super) struct Fold<'a> {
    who: &'a Who,
    lines_max: usize,
    lines: Vec<Draft>,
    /// The last line of each lane, which a repetition counts up.
    last: BTreeMap<Lane, usize>,
    /// Engines that do not answer: the line of the gap, or the fact before the first line.
    away: BTreeMap<String, Away>,
    /// The run of the platform that recorded the fact before.
    run: Option<BootId>,
    /// Whether that run said that it goes down.
    stopped: bool,
}

/// A line before its lanes have numbers.
struct Draft {
    lane: Lane,
    also: Vec<Lane>,
    line: Line,
    /// What a repetition has in common with it; none for what is never folded.
    key: Option<String>,
}

#[derive(Clone, Copy)]
struct Seen {
    at: Timestamp,
    position: u64,
    id: EventId,
}

struct Away {
    since: Timestamp,
    line: Option<usize>,
}

impl<'a> Fold<'a> {
    pub(super) fn new(who: &'a Who, lines_max: usize) -> Self {
        Self {
            who,
            lines_max,
            lines: Vec::new(),
            last: BTreeMap::new(),
            away: BTreeMap::new(),
            run: None,
            stopped: false,
        }
    }

    /// Takes a fact of the fleet from before the span, for what holds at its beginning.
    pub(super) fn before(&mut self, event: &Recorded) {
        self.run = Some(event.meta.boot);
        let Fact::Fleet(fact) = &event.fact else { return };
        self.stopped = matches!(fact, fleet::Event::PlatformStopped(_));
        if let fleet::Event::EngineLost(e) = fact {
            self.away.insert(e.engine.clone(), Away { since: event.meta.at, line: None });
        } else if let fleet::Event::EngineFound(e) = fact {
            self.away.remove(&e.engine);
        } else if let fleet::Event::PlatformStarted(_) = fact {
            self.away.clear();
        }
    }

    /// Whether a fact is the first that is seen of another run of the platform than the one before it.
    pub(super) fn begins_another_run(&self, event: &Recorded) -> bool {
        self.run.is_some_and(|run| run != event.meta.boot)
    }

    /// Takes the last fact of the run before the one that `first` is the first of.
    pub(super) fn another_run(&mut self, last: &Recorded, first: &Recorded) {
        self.away.clear();
        let in_order = std::mem::take(&mut self.stopped);
        let lasted = lasting(words::between(last.meta.at, first.meta.at));
        let how = if in_order { "stopped in order" } else { "gone without a word" };
        let text = format!("not observed for {lasted}: the platform was {how}");
        let mut line = gap(Seen { at: last.meta.at, ..seen(first) }, "platform_down", &text);
        line.to = Some(first.meta.at);
        self.push(lane::platform(), Vec::new(), line, None);
    }

    /// Whether it has as many lines as are wanted.
    pub(super) fn is_full(&self) -> bool {
        self.lines.len() >= self.lines_max
    }

    /// Takes the next fact of the span.
    pub(super) fn follow(&mut self, event: &Recorded) {
        self.gaps(event);
        self.run = Some(event.meta.boot);
        let Some((lane, also)) = lane::of(event, self.who) else { return };
        let said = words::say(event, self.who);
        let key = Some(key(&event.fact, &said.text));
        if let Some(line) = self.repeated(&lane, key.as_deref()) {
            line.count += 1;
            line.to = Some(event.meta.at);
            return;
        }
        let line = Line {
            at: event.meta.at,
            to: None,
            position: event.position.0,
            id: event.meta.id,
            lane: 0,
            also: Vec::new(),
            word: words::word(&event.fact).to_owned(),
            text: said.text,
            weight: said.weight,
            until: said.until,
            count: 1,
            gap: false,
        };
        self.push(lane, also, line, key);
    }

    /// Lanes in the order in which they are shown, and lines that name them.
    pub(super) fn finish(self) -> (Vec<Lane>, Vec<Line>) {
        let mut lanes: BTreeMap<Lane, usize> = BTreeMap::new();
        for draft in &self.lines {
            for lane in std::iter::once(&draft.lane).chain(&draft.also) {
                lanes.entry(lane.clone()).or_insert(0);
            }
        }
        for (number, place) in lanes.values_mut().enumerate() {
            *place = number;
        }
        let place = |lane: &Lane| lanes.get(lane).copied().unwrap_or_default();
        let lines = self
            .lines
            .into_iter()
            .map(|draft| Line {
                lane: place(&draft.lane),
                also: draft.also.iter().map(place).collect(),
                ..draft.line
            })
            .collect();
        (lanes.into_keys().collect(), lines)
    }

    /// The line that a fact repeats, if it is the last one of its lane.
    fn repeated(&mut self, lane: &Lane, key: Option<&str>) -> Option<&mut Line> {
        let index = *self.last.get(lane)?;
        let draft = self.lines.get_mut(index)?;
        (key.is_some() && draft.key.as_deref() == key).then_some(&mut draft.line)
    }

    fn push(&mut self, lane: Lane, also: Vec<Lane>, line: Line, key: Option<String>) {
        let index = self.lines.len();
        for one in std::iter::once(&lane).chain(&also) {
            self.last.insert(one.clone(), index);
        }
        self.lines.push(Draft { lane, also, line, key });
    }

    /// What was not observed before or from this fact on.
    fn gaps(&mut self, event: &Recorded) {
        let Fact::Fleet(fact) = &event.fact else { return };
        match fact {
            fleet::Event::PlatformStopped(_) => self.stopped = true,
            fleet::Event::EngineLost(e) => {
                let line = gap(seen(event), "engine_away", "not observed: the engine does not answer");
                self.away
                    .insert(e.engine.clone(), Away { since: event.meta.at, line: Some(self.lines.len()) });
                self.push(lane::engine(&e.engine), Vec::new(), line, None);
            }
            fleet::Event::EngineFound(e) => self.engine_is_back(&e.engine, event),
            fleet::Event::ObserverChanged(e) => {
                if let Some(pause) = e.pause_ms {
                    let lasted = TimeDelta::milliseconds(i64::try_from(pause).unwrap_or(i64::MAX / 2));
                    let from = event.meta.at.checked_sub_signed(lasted).unwrap_or(event.meta.at);
                    let text = format!("not observed: we stood still for {}", lasting(pause));
                    let mut line = gap(Seen { at: from, ..seen(event) }, "own_pause", &text);
                    line.to = Some(event.meta.at);
                    self.push(lane::observer(e.cell), Vec::new(), line, None);
                }
            }
            _ => {}
        }
    }

    fn engine_is_back(&mut self, engine: &str, event: &Recorded) {
        let Some(away) = self.away.remove(engine) else { return };
        let lasted = lasting(words::between(away.since, event.meta.at));
        let text = format!("not observed for {lasted}: the engine did not answer");
        if let Some(draft) = away.line.and_then(|index| self.lines.get_mut(index)) {
            draft.line.to = Some(event.meta.at);
            draft.line.text = text;
        } else {
            let mut line = gap(Seen { at: away.since, ..seen(event) }, "engine_away", &text);
            line.to = Some(event.meta.at);
            self.push(lane::engine(engine), Vec::new(), line, None);
        }
    }
}

fn seen(event: &Recorded) -> Seen {
    Seen { at: event.meta.at, position: event.position.0, id: event.meta.id }
}

fn gap(from: Seen, word: &str, text: &str) -> Line {
    Line {
        at: from.at,
        to: None,
        position: from.position,
        id: from.id,
        lane: 0,
        also: Vec::new(),
        word: word.to_owned(),
        text: text.to_owned(),
        weight: Weight::Doubt,
        until: None,
        count: 1,
        gap: true,
    }
}

/// What repetitions of a fact have in common: every word.
fn key(fact: &Fact, text: &str) -> String {
    format!("{} {text}", fact.tag())
}
