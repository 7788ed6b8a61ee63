//! When the platform could not have done what was due: it was down, stood still, was late, or could write nothing.

use super::super::fault::Fault;
use super::super::history::History;
use super::super::{Millis, What};

/// A start of the platform, or the end of what kept it, is not felt at once.
const AFTERWARDS: Millis = 5_000;

/// See the module.
pub(super) struct Awake {
    asleep: Vec<(Millis, Millis)>,
    /// When the platform's process began, each time.
    boots: Vec<Millis>,
    /// When it stood still for so long that it must have noticed.
    pauses: Vec<(Millis, Millis)>,
}

impl Awake {
    pub(super) fn of(history: History<'_>) -> Self {
        let boots: Vec<_> =
            history.notes.iter().filter(|note| note.what == What::Boot).map(|note| note.at).collect();
        let next_boot =
            |at: Millis| boots.iter().copied().find(|boot| *boot >= at).unwrap_or(Millis::MAX - AFTERWARDS);
        let mut asleep: Vec<_> = boots.iter().map(|at| (*at, at + AFTERWARDS)).collect();
        let mut pauses = Vec::new();
        for note in history.notes {
            match &note.what {
                What::Killed | What::NotRecorded => asleep.push((note.at, next_boot(note.at) + AFTERWARDS)),
                What::Fault(
                    fault @ (Fault::Pause { .. }
                    | Fault::Lag { .. }
                    | Fault::LogBusy { .. }
                    | Fault::LogSlow { .. }
                    | Fault::LogFull { .. }),
                ) => {
                    asleep.push((note.at, note.at + fault.lasts() + AFTERWARDS));
                    if let Fault::Pause { lasts } = fault {
                        pauses.push((note.at, note.at + lasts));
                    }
                }
                _ => {}
            }
        }
        Self { asleep, boots, pauses }
    }

    /// Whether it could do what was due all that time.
    pub(super) fn throughout(&self, from: Millis, until: Millis) -> bool {
        !self.asleep.iter().any(|(begin, end)| *begin <= until && from <= *end)
    }

    /// The last time before a moment at which it began to listen: its start, or the end of a pause of this length. A process
    /// that was started in the middle of a pause knows nothing of it.
    pub(super) fn listening_since(&self, at: Millis, pause: Millis) -> Millis {
        let boot = self.boots.iter().copied().filter(|boot| *boot <= at).max().unwrap_or(0);
        let pauses = self.pauses(pause).filter(|(from, until)| boot <= *from && *until <= at);
        pauses.map(|(_, until)| until).max().unwrap_or(boot)
    }

    /// Pauses of at least this length.
    pub(super) fn pauses(&self, pause: Millis) -> impl Iterator<Item = (Millis, Millis)> + '_ {
        self.pauses.iter().copied().filter(move |(from, until)| until - from >= pause)
    }
}
