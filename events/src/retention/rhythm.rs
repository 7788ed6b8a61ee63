//! How regularly a workspace was heard from last: what a silence is judged by, so it has to outlast what it was learned from.

use crate::envelope::{Fact, Recorded};
use crate::id::{BootId, Generation, Position};
use crate::retention::Class;
use crate::workspace::Event;

/// Intervals between heartbeats that stay known of each workspace, however old they are. No state folded from the log remembers
/// more of them.
pub const INTERVALS_KEPT: usize = 100;

/// Finds, going back from the end of a stream, where its last [`INTERVALS_KEPT`] intervals begin.
///
/// Only what is an interval for certain counts: one heartbeat after the other, of the same generation and in the same run of the
/// platform, with nothing but calls between. So it may go back further than it has to.
#[derive(Debug, Default)]
pub struct Rhythm {
    later: Option<(BootId, Option<Generation>)>,
    intervals: usize,
    begins: Option<Position>,
}

impl Rhythm {
    /// Takes the fact before the one that was taken last; whether that was enough.
    pub fn add(&mut self, before: &Recorded) -> bool {
        let Fact::Workspace(Event::HeartbeatReceived(beat)) = &before.fact else {
            if Class::of(before.fact.tag()) != Some(Class::Call) {
                self.later = None;
            }
            return false;
        };
        let this = (before.meta.boot, beat.generation);
        if self.later.replace(this) == Some(this) {
            self.intervals += 1;
        }
        self.begins = Some(before.position);
        self.intervals == INTERVALS_KEPT
    }

    /// The first heartbeat that has to stay; `None` where there was none.
    pub const fn begins(&self) -> Option<Position> {
        self.begins
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::envelope::{Meta, Principal, StreamId, Timestamp};
    use crate::id::{CorrelationId, EventId, Version, WorkspaceId};
    use crate::workspace::{HeartbeatReceived, Renamed};

    fn fact(position: u64, boot: BootId, event: Event) -> Arc<Recorded> {
        let meta = Meta {
            id: EventId::generate(),
            at: Timestamp::default(),
            boot,
            mono_ns: 0,
            correlation: CorrelationId::generate(),
            causation: None,
            principal: Principal::System,
            policy: None,
        };
        let stream = StreamId::Workspace(WorkspaceId(uuid::Uuid::nil()));
        let (position, version) = (Position(position), Version(position));
        Arc::new(Recorded { position, stream, version, meta, fact: Fact::Workspace(event) })
    }

    fn beat(position: u64, boot: BootId) -> Arc<Recorded> {
        fact(position, boot, HeartbeatReceived::default().into())
    }

    /// How many facts it takes, from the newest on, and where the rhythm begins then.
    fn looked_back(facts: &[Arc<Recorded>]) -> (usize, Option<u64>) {
        let mut rhythm = Rhythm::default();
        let taken = facts.iter().rev().take_while(|fact| !rhythm.add(fact)).count();
        (taken, rhythm.begins().map(|position| position.0))
    }

    #[test]
    fn a_hundred_intervals_are_a_hundred_and_one_heartbeats() {
        let boot = BootId::generate();
        let facts: Vec<_> = (1..=300).map(|position| beat(position, boot)).collect();
        assert_eq!(looked_back(&facts), (100, Some(200)));
        assert_eq!(looked_back(&facts[..50]), (50, Some(1)), "all there are");
        assert_eq!(looked_back(&[]), (0, None));
    }

    #[test]
    fn what_is_no_interval_for_certain_does_not_count() {
        let (boot, other) = (BootId::generate(), BootId::generate());
        let mut facts: Vec<_> = (1..=150).map(|position| beat(position, boot)).collect();
        facts.push(fact(151, boot, Renamed { name: "x".to_owned() }.into()));
        facts.extend((152..=200).map(|position| beat(position, boot)));
        assert_eq!(looked_back(&facts).1, Some(98), "48 after the fact, 52 before it");
        facts.extend((201..=210).map(|position| beat(position, other)));
        assert_eq!(looked_back(&facts).1, Some(107), "nine in the new run of the platform");
    }
}
