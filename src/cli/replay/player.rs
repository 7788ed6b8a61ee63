//! Where a replay stands: the frames that were read, how many of them are applied, and the state that this makes.
//!
//! Every change has its value before and after, so going back is as quick as going on, and nothing is read again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use covalence_events::Timestamp;
use covalence_incidents::Weight;
use serde_json::Value;

use super::GAP_MAX;
use crate::moments::replay::{Frame, FrameChange, Line, State};

/// What kind of subject, and which.
pub(super) type Key = (String, String);

/// The speeds that can be chosen.
pub(super) const SPEEDS: [u16; 10] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];

/// See the module.
#[derive(Debug)]
pub(super) struct Player {
    pub(super) state: State,
    pub(super) frames: Vec<Frame>,
    /// How many frames are applied.
    pub(super) at: usize,
    /// Every subject's fields after those frames.
    pub(super) shown: BTreeMap<Key, BTreeMap<String, Value>>,
    /// What the last step changed.
    pub(super) changed: BTreeSet<(Key, String)>,
    /// Whether all frames were read.
    pub(super) whole: bool,
    pub(super) playing: bool,
    pub(super) speed: u16,
    /// The recorded time that playing has reached.
    clock: Timestamp,
}

impl Player {
    /// At its beginning, paused.
    pub(super) fn new(state: State) -> Self {
        let subject =
            |one: &crate::moments::replay::Shown| ((one.what.clone(), one.key.clone()), one.fields.clone());
        let shown = state.subjects.iter().map(subject).collect();
        let clock = state.from.at;
        Self {
            state,
            frames: Vec::new(),
            at: 0,
            shown,
            changed: BTreeSet::new(),
            whole: false,
            playing: false,
            speed: 1,
            clock,
        }
    }

    /// Takes in what was read.
    pub(super) fn read(&mut self, line: Line) {
        match line {
            Line::State(_) => {}
            Line::Fact(frame) => self.frames.push(frame),
            Line::End(_) => self.whole = true,
        }
    }

    /// The fact that was taken in last; none at the beginning.
    pub(super) fn current(&self) -> Option<&Frame> {
        self.frames.get(self.at.checked_sub(1)?)
    }

    /// The time that is shown.
    pub(super) fn time(&self) -> Timestamp {
        self.current().map_or(self.state.from.at, |frame| frame.fact.at)
    }

    /// The position that is shown.
    pub(super) fn position(&self) -> u64 {
        self.current().map_or(self.state.from.position, |frame| frame.fact.position)
    }

    /// To the state after so many frames.
    pub(super) fn go(&mut self, to: usize) {
        let to = to.min(self.frames.len());
        if to == self.at {
            return;
        }
        while self.at < to {
            for change in &self.frames[self.at].changes {
                put(&mut self.shown, change, &change.after);
            }
            self.at += 1;
        }
        while self.at > to {
            self.at -= 1;
            for change in self.frames[self.at].changes.iter().rev() {
                put(&mut self.shown, change, &change.before);
            }
        }
        let changes = self.current().map(|frame| frame.changes.as_slice()).unwrap_or_default();
        self.changed = changes.iter().map(|change| (key(change), change.field.clone())).collect();
        self.clock = self.time();
    }

    /// One fact on, or back.
    pub(super) fn step(&mut self, on: bool) {
        self.go(if on { self.at + 1 } else { self.at.saturating_sub(1) });
    }

    /// To the next fact that is notable, or the one before.
    pub(super) fn skip(&mut self, on: bool) {
        let notable =
            |place: &usize| self.frames.get(place - 1).is_some_and(|frame| frame.weight != Weight::Routine);
        let found = if on {
            (self.at + 1..=self.frames.len()).find(notable).unwrap_or(self.frames.len())
        } else {
            (1..self.at).rev().find(notable).unwrap_or(0)
        };
        self.go(found);
    }

    /// To the state at a position.
    pub(super) fn seek_position(&mut self, position: u64) {
        self.go(self.frames.partition_point(|frame| frame.fact.position <= position));
    }

    /// To the state at a time.
    pub(super) fn seek_time(&mut self, at: Timestamp) {
        self.go(self.frames.partition_point(|frame| frame.fact.at <= at));
    }

    /// The next speed up, or down.
    pub(super) fn change_speed(&mut self, up: bool) {
        let next = if up {
            SPEEDS.iter().find(|speed| **speed > self.speed)
        } else {
            SPEEDS.iter().rev().find(|speed| **speed < self.speed)
        };
        self.speed = next.copied().unwrap_or(self.speed);
    }

