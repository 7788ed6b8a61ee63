//! What everybody may see without asking a mailbox: the policy in force, and how well each cell is seen.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use covalence_events::workspace::BackendKind;
use covalence_events::{PolicyHash, Timestamp};

use crate::context::ObserverView;
use crate::fleet;
use crate::fleet::state::GlobalSecret;
use crate::policy::Policy;
use crate::watch::{Eye, Watch};

/// What the supervisor's state says about one cell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Hand {
    in_grace: bool,
    braked: bool,
    released: Option<Timestamp>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Sight {
    /// Our own start.
    since: Timestamp,
    policy: RwLock<Arc<(Policy, PolicyHash)>>,
    eyes: RwLock<BTreeMap<BackendKind, Eye>>,
    hands: RwLock<BTreeMap<BackendKind, Hand>>,
    /// Whether an emergency stop is on.
    stopped: AtomicBool,
    /// Secrets of the whole fleet.
    secrets: RwLock<Arc<BTreeMap<String, GlobalSecret>>>,
}

impl Sight {
    /// Nobody has looked yet.
    pub(super) fn new(since: Timestamp, policy: Policy) -> Self {
        let hash = policy.hash();
        Self {
            since,
            policy: RwLock::new(Arc::new((policy, hash))),
            eyes: RwLock::default(),
            hands: RwLock::default(),
            stopped: AtomicBool::new(false),
            secrets: RwLock::default(),
        }
    }

    /// The policy in force, with its name.
    pub(super) fn policy(&self) -> Arc<(Policy, PolicyHash)> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes note of the supervisor's state.
    pub(super) fn note(&self, state: &fleet::State) {
        if self.policy().0 != state.policy {
            let hash = state.policy.hash();
            *self.policy.write().unwrap_or_else(PoisonError::into_inner) =
                Arc::new((state.policy.clone(), hash));
        }
        self.stopped.store(state.is_stopped(), Ordering::Relaxed);
        if *self.secrets() != state.secrets {
            *self.secrets.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state.secrets.clone());
        }
        let kinds = [BackendKind::Process, BackendKind::Docker, BackendKind::External];
        let hands = kinds.map(|kind| {
            let cell = state.cells.get(&kind);
            let hand = Hand {
                in_grace: state.in_grace(kind),
                braked: cell.is_some_and(|cell| cell.brake.is_some()),
                released: cell.and_then(|cell| cell.released),
            };
            (kind, hand)
        });
        *self.hands.write().unwrap_or_else(PoisonError::into_inner) = hands.into_iter().collect();
    }

    /// The secrets that every workspace gets.
    pub(super) fn secrets(&self) -> Arc<BTreeMap<String, GlobalSecret>> {
        Arc::clone(&self.secrets.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes note of what an observer says of itself.
    pub(super) fn look(&self, cell: BackendKind, watch: &Watch, now: Timestamp) {
        self.eyes.write().unwrap_or_else(PoisonError::into_inner).insert(cell, watch.eye(now));
    }

    /// Whether an emergency stop is on: then nothing at all is started.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// How well a cell is seen; what belongs to none is seen well. Cells without an observer learn of our own pauses from those
    /// that have one: we stand still for all of them.
    pub(super) fn view(&self, cell: Option<BackendKind>, now: Timestamp) -> ObserverView {
        let Some(cell) = cell else { return ObserverView::well(self.since) };
        let policy = &self.policy().0;
        let eyes = self.eyes.read().unwrap_or_else(PoisonError::into_inner);
        let eye = eyes.get(&cell);
        let listeners = || eyes.values().filter(|_| eye.is_none()).chain(eye);
        let since = listeners().map(|eye| eye.since(policy, now)).fold(self.since, Timestamp::max);
        let quiet = listeners().any(|eye| eye.is_quiet(policy, now));
        let score = eye.map_or(0, |eye| eye.score);
        drop(eyes);
        let hand =
            self.hands.read().unwrap_or_else(PoisonError::into_inner).get(&cell).copied().unwrap_or_default();
        ObserverView {
            since: hand.released.map_or(since, |released| since.max(released)),
            score,
            quiet,
            in_grace: hand.in_grace && cell != BackendKind::External,
            braked: hand.braked,
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::*;
    use crate::watch::Input;

    /// R52: what we don't run has no observer of its own, and we stood still for it all the same.
    #[test]
    fn a_pause_of_ours_is_held_against_no_external_workspace() {
        let (start, policy) = (DateTime::UNIX_EPOCH, Policy::default());
        let sight = Sight::new(start, policy.clone());
        let mut watch = Watch::new(BackendKind::Process, start);
        watch.handle(&policy, Input::Turn, &[], start);
        sight.look(BackendKind::Process, &watch, start);
        for kind in [BackendKind::External, BackendKind::Process] {
            let soon = sight.view(Some(kind), start + TimeDelta::seconds(1));
            assert_eq!((soon.since, soon.quiet), (start, false), "{kind:?}");
            let woken = start + TimeDelta::seconds(100);
            let view = sight.view(Some(kind), woken);
            assert_eq!((view.since, view.quiet), (woken, true), "{kind:?}");
        }
    }
}
