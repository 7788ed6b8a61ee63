//! What silence may lead to, and when, followed anew from the signs of life in the log: suspicion neither early nor late, and a
//! verdict only when enough speaks for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use covalence_events::fleet;
use covalence_events::workspace::{CallOutcome, Event, EvidenceClass, EvidenceSource, OnlineVia};
use covalence_events::{BootId, Fact, Generation, Recorded, WorkspaceId};

use super::super::history::History;
use super::super::{Millis, What};
use super::awake::Awake;
use super::seconds;
use crate::policy::Policy;
use crate::policy::phi::SAMPLES_MAX;

/// Facts of one stream are known to the decisions of another within this.
const KNOWN_WITHIN: Millis = 8_000;
/// A timer is a hair late, and so is a sign that waits behind another one.
const SLACK: Millis = 3_000;
/// Nobody is suspected sooner than this: a beat and a missed one.
const SUSPECTED_AFTER: Millis = 60_000;
/// A pause of ours that is longer than this was noticed by ourselves.
const NOTICED_PAUSE: Millis = 7_500;
/// One that is shorter than that and longer than this may have been.
const PERHAPS_NOTICED: Millis = 4_000;
/// What the log does not take is tried again for so long.
const RECORDED_WITHIN: Millis = 35_000;
/// Phi is 8 at so many deviations.
const DEVIATIONS: f64 = 5.233;
/// A request for a card may be under way when a sign of life arrives.
const UNDER_WAY: Millis = 10_000;

fn millis(time: std::time::Duration) -> Millis {
    u64::try_from(time.as_millis()).unwrap_or(Millis::MAX)
}

/// One workspace, as its signs show it.
#[derive(Default)]
struct Signs {
    generation: Generation,
    /// Since when it has been up without a break.
    up: Option<Millis>,
    heard: Millis,
    beat: Option<(Millis, BootId)>,
    intervals: VecDeque<Millis>,
    against: BTreeSet<EvidenceSource>,
}

impl Signs {
    fn life(&mut self, generation: Option<Generation>, at: Millis) -> bool {
        let current = generation.is_none_or(|named| named == self.generation);
        if current {
            self.heard = at;
        }
        current
    }

    fn beats(&mut self, generation: Option<Generation>, boot: BootId, at: Millis) {
        if !self.life(generation, at) {
            return;
        }
        if let Some((last, same)) = self.beat
            && same == boot
        {
            self.intervals.push_back((at - last) / 100 * 100);
            if self.intervals.len() > SAMPLES_MAX {
                self.intervals.pop_front();
            }
        }
        self.beat = Some((at, boot));
    }

    /// After how much silence it is to be suspected.
    fn patience(&self, policy: &Policy) -> Millis {
        if self.intervals.len() < policy.phi_samples_min as usize {
            return millis(policy.liveness_ttl);
        }
        #[expect(clippy::cast_precision_loss, reason = "a hundred intervals of minutes")]
        let (count, all) =
            (self.intervals.len() as f64, self.intervals.iter().map(|n| *n as f64).collect::<Vec<_>>());
        let mean = all.iter().sum::<f64>() / count;
        let spread = (all.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / count).sqrt();
        let spread = spread.max(policy.phi_sigma_min.as_secs_f64() * 1000.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some minutes")]
        let patience = (mean + DEVIATIONS * spread) as Millis;
        patience + millis(policy.phi_pause)
    }

    fn note(&mut self, event: &Event, recorded: &Recorded, at: Millis) {
        match event {
            Event::ProvisionRequested(e) => {
                *self = Self { generation: e.generation, heard: at, ..Self::default() };
            }
            Event::CameOnline(e) => {
                self.up = Some(at);
                if e.via != OnlineVia::Create {
                    self.heard = at;
                }
            }
            Event::Degraded(_) => {}
            Event::WentOffline(_)
            | Event::ProvisionFailed(_)
            | Event::Paused(_)
            | Event::Removed(_)
            | Event::Erased(_)
            | Event::StopRequested(_)
            | Event::Quarantined(_) => {
                self.up = None;
                self.against.clear();
            }
            Event::Registered(e) => _ = self.life(e.generation, at),
            Event::HeartbeatReceived(e) => self.beats(e.generation, recorded.meta.boot, at),
            Event::CallFinished(e) if e.outcome == CallOutcome::Answered => _ = self.life(None, at),
            Event::EvidenceObserved(e) if e.generation == self.generation => match e.class {
                EvidenceClass::Suspicion => {
                    self.against.insert(e.source);
                    self.beat = None;
                }
                EvidenceClass::Life if e.source == EvidenceSource::Probe => self.heard = at,
                _ => {}
            },
            Event::SuspicionCleared(_) => self.against.clear(),
            _ => {}
        }
    }

    /// Whether an event shows that it is alive.
    fn is_life(&self, event: &Event) -> bool {
        match event {
            Event::Registered(e) => e.generation.is_none_or(|named| named == self.generation),
            Event::HeartbeatReceived(e) => e.generation.is_none_or(|named| named == self.generation),
            Event::CallFinished(e) => e.outcome == CallOutcome::Answered,
            Event::EvidenceObserved(e) => {
                e.class == EvidenceClass::Life
                    && e.source == EvidenceSource::Probe
                    && e.generation == self.generation
            }
            _ => false,
        }
    }
}

/// What is known of everybody at a moment.
struct Listener<'a> {
    policy: &'a Policy,
    awake: Awake,
    signs: BTreeMap<WorkspaceId, Signs>,
    released: Millis,
    braked: Option<Millis>,
    grace: Option<Millis>,
}

