//! A fleet's history made up from a seed: what a large log holds, for tests and benches that need one.
//!
//! Each workspace is created and started, beats every thirty seconds, and is called now and then. Some have large cards, one is
//! suspected or paused once in a while, and one dies and is restarted, with the whole chain from evidence to proof. Once a day the
//! platform itself is restarted. More than nine facts of ten are heartbeats, as in a fleet at work.
//!
//! The same options give the same facts, with ids and times, on every machine. Positions that facts name hold in a log that was empty.

use std::collections::{BTreeMap, VecDeque};

use chrono::TimeDelta;
use uuid::Uuid;

use crate::envelope::{Fact, Meta, NewEvent, Principal, StreamId, Timestamp};
use crate::id::{BootId, CallId, CorrelationId, EventId, Generation, PolicyHash, Position, WorkspaceId};
use crate::log::{Ack, Append, Expected};
use crate::{fleet, workspace};

mod story;

/// How often a workspace beats.
const BEAT_EVERY_MS: i64 = 30_000;

/// Rounds of beats in a day, after which the platform is restarted.
const ROUNDS_PER_DAY: u64 = 24 * 120;

/// One call comes on so many beats.
const BEATS_PER_CALL: u64 = 14;

/// One of each rarer story comes on so many beats.
const BEATS_PER_STORY: u64 = 20_000;

/// One workspace of so many has a card that does not fit into a frame.
const WORKSPACES_PER_LARGE_CARD: u64 = 50;

/// What the fleet is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Everything random comes from it.
    pub seed: u64,
    /// How many there are, at least one.
    pub workspaces: u32,
    /// When the first fact happened.
    pub since: Timestamp,
}

impl Default for Options {
    fn default() -> Self {
        let since = Timestamp::from_timestamp(1_767_225_600, 0).unwrap_or_default();
        Self { seed: 1, workspaces: 1000, since }
    }
}

/// One append, as the platform would make it.
#[derive(Clone, Debug)]
pub struct Step {
    /// All of it or nothing.
    pub appends: Vec<Append>,
    /// What its caller waits for.
    pub ack: Ack,
}

impl Step {
    /// Its facts, in order.
    pub fn events(&self) -> impl Iterator<Item = &NewEvent> {
        self.appends.iter().flat_map(|append| &append.events)
    }
}

/// Tells the history step by step, without end. See the module.
#[derive(Debug)]
pub struct Fleet {
    options: Options,
    random: Random,
    boot: BootId,
    members: Vec<Member>,
    /// Beats so far, by which the clock goes.
    beats: u64,
    /// The position of the fact that was told last.
    position: Position,
    ready: VecDeque<Step>,
    /// What happens at a later time; the number keeps the order of what happens at the same one.
    later: BTreeMap<(Timestamp, u64), Step>,
}

/// What is known about one workspace.
#[derive(Clone, Copy, Debug)]
struct Member {
    id: WorkspaceId,
    generation: Generation,
    started: Timestamp,
}

impl Fleet {
    /// A fleet that does not exist yet: its first steps create it.
    pub fn new(options: Options) -> Self {
        let mut random = Random(options.seed);
        let boot = BootId(random.id_at(options.since));
        let members = (0..options.workspaces.max(1))
            .map(|number| Member {
                id: workspace_id(options.seed, number),
                generation: Generation(1),
                started: options.since,
            })
            .collect();
        let mut fleet = Self {
            options,
            random,
            boot,
            members,
            beats: 0,
            position: Position(0),
            ready: VecDeque::new(),
            later: BTreeMap::new(),
        };
        fleet.begin(options.since);
        for number in 0..fleet.members.len() {
            fleet.create(number, options.since);
        }
        fleet
    }

    /// The id of a workspace, by its number from 0.
    pub fn workspace(&self, number: u32) -> WorkspaceId {
        workspace_id(self.options.seed, number)
    }

    /// The time of a beat.
    fn beat_at(&self, beat: u64) -> Timestamp {
        let each = BEAT_EVERY_MS * 1000 / i64::try_from(self.members.len()).unwrap_or(i64::MAX);
        // The fleet is created in the first round.
        let micros =
            i64::try_from(beat).unwrap_or(i64::MAX).saturating_mul(each).saturating_add(BEAT_EVERY_MS * 1000);
        after(self.options.since, TimeDelta::microseconds(micros))
    }

    /// What the next beat brings, beside itself.
    fn beat(&mut self) {
        let at = self.beat_at(self.beats);
        let count = self.members.len() as u64;
        let number = usize::try_from(self.beats % count).unwrap_or_default();
        if number == 0 && self.beats > 0 && (self.beats / count).is_multiple_of(ROUNDS_PER_DAY) {
            self.restart_platform(at);
        }
        self.beats += 1;
        self.heartbeat(number, at);
        if self.random.one_in(BEATS_PER_CALL) {
            self.call(number, at);
        }
        if self.random.one_in(BEATS_PER_STORY) {
            match self.random.below(8) {
                0..3 => self.death(number, at),
                3..6 => self.suspicion(number, at),
                6 => self.pause(number, at),
                _ => self.card(number, at),
            }
        }
    }

