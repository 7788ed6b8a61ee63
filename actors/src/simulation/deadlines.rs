//! Deadlines, as the runtime's timer has them: armed early and lazily, and again by whoever was knocked on too soon.

use covalence_events::{Principal, StreamId, Timestamp};

use super::Millis;
use super::platform::{Mail, Platform};
use super::world::World;
use crate::{fleet, workspace};

/// From here on, an actor that is knocked on at one and the same moment over and over is going in circles.
const KNOCKS_MAX: u32 = 50;

impl Platform {
    fn deadline(&self, stream: StreamId, now: Timestamp) -> Option<Timestamp> {
        match stream {
            StreamId::Fleet => fleet::deadline(self.fleet.state.as_ref()?),
            StreamId::Workspace(id) => {
                let state = self.workspaces.get(&id)?.state.as_ref()?;
                workspace::decide::deadline(state, &self.policy, self.observer(now).since)
            }
        }
    }

    fn armed(&mut self, stream: StreamId) -> (&mut Option<Timestamp>, &mut (Millis, u32)) {
        match stream {
            StreamId::Fleet => (&mut self.fleet.armed, &mut self.fleet.knocks),
            StreamId::Workspace(id) => {
                let actor = self.workspaces.entry(id).or_default();
                (&mut actor.armed, &mut actor.knocks)
            }
        }
    }
}

impl World {
    pub(super) fn arm(&mut self, stream: StreamId) {
        let now = self.now;
        let Some(platform) = &mut self.platform else { return };
        let at = platform.at(now).at;
        let Some(due) = platform.deadline(stream, at) else { return };
        let (armed, _) = platform.armed(stream);
        if armed.is_none_or(|armed| due < armed) {
            *armed = Some(due);
            // Rounded up, so that a knock is never a hair too early.
            let after = u64::try_from((due - at).num_milliseconds()).map_or(0, |millis| millis + 1);
            self.mail_after(after, Mail::Knock(stream));
        }
    }

    pub(super) fn knocked(&mut self, stream: StreamId) {
        let now = self.now;
        let Some(platform) = &mut self.platform else { return };
        let at = platform.at(now).at;
        let due = platform.deadline(stream, at);
        let (armed, knocks) = platform.armed(stream);
        *armed = None;
        *knocks = if knocks.0 == now { (now, knocks.1 + 1) } else { (now, 1) };
        assert!(knocks.1 < KNOCKS_MAX, "{stream} goes in circles: its deadline {due:?} never passes at {at}");
        match due {
            Some(due) if due <= at => {
                let origin = self.origin(Principal::System);
                match stream {
                    StreamId::Fleet => self.command_fleet(fleet::Command::RecordDeadline, origin),
                    StreamId::Workspace(id) => self.command(id, workspace::Command::RecordDeadline, origin),
                }
            }
            Some(_) => self.arm(stream),
            None => {}
        }
    }
}
