//! What an observer says once, for the time in which the log takes no facts.
//!
//! Evidence is not kept: it comes again with the next list or look, and would be stale. What is kept is how things stand with an
//! engine, which is said only where it changes: the latest of each kind, so that a log that is shut for days costs nothing.

use std::collections::BTreeMap;

use covalence_events::WorkspaceId;

use crate::fleet;
use crate::workspace::Command;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Owed {
    fleet: BTreeMap<String, fleet::Command>,
    adopted: BTreeMap<WorkspaceId, Command>,
}

/// What a command replaces when it comes later; none for what is said again by itself.
fn subject(command: &fleet::Command) -> Option<String> {
    match command {
        // Surveys come with each list.
        fleet::Command::RecordSurvey(_) => None,
        // One takes the other back.
        fleet::Command::RecordEngineLost(_) | fleet::Command::RecordEngineFound { .. } => {
            Some("engine".to_owned())
        }
        fleet::Command::RecordStranger(stranger) => Some(format!("stranger {}", stranger.instance)),
        command => Some(command.name().to_owned()),
    }
}

impl Owed {
    /// The log did not take it.
    pub(super) fn keep(&mut self, command: fleet::Command) {
        if let Some(subject) = subject(&command) {
            self.fleet.insert(subject, command);
        }
    }

    /// The log did not take that an instance was found running after our start.
    pub(super) fn keep_adopted(&mut self, workspace: WorkspaceId, command: Command) {
        self.adopted.insert(workspace, command);
    }

    /// It is being said now: what was kept of the same is overtaken.
    pub(super) fn is_said(&mut self, command: &fleet::Command) {
        if let Some(subject) = subject(command) {
            self.fleet.remove(&subject);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fleet.is_empty() && self.adopted.is_empty()
    }

    /// All of it.
    pub(super) fn take(&mut self) -> (Vec<fleet::Command>, Vec<(WorkspaceId, Command)>) {
        let fleet = std::mem::take(&mut self.fleet).into_values().collect();
        (fleet, std::mem::take(&mut self.adopted).into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use covalence_events::fleet::EngineLost;

    use super::*;

    fn lost(code: &str) -> fleet::Command {
        let (engine, detail) = ("process".to_owned(), String::new());
        fleet::Command::RecordEngineLost(EngineLost { engine, code: code.to_owned(), detail })
    }

    #[test]
    fn the_latest_of_each_kind_is_kept_and_what_is_said_later_takes_it_back() {
        let found = || fleet::Command::RecordEngineFound { engine: "process".to_owned() };
        let mut owed = Owed::default();
        owed.keep(lost("timeout"));
        owed.keep(found());
        owed.keep(lost("refused"));
        assert_eq!(owed.take().0, [lost("refused")]);
        assert!(owed.is_empty());
        owed.keep(lost("timeout"));
        owed.is_said(&found());
        assert!(owed.is_empty(), "recorded later, it would be the last word");
    }
}