    fn heartbeat(&mut self, number: usize, at: Timestamp) {
        let member = self.members[number];
        let busy = self.random.one_in(3);
        let fact = workspace::HeartbeatReceived {
            error_rate: if self.random.one_in(10) { 0.05 } else { 0.0 },
            active_tasks: i64::from(busy),
            uptime_seconds: at.signed_duration_since(member.started).num_seconds(),
            current_task: if busy { self.random.pick(&TASKS).to_owned() } else { String::new() },
            generation: Some(member.generation),
            ..Default::default()
        };
        let event = self.event(at, said(fact), None, Principal::Workspace(member.id));
        self.tell(member.id, vec![event], Ack::Accepted);
    }

    fn call(&mut self, number: usize, at: Timestamp) {
        let other = usize::try_from(self.random.below(self.members.len() as u64)).unwrap_or_default();
        let failed = self.random.one_in(25);
        let fact = workspace::CallFinished {
            call: CallId(self.random.id_at(at)),
            caller: Principal::Workspace(self.members[other].id),
            method: "message/send".to_owned(),
            outcome: if failed { workspace::CallOutcome::Unknown } else { workspace::CallOutcome::Answered },
            status: (!failed).then_some(200),
            duration_ms: 200 + self.random.below(30_000),
            request_bytes: 300 + self.random.below(4000),
            response_bytes: if failed { 0 } else { 500 + self.random.below(20_000) },
            error: failed.then(|| "the agent did not answer in time".to_owned()),
            tries: 1,
            failure: None,
        };
        let event = self.event(at, said(fact), None, Principal::System);
        self.tell(self.members[number].id, vec![event], Ack::Accepted);
    }

    /// A fact with its envelope.
    fn event(
        &mut self,
        at: Timestamp,
        fact: Fact,
        cause: Option<&NewEvent>,
        principal: Principal,
    ) -> NewEvent {
        let id = EventId(self.random.id_at(at));
        let correlation = cause.map_or(CorrelationId(id.0), |cause| cause.meta.correlation);
        let mono = at.signed_duration_since(self.options.since).num_nanoseconds().unwrap_or(i64::MAX);
        let policy = matches!(fact, Fact::Fleet(_)).then_some(PolicyHash(0x00c0_ffee));
        NewEvent {
            meta: Meta {
                id,
                at,
                boot: self.boot,
                mono_ns: u64::try_from(mono).unwrap_or_default(),
                correlation,
                causation: cause.map(|cause| cause.meta.id),
                principal,
                policy,
            },
            fact,
        }
    }

    /// The next append of a workspace.
    fn tell(&mut self, workspace: WorkspaceId, events: Vec<NewEvent>, ack: Ack) {
        self.tell_all(vec![to(StreamId::Workspace(workspace), events)], ack);
    }

    /// The next append of the fleet's own stream.
    fn tell_fleet(&mut self, events: Vec<NewEvent>) {
        self.tell_all(vec![to(StreamId::Fleet, events)], Ack::Durable);
    }

    fn tell_all(&mut self, appends: Vec<Append>, ack: Ack) {
        let step = Step { appends, ack };
        self.position.0 += step.events().count() as u64;
        self.ready.push_back(step);
    }

    /// Appends that come when the clock gets there.
    fn tell_later(&mut self, at: Timestamp, appends: Vec<Append>) {
        let number = self.random.next();
        self.later.insert((at, number), Step { appends, ack: Ack::Durable });
    }
}

impl Iterator for Fleet {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.ready.is_empty() {
            let due = self.beat_at(self.beats);
            match self.later.first_entry() {
                Some(entry) if entry.key().0 <= due => {
                    let Step { appends, ack } = entry.remove();
                    self.tell_all(appends, ack);
                }
                Some(_) | None => self.beat(),
            }
        }
        self.ready.pop_front()
    }
}

const TASKS: [&str; 4] = [
    "summing up what the team found out",
    "reading the pull request",
    "running the tests of the storage layer",
    "waiting for an answer of the reviewer",
];

fn said(fact: impl Into<workspace::Event>) -> Fact {
    Fact::Workspace(fact.into())
}

fn said_of_all(fact: impl Into<fleet::Event>) -> Fact {
    Fact::Fleet(fact.into())
}

fn to(stream: StreamId, events: Vec<NewEvent>) -> Append {
    Append { stream, expected: Expected::Any, events }
}

fn after(at: Timestamp, span: TimeDelta) -> Timestamp {
    at.checked_add_signed(span).unwrap_or(at)
}

fn workspace_id(seed: u64, number: u32) -> WorkspaceId {
    // Apart from the history's chance, so that a number has the same id however large the fleet is.
    let mut random = Random(seed ^ (u64::from(number) << 32 | 0x5eed));
    WorkspaceId(uuid::Builder::from_random_bytes(random.bytes()).into_uuid())
}

/// Chance that is the same everywhere: splitmix64, which is a few lines and good enough for made-up facts.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        let number = usize::try_from(self.below(from.len() as u64)).unwrap_or_default();
        from.get(number).copied().unwrap_or_default()
    }

    fn bytes(&mut self) -> [u8; 16] {
        (u128::from(self.next()) << 64 | u128::from(self.next())).to_be_bytes()
    }

    /// An id that says when it was made, as the platform's do.
    fn id_at(&mut self, at: Timestamp) -> Uuid {
        let millis = u64::try_from(at.timestamp_millis()).unwrap_or_default();
        let bytes = self.bytes();
        let mut tail = [0; 10];
        tail.copy_from_slice(&bytes[..10]);
        uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid()
    }
}

#[cfg(test)]
mod tests;
