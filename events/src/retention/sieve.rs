//! Which heartbeats of a stretch of the log say nothing that another one does not say too.

use std::collections::HashMap;

use crate::envelope::StreamId;
use crate::id::{BootId, Generation, Position};
use crate::workspace::HeartbeatReceived;

/// Finds what goes, in one pass over a stretch of the log whose facts are all old enough.
///
/// A *run* is what a workspace's agent sent between two other facts of its stream, calls aside, which change nothing that heartbeats
/// say. Its first and its last one stay. So do each with a card, of which the first that can be used counts, the last that spoke of
/// money, and the last that named an error, which stays readable for as long as the workspace counts as failed. What an agent of
/// another generation sends is another run: it may say nothing about the one that runs. So is what comes after a start of the
/// platform, which is a fact of another stream: until the first heartbeat after it nothing is known.
#[derive(Debug, Default)]
pub struct Sieve {
    runs: HashMap<StreamId, Run>,
    gone: Vec<Position>,
}

#[derive(Debug, Default)]
struct Run {
    /// Whose they are, and in which run of the platform they came.
    of: Option<(Option<Generation>, BootId)>,
    /// The last one, if it is not the first.
    last: Option<(Position, Weight)>,
    /// The last but [`Run::last`] that said something about money.
    spend: Option<Position>,
    /// The last but [`Run::last`] that named an error.
    error: Option<Position>,
}

/// What a heartbeat says besides that the agent lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Weight {
    card: bool,
    spend: bool,
    error: bool,
}

/// What a fact is to a run of heartbeats.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// One that may go, and the run of the platform in which it came.
    Beat(&'a HeartbeatReceived, BootId),
    /// It leaves the run alone.
    Call,
    /// It stays, and ends the run.
    Other,
}

impl Sieve {
    /// Takes the next fact of a stream.
    pub fn add(&mut self, stream: StreamId, position: Position, seen: Seen<'_>) {
        let run = self.runs.entry(stream).or_default();
        let (beat, boot) = match seen {
            Seen::Beat(beat, boot) => (beat, boot),
            Seen::Call => return,
            Seen::Other => {
                *run = Run::default();
                return;
            }
        };
        let of = Some((beat.generation, boot));
        if run.of != of {
            *run = Run { of, ..Run::default() };
            return;
        }
        if let Some((before, weight)) = run.last.replace((position, Weight::of(beat))) {
            run.pass(before, weight, &mut self.gone);
        }
    }

    /// The positions of what goes, in order.
    pub fn finish(mut self) -> Vec<Position> {
        self.gone.sort_unstable();
        self.gone.dedup();
        self.gone
    }
}

impl Run {
    /// Decides about one that is not the last any more, and about those that stayed only until there was another like it.
    fn pass(&mut self, position: Position, weight: Weight, gone: &mut Vec<Position>) {
        if weight.card {
            return;
        }
        let outdated = [
            if weight.spend { self.spend.replace(position) } else { None },
            if weight.error { self.error.replace(position) } else { None },
            (!weight.spend && !weight.error).then_some(position),
        ];
        let needed = [self.spend, self.error];
        gone.extend(outdated.into_iter().flatten().filter(|position| !needed.contains(&Some(*position))));
    }
}

impl Weight {
    const fn of(beat: &HeartbeatReceived) -> Self {
        Self {
            card: beat.agent_card.is_some(),
            spend: beat.monthly_spend.is_some(),
            error: !beat.sample_error.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::WorkspaceId;

    const MINE: StreamId = StreamId::Workspace(WorkspaceId(uuid::Uuid::from_u128(1)));
    const BOOT: BootId = BootId(uuid::Uuid::from_u128(1));

    fn beat() -> HeartbeatReceived {
        HeartbeatReceived { generation: Some(Generation(1)), ..HeartbeatReceived::default() }
    }

    fn spends(cents: i64) -> HeartbeatReceived {
        HeartbeatReceived { monthly_spend: Some(cents), ..beat() }
    }

    fn fails(error: &str) -> HeartbeatReceived {
        HeartbeatReceived { sample_error: error.to_owned(), ..beat() }
    }

    /// What goes of heartbeats at positions 1, 2 and so on; `None` is another fact.
    fn gone(facts: &[Option<HeartbeatReceived>]) -> Vec<u64> {
        let mut sieve = Sieve::default();
        for (position, fact) in (1..).map(Position).zip(facts) {
            sieve.add(MINE, position, fact.as_ref().map_or(Seen::Other, |beat| Seen::Beat(beat, BOOT)));
        }
        sieve.finish().into_iter().map(|position| position.0).collect()
    }

    #[test]
    fn of_each_run_the_first_and_the_last_stay() {
        let facts =
            [Some(beat()), Some(beat()), Some(beat()), None, Some(beat()), Some(beat()), Some(beat())];
        assert_eq!(gone(&facts), [2, 6]);
        assert_eq!(gone(&[Some(beat()), Some(beat()), None, Some(beat())]), Vec::<u64>::new());
    }

    #[test]
    fn the_last_that_spoke_of_money_and_the_last_that_named_an_error_stay() {
        let facts = [beat(), spends(1), fails("a"), spends(2), beat(), fails("b"), beat(), beat()].map(Some);
        assert_eq!(gone(&facts), [2, 3, 5, 7]);
        let both = HeartbeatReceived { monthly_spend: Some(3), ..fails("c") };
        let facts = [beat(), both.clone(), spends(4), beat(), beat()].map(Some);
        assert_eq!(gone(&facts), [4], "one stays for its error when another has newer money");
        let facts = [beat(), both.clone(), both, beat()].map(Some);
        assert_eq!(gone(&facts), [2]);
    }

    #[test]
    fn every_card_stays() {
        let card = HeartbeatReceived { agent_card: Some(serde_json::json!({})), ..beat() };
        assert_eq!(gone(&[beat(), card.clone(), beat(), card, beat(), beat()].map(Some)), [3, 5]);
    }

    #[test]
    fn what_another_generation_sends_hides_nothing() {
        let other = HeartbeatReceived { generation: Some(Generation(2)), ..beat() };
        let facts = [beat(), beat(), beat(), other, beat(), beat(), beat()].map(Some);
        assert_eq!(gone(&facts), [2, 6]);
    }

    #[test]
    fn the_first_after_a_start_of_the_platform_stays() {
        let (beat, next, mut sieve) = (beat(), BootId(uuid::Uuid::from_u128(2)), Sieve::default());
        for (position, boot) in (1..).map(Position).zip([BOOT, BOOT, BOOT, next, next, next]) {
            sieve.add(MINE, position, Seen::Beat(&beat, boot));
        }
        assert_eq!(sieve.finish(), [Position(2), Position(5)]);
    }

    #[test]
    fn runs_of_two_workspaces_and_calls_between_leave_each_other_alone() {
        let theirs = StreamId::Workspace(WorkspaceId(uuid::Uuid::from_u128(2)));
        let (beat, mut sieve) = (beat(), Sieve::default());
        for (position, (stream, seen)) in (1..).map(Position).zip([
            (MINE, Seen::Beat(&beat, BOOT)),
            (theirs, Seen::Beat(&beat, BOOT)),
            (MINE, Seen::Call),
            (MINE, Seen::Beat(&beat, BOOT)),
            (theirs, Seen::Other),
            (MINE, Seen::Beat(&beat, BOOT)),
            (theirs, Seen::Beat(&beat, BOOT)),
        ]) {
            sieve.add(stream, position, seen);
        }
        assert_eq!(sieve.finish(), [Position(4)]);
    }
}
