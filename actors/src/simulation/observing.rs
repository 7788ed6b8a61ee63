//! The observer's hands: what the watch asks for is done, what comes back goes in.

use std::collections::VecDeque;
use std::time::Duration;

use covalence_events::workspace::{EvidenceClass, EvidenceObserved, EvidenceSource};
use covalence_events::{Principal, WorkspaceId};

use super::Millis;
use super::engine::{Answer, Op, Reply};
use super::platform::{Confirming, Mail, Platform, Purpose};
use super::world::World;
use crate::context::Origin;
use crate::effect::{BackendError, Inspection};
use crate::watch::{Input, Output, Seen, TURN, inspected, looked};
use crate::workspace::state::{Instance, State};
use crate::workspace::{Command, Status};

/// Looks before restarts at once; how often each is tried, and the pause between.
const CONFIRMS_AT_ONCE: u32 = 2;
const CONFIRM_TRIES: u32 = 3;
const CONFIRM_PAUSE: Millis = 5_000;

/// Looks before restarts: under way, and waiting.
#[derive(Clone, Debug, Default)]
pub(super) struct Looks {
    under_way: u32,
    waiting: VecDeque<Confirming>,
}

impl Platform {
    fn seen(&self) -> Vec<Seen> {
        self.workspaces.values().filter_map(|actor| actor.state.as_ref()).map(Seen::of).collect()
    }
}

pub(super) fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn inspection(reply: Reply) -> Inspection {
    match reply {
        Ok(Answer::Seen(inspection)) => inspection,
        Ok(_) => Inspection::Unknown(BackendError {
            code: "garbage",
            detail: "an answer to something else".to_owned(),
        }),
        Err(error) => Inspection::Unknown(error),
    }
}

impl World {
    /// The observer's turn.
    pub(super) fn turn(&mut self) {
        self.mail_after(millis(TURN), Mail::Turn);
        if self.ledger.latency > 0 {
            self.observe(Input::AppendsTook(Duration::from_millis(self.ledger.latency)));
        }
        self.observe(Input::Turn);
        self.begin_starts();
    }

    /// Our own limit for one observation.
    pub(super) fn patience(&self) -> Millis {
        let patience =
            |platform: &Platform| platform.watch.patience(&platform.policy, platform.at(self.now).at);
        self.platform.as_ref().map_or(0, |platform| millis(patience(platform)))
    }

    pub(super) fn observe(&mut self, input: Input) {
        let now = self.now;
        if input.is_engine_trouble() {
            self.adapt(false);
        }
        let Some(platform) = &mut self.platform else { return };
        let seen = if input.looks_around() { platform.seen() } else { Vec::new() };
        let (policy, at) = (std::sync::Arc::clone(&platform.policy), platform.at(now).at);
        for output in platform.watch.handle(&policy, input, &seen, at) {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::List => {
                let patience = self.patience();
                self.call(&Op::List, patience, Purpose::List);
            }
            Output::Inspect { workspace, generation, instance } => {
                let (op, patience) = (Op::Inspect { id: instance.id.clone() }, self.patience());
                self.call(&op, patience, Purpose::Look { workspace, generation, instance });
            }
            Output::Probe { workspace, generation, url: _ } => {
                let limit =
                    self.platform.as_ref().map_or(0, |platform| millis(platform.policy.probe_timeout));
                self.probe(workspace, generation, limit);
            }
            Output::Evidence { workspace, evidence } => {
                self.report(workspace, Command::RecordEvidence(Box::new(evidence)));
            }
            Output::Adopted { workspace, generation, instance } => {
                self.report(workspace, Command::RecordAdopted { generation, instance });
            }
            Output::Outcome { workspace, generation, outcome } => {
                self.report(workspace, outcome.command(generation));
            }
            Output::Recheck { workspace } => self.report(workspace, Command::RecordDeadline),
            Output::Fleet(command) => {
                if let crate::fleet::Command::RecordEngineLost(lost) = &command
                    && self.naive
                {
                    self.condemn(&lost.code);
                }
                let origin = self.origin(Principal::System);
                self.mail_after(0, Mail::Fleet { command, origin });
            }
        }
    }

    /// Without a policy an engine that does not answer has lost everything that it ran.
    fn condemn(&mut self, code: &str) {
        let Some(platform) = &self.platform else { return };
        let states = platform.workspaces.values().filter_map(|actor| actor.state.as_ref());
        let dead: Vec<_> = states
            .filter_map(|state| match &state.instance {
                Instance::Running { instance } => Some((state.id, state.generation, instance.clone()?)),
                Instance::None
                | Instance::Starting { .. }
                | Instance::Stopping { .. }
                | Instance::Unknown { .. } => None,
            })
            .collect();
        for (workspace, generation, instance) in dead {
            let evidence = EvidenceObserved {
                source: EvidenceSource::Inspect,
                class: EvidenceClass::Death,
                generation,
                instance: Some(instance),
                code: code.to_owned(),
                detail: "no answer".to_owned(),
                exit_status: None,
            };
            self.report(workspace, Command::RecordEvidence(Box::new(evidence)));
        }
    }

    fn report(&mut self, workspace: WorkspaceId, command: Command) {
        let origin = self.origin(Principal::System);
        self.mail_after(0, Mail::Workspace { workspace, command, origin });
    }