    /// Lets so much time pass; a pause in which nothing happened is cut short.
    pub(super) fn pass(&mut self, elapsed: Duration) {
        let Some(next) = self.frames.get(self.at).filter(|_| self.playing) else {
            self.playing &= !self.whole;
            return;
        };
        let speed = u32::from(self.speed);
        let ahead = |wall: Duration| chrono::TimeDelta::from_std(wall * speed).unwrap_or_default();
        self.clock = (self.clock + ahead(elapsed)).max(next.fact.at - ahead(GAP_MAX));
        let clock = self.clock;
        self.seek_time(clock);
        self.clock = clock;
    }
}

fn key(change: &FrameChange) -> Key {
    (change.what.clone(), change.key.clone())
}

fn put(shown: &mut BTreeMap<Key, BTreeMap<String, Value>>, change: &FrameChange, value: &Value) {
    let key = key(change);
    let fields = shown.entry(key.clone()).or_default();
    if value.is_null() {
        fields.remove(&change.field);
    } else {
        fields.insert(change.field.clone(), value.clone());
    }
    if fields.is_empty() {
        shown.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// A fact every ten seconds; every third is routine.
    fn player(facts: u64) -> Player {
        let time = |position: u64| {
            let at = chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap();
            (at + chrono::TimeDelta::seconds(i64::try_from(position).unwrap() * 10)).to_rfc3339()
        };
        let edge = |position: u64| json!({"position": position, "at": time(position)});
        let lead = json!({"what": "workspace", "key": "a1", "name": "lead", "fields": {"generation": 0}});
        let state = json!({"from": edge(0), "to": edge(facts), "subjects": [lead]});
        let mut player = Player::new(serde_json::from_value(state).unwrap());
        for position in 1..=facts {
            let change = json!({
                "what": "workspace", "key": "a1", "field": "generation", "before": position - 1, "after": position,
            });
            let weight = if position % 3 == 0 { "routine" } else { "plain" };
            let line = json!({
                "kind": "fact", "position": position, "at": time(position), "type": "t", "text": "x", "whose": "lead",
                "id": "0b8f2a54-1111-4222-8333-444455556666", "workspace": null, "weight": weight, "changes": [change],
            });
            player.read(serde_json::from_value(line).unwrap());
        }
        player
            .read(serde_json::from_value(json!({"kind": "end", "position": facts, "changes": []})).unwrap());
        player
    }

    fn generation(player: &Player) -> u64 {
        player.shown[&("workspace".to_owned(), "a1".to_owned())]["generation"].as_u64().unwrap()
    }

    proptest! {
        #[test]
        fn wherever_it_goes_the_state_is_that_of_the_place(places in proptest::collection::vec(0_usize..40, 1..20)) {
            let mut player = player(30);
            for place in places {
                player.go(place);
                prop_assert_eq!(player.at, place.min(30));
                prop_assert_eq!(generation(&player), player.position());
            }
        }
    }

    #[test]
    fn the_next_notable_one_is_no_routine_and_the_ends_are_the_ends() {
        let mut player = player(7);
        player.go(2);
        player.skip(true);
        assert_eq!(player.position(), 4);
        player.skip(false);
        assert_eq!(player.position(), 2);
        player.go(7);
        player.skip(true);
        assert_eq!(player.position(), 7);
        player.go(1);
        player.skip(false);
        assert_eq!((player.position(), player.current().is_none()), (0, true));
        player.step(false);
        assert_eq!(player.position(), 0);
    }

    #[test]
    fn time_passes_as_fast_as_asked_and_only_while_it_plays() {
        let mut player = player(9);
        player.pass(Duration::from_secs(60));
        assert_eq!(player.position(), 0);
        (player.playing, player.speed) = (true, 10);
        for (elapsed_ms, position) in [(900, 0), (100, 1), (2000, 3)] {
            player.pass(Duration::from_millis(elapsed_ms));
            assert_eq!(player.position(), position);
        }
        player.speed = 1;
        // Ten seconds until the next one: the first five are skipped.
        player.pass(Duration::from_millis(1));
        assert_eq!(player.position(), 3);
        player.pass(Duration::from_secs(5));
        assert_eq!(player.position(), 4);
        player.go(9);
        player.pass(Duration::from_secs(1));
        assert!(!player.playing, "it ends where the facts end");
    }

    #[test]
    fn the_speed_goes_up_and_down_within_its_bounds() {
        let mut player = player(1);
        player.change_speed(false);
        assert_eq!(player.speed, 1);
        player.speed = 30;
        player.change_speed(true);
        assert_eq!(player.speed, 50);
        for _ in 0..20 {
            player.change_speed(true);
        }
        assert_eq!(player.speed, 1000);
    }
}