impl Listener<'_> {
    /// Silence of this workspace that is its own, at this moment; releases that may not be known yet don't count.
    fn silent(&self, signs: &Signs, at: Millis, release: Millis, noticed: Millis) -> Millis {
        let listening = self.awake.listening_since(at, noticed);
        at.saturating_sub(signs.heard.max(listening).max(release))
    }

    fn objection(&self, signs: &Signs, event: &Event, at: Millis) -> Option<String> {
        let Event::EvidenceObserved(e) = event else { return self.overlooked(signs, event, at) };
        let known = if self.released + KNOWN_WITHIN <= at { self.released } else { 0 };
        let silent = self.silent(signs, at, known, NOTICED_PAUSE);
        match (e.class, e.source) {
            (EvidenceClass::Suspicion, EvidenceSource::Heartbeat) if silent + SLACK < SUSPECTED_AFTER => {
                Some(format!("suspected after {silent} ms"))
            }
            (EvidenceClass::Suspicion, EvidenceSource::Heartbeat) => self.late(signs, at),
            (EvidenceClass::Silence, _) => {
                let long = millis(self.policy.liveness_ttl);
                let since = |at: Millis| at + KNOWN_WITHIN;
                if silent + 100 < long {
                    Some(format!("hung after {silent} ms"))
                } else if signs.against.len() < self.policy.hung_sources as usize {
                    Some(format!("hung, though only {:?} speaks against it", signs.against))
                } else if self.braked.is_some_and(|braked| since(braked) <= at) {
                    Some("hung under a brake".to_owned())
                } else {
                    self.grace
                        .is_some_and(|grace| since(grace) <= at)
                        .then(|| "hung within the grace".to_owned())
                }
            }
            _ => self.overlooked(signs, event, at),
        }
    }

    /// A suspicion that should have been there before.
    fn late(&self, signs: &Signs, at: Millis) -> Option<String> {
        let up = signs.up?;
        let silent = self.silent(signs, at, self.released.max(up), PERHAPS_NOTICED);
        let patience = signs.patience(self.policy);
        let due = (at - silent) + patience;
        let late = at > due + SLACK && !signs.against.contains(&EvidenceSource::Heartbeat);
        (late && self.awake.throughout(due, due + SLACK))
            .then(|| format!("silent for {silent} ms before anybody wondered, {patience} are usual"))
    }

    fn overlooked(&self, signs: &Signs, event: &Event, at: Millis) -> Option<String> {
        signs.is_life(event).then(|| self.late(signs, at)).flatten()
    }

    fn note(&mut self, recorded: &Recorded, at: Millis) {
        match &recorded.fact {
            Fact::Workspace(event) => {
                if let Some(id) = recorded.subject() {
                    self.signs.entry(id).or_default().note(event, recorded, at);
                }
            }
            Fact::Fleet(fleet::Event::BrakeEngaged(_)) => _ = self.braked.get_or_insert(at),
            Fact::Fleet(fleet::Event::BrakeReleased(_)) => (self.released, self.braked) = (at, None),
            Fact::Fleet(fleet::Event::GraceStarted(_)) => self.grace = Some(at),
            Fact::Fleet(fleet::Event::GraceEnded(_)) => self.grace = None,
            Fact::Fleet(_) => {}
        }
    }
}

/// See the module.
pub(super) fn silence(history: History<'_>, policy: &Policy) -> Vec<String> {
    let mut listener = Listener {
        policy,
        awake: Awake::of(history),
        signs: BTreeMap::new(),
        released: 0,
        braked: None,
        grace: None,
    };
    let mut places = Vec::new();
    for (at, recorded) in history.facts {
        if let (Fact::Workspace(event), Some(id)) = (&recorded.fact, recorded.subject())
            && let Some(signs) = listener.signs.get(&id)
            && let Some(objection) = listener.objection(signs, event, *at)
        {
            places.push(format!("{} {id}: {objection}", seconds(*at)));
        }
        listener.note(recorded, *at);
    }
    places
}

/// An agent is suspected for what it did not answer only after three requests in a row, all of this silence.
pub(super) fn unanswered(history: History<'_>, policy: &Policy) -> Vec<String> {
    let mut signs: BTreeMap<WorkspaceId, Signs> = BTreeMap::new();
    let (awake, mut places) = (Awake::of(history), Vec::new());
    for (at, id, event, recorded) in history.all() {
        let signs = signs.entry(id).or_default();
        if let Event::EvidenceObserved(e) = event
            && (e.source, e.class) == (EvidenceSource::Probe, EvidenceClass::Suspicion)
        {
            let from = signs.heard.saturating_sub(UNDER_WAY);
            let asked = history.notes.iter().rev().skip_while(|note| note.at > at);
            let asked = asked.take_while(|note| note.at >= from).filter_map(|note| match note.what {
                What::CardAsked { workspace, generation, answered } => {
                    (workspace == id && generation == e.generation).then_some(answered)
                }
                _ => None,
            });
            let in_a_row = asked.take_while(|answered| !answered).count();
            // What could not be recorded for a while is older than it looks.
            if in_a_row < policy.probe_tries as usize
                && awake.throughout(at.saturating_sub(RECORDED_WITHIN), at)
            {
                places.push(format!("{} {id}: after {in_a_row} requests", seconds(at)));
            }
        }
        signs.note(event, recorded, at);
    }
    places
}
