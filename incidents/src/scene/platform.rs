//! What became of the platform itself: its runs, its pauses, its load, its log.

use covalence_events::Timestamp;
use covalence_events::fleet::ObserverChanged;

use super::Mark;

/// A run of the platform that began within the span.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Started {
    /// Its first fact.
    pub(crate) mark: Mark,
    /// The last sign of the run before it.
    pub(crate) gone_since: Option<Timestamp>,
    /// Whether that one said that it stops.
    pub(crate) in_order: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Platform {
    pub(crate) starts: Vec<Started>,
    pub(crate) stopped: Option<Mark>,
    /// Times in which it stood still, by the fact that says so, in milliseconds.
    pub(crate) pauses: Vec<(Mark, u64)>,
    /// Times at which its loop was late.
    pub(crate) late: Vec<Mark>,
    /// Trouble of its log.
    pub(crate) log: Vec<(Mark, String)>,
    /// Beats that it refused, or took too slowly.
    pub(crate) beats: Vec<Mark>,
    /// Bugs of its own.
    pub(crate) bugs: Vec<(Mark, String)>,
}

impl Platform {
    pub(super) fn another_run(&mut self, mark: Mark, last: Option<Timestamp>) {
        let in_order = self.stopped.take().is_some();
        self.starts.push(Started { mark, gone_since: last, in_order });
    }

    /// Its first fact may be another one of the same run. The first run of all comes after nothing.
    pub(super) fn started(&mut self, mark: Mark, of_all: bool) {
        if !of_all
            && self.starts.last().is_none_or(|started| (mark.at - started.mark.at).num_seconds().abs() > 60)
        {
            self.starts.push(Started { mark, gone_since: None, in_order: self.stopped.take().is_some() });
        }
    }

    pub(super) fn observer(&mut self, mark: Mark, e: &ObserverChanged) {
        if let Some(pause) = e.pause_ms {
            self.pauses.push((mark, pause));
        }
        // A score falls by and by; only what raises it happened at that moment.
        if e.score < e.from {
            return;
        }
        if e.loop_lag > 0 {
            self.late.push(mark);
        }
        if e.log > 0 {
            self.log.push((mark, format!("appends were slow or failed ({} points)", e.log)));
        }
        if e.beats > 0 {
            self.beats.push(mark);
        }
    }
}