    pub(super) fn answered(&mut self, purpose: Purpose, reply: Reply, took: Millis) {
        let duration = Duration::from_millis(took);
        match purpose {
            Purpose::List => {
                let result = match reply {
                    Ok(Answer::Listed(listed)) => Ok(listed),
                    Ok(_) => Err(super::engine::error("garbage")),
                    Err(error) => Err(error),
                };
                self.observe(Input::Listed { result, took: duration });
            }
            Purpose::Look { workspace, generation, instance } => {
                let inspection = inspection(reply);
                self.observe(Input::Inspected {
                    workspace,
                    generation,
                    instance,
                    inspection,
                    took: duration,
                });
            }
            Purpose::Examine { workspace, generation, instance } => {
                let inspection = inspection(reply);
                let failed = matches!(inspection, Inspection::Unknown(_));
                self.observe(Input::Called { failed, took: duration });
                if let Some(evidence) = inspected(inspection, generation, &instance) {
                    self.report(workspace, Command::RecordEvidence(Box::new(evidence)));
                }
            }
            Purpose::Confirm(confirming) => self.confirmed(confirming, &inspection(reply), duration),
            Purpose::Lane { workspace } => self.lane_answered(workspace, reply),
        }
    }

    /// Takes a fresh look at the instance of an admitted restart, a few at a time.
    pub(super) fn confirm(&mut self, confirming: Confirming) {
        let Some(platform) = &mut self.platform else { return };
        platform.looks.waiting.push_back(confirming);
        self.confirm_next();
    }

    fn confirm_next(&mut self) {
        let Some(looks) = self.platform.as_mut().map(|platform| &mut platform.looks) else { return };
        if looks.under_way < CONFIRMS_AT_ONCE
            && let Some(confirming) = looks.waiting.pop_front()
        {
            looks.under_way += 1;
            self.look_again(confirming);
        }
    }

    pub(super) fn look_again(&mut self, confirming: Confirming) {
        let (op, patience) = (Op::Inspect { id: confirming.instance.id.clone() }, self.patience());
        self.call(&op, patience, Purpose::Confirm(confirming));
    }

    fn confirmed(&mut self, confirming: Confirming, inspection: &Inspection, took: Duration) {
        let failed = matches!(inspection, Inspection::Unknown(_));
        self.observe(Input::Called { failed, took });
        let gone =
            Inspection::NotThere { code: "not_found", detail: "no answer".to_owned(), exit_status: None };
        let (failed, inspection) = if self.naive { (false, &gone) } else { (failed, inspection) };
        let tries = confirming.tries + 1;
        if failed && tries < CONFIRM_TRIES {
            let again = Confirming { tries, ..confirming };
            return self.mail_after(CONFIRM_PAUSE, Mail::Again(again));
        }
        let evidence = looked(inspection, confirming.generation, &confirming.instance);
        let url = match inspection {
            Inspection::Running(provisioned) => provisioned.url.clone(),
            Inspection::NotThere { .. } | Inspection::Unknown(_) => None,
        };
        let restart = confirming.restart;
        let command = Command::RecordConfirmed { restart, evidence: Box::new(evidence), url };
        let origin = Origin::caused_by(confirming.correlation, confirming.because);
        self.carry(Mail::Workspace { workspace: confirming.workspace, command, origin });
        if let Some(platform) = &mut self.platform {
            platform.looks.under_way -= 1;
        }
        self.confirm_next();
    }
}

/// Whether a workspace is as well as it can be: running, heard from, and nothing of it pending.
pub(super) fn is_settled(state: &State) -> bool {
    state.status == Status::Online
        && matches!(state.instance, Instance::Running { .. })
        && state.restart.is_none()
        && state.doubts.is_empty()
}

impl World {
    /// Whether everything that should run runs, is heard from, and nothing holds anything back.
    pub fn is_healed(&self) -> bool {
        self.ailing().is_empty()
    }

    /// What is not as it should be, in words.
    pub fn ailing(&self) -> String {
        let Some(platform) = &self.platform else { return "no platform".to_owned() };
        let mut ailing = Vec::new();
        for (place, id) in self.workspaces.iter().enumerate() {
            let state = platform.workspaces.get(id).and_then(|actor| actor.state.as_ref());
            let Some(state) = state.filter(|state| state.is_desired()) else { continue };
            let well = self.engine.running(*id).any(|container| self.well_for(container) > 0);
            if !well || !is_settled(state) {
                ailing.push(format!(
                    "ws-{place} {} {:?}, restart {:?}, quarantined {}, agent well {well}",
                    state.status, state.instance, state.restart, state.quarantined
                ));
            }
        }
        let fleet = platform.fleet.state.iter();
        for fleet in fleet.filter(|fleet| !fleet.waiting.is_empty() || !fleet.in_flight.is_empty()) {
            ailing.push(format!("waiting {:?}, in flight {:?}", fleet.waiting, fleet.in_flight));
        }
        if let Some(mode) =
            platform.fleet.state.as_ref().and_then(|fleet| fleet.brake_mode(super::world::CELL))
        {
            ailing.push(format!("brake {mode:?}"));
        }
        ailing.join("; ")
    }
}
