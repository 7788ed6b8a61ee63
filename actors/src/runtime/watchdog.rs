//! Watches the platform's own loops: one that does not come round any more is an alarm, until it does.
//!
//! It changes nothing: what a stuck loop waits for is not known here, and a person who sees its name can tell.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use covalence_events::Principal;
use covalence_events::pulse::{IDLE_ROUND, Pulse};
use covalence_events::workspace::BackendKind;
use tracing::{error, info};

use super::Runtime;
use crate::context::Origin;
use crate::fleet::{Command, loop_alarm};

/// A loop that has not come round for so long is stuck: each of them does every few seconds, and an engine's slowest answers
/// are waited for elsewhere.
pub const STUCK_AFTER: Duration = Duration::from_secs(60);
/// If we come so late ourselves, whoever stopped us stopped the others too, and they get a round first.
const LATE: Duration = Duration::from_secs(15);

/// What is said of the loops so far.
#[derive(Debug, Default)]
struct Said {
    /// Those that are stuck.
    stuck: BTreeSet<&'static str>,
    /// What the fleet's stream has of them: whether the alarm is on.
    recorded: BTreeMap<&'static str, bool>,
}

impl Said {
    /// Takes note of a loop's age; answers whether that is news.
    fn changes(&mut self, name: &'static str, stuck: bool) -> bool {
        if stuck { self.stuck.insert(name) } else { self.stuck.remove(name) }
    }

    /// What the log does not know yet. A new run begins with no alarm of this kind.
    fn unrecorded(&self) -> Vec<(&'static str, bool)> {
        let on = self.stuck.iter().map(|name| (*name, true));
        let off = self.recorded.keys().filter(|name| !self.stuck.contains(*name)).map(|name| (*name, false));
        on.chain(off).filter(|(name, on)| self.recorded.get(name).copied().unwrap_or(false) != *on).collect()
    }
}

impl Runtime {
    /// Watches until the platform goes down.
    pub(super) async fn watch_loops(self, own: std::sync::Arc<Pulse>) {
        let mut rounds = tokio::time::interval(IDLE_ROUND);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut said = Said::default();
        loop {
            rounds.tick().await;
            let late = own.age() > LATE;
            own.tick();
            if late {
                continue;
            }
            for pulse in self.pulses() {
                let stuck = pulse.age() > STUCK_AFTER;
                if said.changes(pulse.name(), stuck) {
                    tell(pulse, stuck);
                }
            }
            for (name, stuck) in said.unrecorded() {
                // Tried again in the next round: if it is the log that is stuck, this is not recorded before it goes on.
                let recording = self.fleet(alarm(name, stuck), Origin::new(Principal::System));
                if matches!(tokio::time::timeout(IDLE_ROUND, recording).await, Ok(Ok(_))) {
                    said.recorded.insert(name, stuck);
                }
                own.tick();
            }
        }
    }

    /// The platform's own loops.
    pub fn pulses(&self) -> &[std::sync::Arc<Pulse>] {
        &self.shared.pulses
    }
}

fn tell(pulse: &Pulse, stuck: bool) {
    if stuck {
        error!(name = pulse.name(), seconds = pulse.age().as_secs(), "a loop of the platform is stuck");
    } else {
        info!(name = pulse.name(), "the loop comes round again");
    }
}

fn alarm(name: &str, stuck: bool) -> Command {
    let (kind, workspace) = (loop_alarm(name), None);
    if stuck {
        let message = format!(
            "the platform's `{name}` loop has not come round for more than {} s: see `GET /admin/liveness`; if it does not \
             recover, restart the platform, which restarts no workspace",
            STUCK_AFTER.as_secs()
        );
        Command::RaiseAlarm { kind, workspace, message }
    } else {
        Command::ResolveAlarm { kind, workspace }
    }
}

/// The name of an observer's loop.
pub(super) const fn observer(cell: BackendKind) -> &'static str {
    match cell {
        BackendKind::Process => "observer-process",
        BackendKind::Docker => "observer-docker",
        BackendKind::External => "observer-external",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_said_until_it_is_recorded_and_then_its_end() {
        let mut said = Said::default();
        assert!(!said.changes("deadlines", false), "well from the beginning is no news");
        assert_eq!(said.unrecorded(), []);
        assert!(said.changes("deadlines", true));
        assert!(!said.changes("deadlines", true), "told once");
        assert_eq!(said.unrecorded(), [("deadlines", true)]);
        assert_eq!(said.unrecorded(), [("deadlines", true)], "until it is recorded");
        said.recorded.insert("deadlines", true);
        assert_eq!(said.unrecorded(), []);
        assert!(said.changes("deadlines", false));
        assert_eq!(said.unrecorded(), [("deadlines", false)]);
    }
}
