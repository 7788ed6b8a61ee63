//! Carries out effects, as the runtime does: work on one workspace one at a time, in the order in which it was asked for;
//! starts as many at once as the engine bears; everything at least once.

use std::collections::VecDeque;

use covalence_events::fleet::ProvisionLimitChanged;
use covalence_events::workspace::TokenPurpose;
use covalence_events::{CorrelationId, Generation, Principal, TokenId, WorkspaceId};

use super::Millis;
use super::engine::{Answer, Op, Reply};
use super::observing::millis;
use super::platform::{Confirming, Handled, Mail, Purpose};
use super::world::{CELL, World};
use crate::context::Origin;
use crate::effect::Inspection;
use crate::fleet;
use crate::policy::Policy;
use crate::policy::limit::Limit;
use crate::watch::Input;
use crate::workspace::command::{Drained, NewToken, ProvisionFailure};
use crate::workspace::{self, Command, Effect};

/// How often a start asks whether it already runs, and the pause between.
const FIND_TRIES: u32 = 3;
const FIND_PAUSE: Millis = 2_000;
/// How long a change of the engine may take before nobody waits for it any more.
const MUTATION: Millis = 30_000;
/// How long the calls of what is replaced take to end.
const DRAIN: (Millis, Millis) = (5, 4_000);
/// What a full log's queue refused is tried again after this.
const BUSY: Millis = 100;

/// Work on one workspace's instance.
#[derive(Clone, Debug)]
struct Job {
    generation: Generation,
    origin: Origin,
    stop: bool,
    /// When it got its slot.
    begun: Millis,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// It waits for a slot.
    Waiting {
        since: Millis,
    },
    /// It asks whether it already runs.
    Finding {
        tries: u32,
    },
    /// It has asked for a token.
    Minting,
    Clearing,
    Creating,
    Starting,
    Stopping,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Lane {
    jobs: VecDeque<Job>,
    doing: Option<(Job, Step)>,
}

/// Starts of the cell: under way, and waiting for a slot.
#[derive(Clone, Debug)]
pub(super) struct Starts {
    limit: Limit,
    under_way: u32,
    waiting: VecDeque<WorkspaceId>,
    /// The most that were under way at once.
    pub(super) most: u32,
    /// The lowest that the limit was.
    pub(super) lowest: u32,
}

impl Starts {
    pub(super) fn new(policy: &Policy) -> Self {
        let limit = Limit::new(policy);
        Self { limit, under_way: 0, waiting: VecDeque::new(), most: 0, lowest: limit.get() }
    }
}

impl World {
    /// Carries out what a workspace's fact asks for.
    pub(super) fn dispatch(&mut self, workspace: WorkspaceId, effect: Effect, correlation: CorrelationId) {
        let (command, because) = match effect {
            Effect::RequestAdmission { restart, cause, forced, because } => {
                (fleet::Command::RequestAdmission { workspace, restart, cause, forced }, because)
            }
            Effect::SettleRestart { restart, outcome, because } => {
                (fleet::Command::SettleRestart { workspace, restart, outcome }, because)
            }
            Effect::ProveRestart { restart, because } => {
                (fleet::Command::ProveRestart { workspace, restart }, because)
            }
            Effect::Provision { generation, because } => {
                return self.push(workspace, (generation, false), Origin::caused_by(correlation, because));
            }
            Effect::Stop { generation, because } => {
                return self.push(workspace, (generation, true), Origin::caused_by(correlation, because));
            }
            Effect::Drain { restart, because } => {
                // Calls that are open end soon.
                let (after, origin) =
                    (self.chance.between(DRAIN.0, DRAIN.1), Origin::caused_by(correlation, because));
                let command = Command::RecordDrained(Drained { restart, open: 0 });
                return self.mail_after(after, Mail::Workspace { workspace, command, origin });
            }
            Effect::Confirm { restart, generation, instance, because } => {
                let confirming =
                    Confirming { workspace, restart, generation, instance, because, correlation, tries: 0 };
                return self.confirm(confirming);
            }
            // None of them touches what runs.
            Effect::Purge { .. }
            | Effect::Announce { .. }
            | Effect::Delegate { .. }
            | Effect::ReturnTask { .. }
            | Effect::ServeQueue { .. }
            | Effect::PassAgent { .. } => return,
        };
        self.carry(Mail::Fleet { command, origin: Origin::caused_by(correlation, because) });
    }

    /// Carries out what a fact of the fleet asks for.
    pub(super) fn told_by_fleet(&mut self, effect: fleet::Effect, correlation: CorrelationId) {
        // A simulated platform has no flight recorder: no decision rests on one.
        let Some((workspace, command, because)) = effect.command() else { return };
        self.carry(Mail::Workspace { workspace, command, origin: Origin::caused_by(correlation, because) });
    }

    fn push(&mut self, workspace: WorkspaceId, (generation, stop): (Generation, bool), origin: Origin) {
        if let Some(platform) = &mut self.platform {
            platform.lanes.entry(workspace).or_default().jobs.push_back(Job {
                generation,
                origin,
                stop,
                begun: 0,
            });
        }
        self.walk(workspace);
    }

    /// Whether so many starts wait that people are told to come back later.
    pub(super) fn starts_are_full(&self) -> bool {
        self.platform.as_ref().is_some_and(|platform| {
            platform.starts.waiting.len() >= platform.policy.provisions_queue as usize
        })
    }

    /// The most starts at once in this run of the platform, and the lowest limit on them.
    pub fn starts_at_once(&self) -> (u32, u32) {
        self.platform.as_ref().map_or((0, 0), |platform| (platform.starts.most, platform.starts.lowest))
    }

    /// Takes the next job of a lane, or goes on with the one that pauses.
    pub(super) fn walk(&mut self, workspace: WorkspaceId) {
        let Some(lane) = self.platform.as_mut().and_then(|platform| platform.lanes.get_mut(&workspace))
        else {
            return;
        };
        match &lane.doing {
            Some((job, Step::Finding { .. })) => {
                let generation = job.generation;
                let patience = self.patience();
                self.call(&Op::Find { workspace, generation }, patience, Purpose::Lane { workspace });
            }
            Some((_, Step::Minting)) => self.mint(workspace),
            Some(_) => {}
            None => {
                let Some(job) = lane.jobs.pop_front() else { return };
                if job.stop {
                    let up_to = job.generation;
                    lane.doing = Some((job, Step::Stopping));
                    return self.call(&Op::Stop { workspace, up_to }, MUTATION, Purpose::Lane { workspace });
                }
                lane.doing = Some((job, Step::Waiting { since: self.now }));
                if let Some(platform) = &mut self.platform {
                    platform.starts.waiting.push_back(workspace);
                }
                self.begin_starts();
            }
        }
    }

    /// Lets as many starts begin as the engine bears. Restarts, which have been admitted already, are never shed.
    pub(super) fn begin_starts(&mut self) {
        let now = self.now;
        loop {
            let Some(platform) = &mut self.platform else { return };
            let starts = &mut platform.starts;
            let free = starts.under_way < starts.limit.get();
            let patience = millis(platform.policy.provisions_wait);
            let Some(workspace) = starts.waiting.front().copied() else { return };
            let Some(lane) = platform.lanes.get_mut(&workspace) else { return };
            let Some((job, step)) = &mut lane.doing else { return };
            let state = platform.workspaces.get(&workspace).and_then(|actor| actor.state.as_ref());
            let wanted = state.is_some_and(|state| state.is_starting(job.generation));
            let sheds = state.is_some_and(|state| state.restart.is_none())
                && matches!(step, Step::Waiting { since } if now >= *since + patience);
            if wanted && !sheds && !free {
                return;
            }
            starts.waiting.pop_front();
            if wanted && !sheds {
                starts.under_way += 1;
                starts.most = starts.most.max(starts.under_way);
                job.begun = now;
                *step = Step::Finding { tries: 0 };
            } else {
                let shed = (sheds && wanted).then(|| job.clone());
                lane.doing = None;
                if let Some(job) = shed {
                    self.fail(workspace, &job, ("shed", true));
                }
            }
            self.walk(workspace);
        }
    }

    fn finish(&mut self, workspace: WorkspaceId) {
        if let Some(platform) = &mut self.platform
            && let Some(lane) = platform.lanes.get_mut(&workspace)
            && let Some((job, _)) = lane.doing.take()
            && !job.stop
        {
            platform.starts.under_way = platform.starts.under_way.saturating_sub(1);
        }
        self.begin_starts();
        self.walk(workspace);
    }

    fn enter(&mut self, workspace: WorkspaceId, step: Step) {
        let lane = self.platform.as_mut().and_then(|platform| platform.lanes.get_mut(&workspace));
        if let Some((_, at)) = lane.and_then(|lane| lane.doing.as_mut()) {
            *at = step;
        }
    }

    /// A lane's call came back.
    pub(super) fn lane_answered(&mut self, workspace: WorkspaceId, reply: Reply) {
        let Some(platform) = &self.platform else { return };
        let Some((job, step)) = platform.lanes.get(&workspace).and_then(|lane| lane.doing.clone()) else {
            return;
        };
        match (step, reply) {
            (Step::Finding { tries }, reply) => self.found(workspace, &job, tries, reply),
            (Step::Clearing, Ok(_)) => {
                self.enter(workspace, Step::Creating);
                let op = Op::Create { workspace, generation: job.generation };
                self.call(&op, MUTATION, Purpose::Lane { workspace });
            }
            (Step::Creating, Ok(Answer::Created(id))) => {
                self.enter(workspace, Step::Starting);
                self.call(&Op::Start { id }, MUTATION, Purpose::Lane { workspace });
            }
            (Step::Starting, Ok(Answer::Started(provisioned))) => {
                self.learn(&job, true);
                let command = Command::RecordProvisioned { generation: job.generation, provisioned };
                self.outcome(workspace, command, &job);
            }
            (Step::Stopping, Ok(_)) => {
                self.outcome(workspace, Command::RecordStopped { generation: job.generation }, &job);
            }
            (step, Err(error)) if error.code == "timeout" => {
                let operation = if step == Step::Stopping { "stop" } else { "provision" };
                if step != Step::Stopping {
                    self.learn(&job, false);
                }
                let (generation, detail) = (job.generation, error.detail);
                self.outcome(
                    workspace,
                    Command::RecordOutcomeUnknown { generation, operation, detail },
                    &job,
                );
            }
            (Step::Stopping, Err(error)) => {
                let (generation, message) = (job.generation, error.detail);
                self.outcome(workspace, Command::RecordStopFailed { generation, message }, &job);
            }
            (_, _) => {
                self.learn(&job, false);
                self.fail(workspace, &job, ("engine_unavailable", true));
                self.finish(workspace);
            }
        }
    }

    fn found(&mut self, workspace: WorkspaceId, job: &Job, tries: u32, reply: Reply) {
        match reply {
            Ok(Answer::Seen(Inspection::Running(provisioned))) => {
                self.learn(job, true);
                let command = Command::RecordProvisioned { generation: job.generation, provisioned };
                self.outcome(workspace, command, job);
            }
            Ok(Answer::Seen(Inspection::NotThere { .. })) => self.mint(workspace),
            _ if tries + 1 < FIND_TRIES => {
                self.enter(workspace, Step::Finding { tries: tries + 1 });
                self.mail_after(FIND_PAUSE, Mail::Walk { workspace });
            }
            _ if self.may_have_started(workspace) => {
                let (generation, detail) =
                    (job.generation, "the engine can't say whether it runs".to_owned());
                let unknown = Command::RecordOutcomeUnknown { generation, operation: "provision", detail };
                self.outcome(workspace, unknown, job);
            }
            _ => self.mint(workspace),
        }
    }

    fn may_have_started(&self, workspace: WorkspaceId) -> bool {
        let actor = self.platform.as_ref().and_then(|platform| platform.workspaces.get(&workspace));
        actor.and_then(|actor| actor.state.as_ref()).is_some_and(workspace::State::may_have_started)
    }

    /// Nothing is asked of the engine before the log has this start's token.
    fn mint(&mut self, workspace: WorkspaceId) {
        let lane = self.platform.as_ref().and_then(|platform| platform.lanes.get(&workspace));
        let Some((job, step)) = lane.and_then(|lane| lane.doing.clone()) else { return };
        if step != Step::Minting {
            self.enter(workspace, Step::Minting);
            let token = NewToken {
                token: TokenId(self.fresh_id()),
                sha256: [0; 32],
                prefix: "simulate".to_owned(),
                purpose: TokenPurpose::Provision,
                generation: Some(job.generation),
            };
            match self.handle(workspace, &Command::RecordProvisionToken(token), &job.origin) {
                Handled::Done(0) => {}
                Handled::Done(after) => return self.mail_after(after + 1, Mail::Walk { workspace }),
                Handled::Later(at) => {
                    self.enter(workspace, Step::Finding { tries: FIND_TRIES });
                    return self.mail_after(at - self.now + 1, Mail::Walk { workspace });
                }
                Handled::Refused(super::Refused::Busy) => {
                    self.enter(workspace, Step::Finding { tries: FIND_TRIES });
                    return self.mail_after(BUSY, Mail::Walk { workspace });
                }
                // It is not wanted any more, or nothing can be written.
                Handled::Rejected(_) | Handled::Refused(super::Refused::ReadOnly) => {
                    return self.finish(workspace);
                }
            }
        }
        self.enter(workspace, Step::Clearing);
        let op = Op::Clear { workspace, below: job.generation };
        self.call(&op, MUTATION, Purpose::Lane { workspace });
    }

    fn outcome(&mut self, workspace: WorkspaceId, command: Command, job: &Job) {
        self.carry(Mail::Workspace { workspace, command, origin: job.origin.clone() });
        self.finish(workspace);
    }

    fn fail(&mut self, workspace: WorkspaceId, job: &Job, (code, retryable): (&str, bool)) {
        let failure = ProvisionFailure {
            generation: job.generation,
            code: code.to_owned(),
            message: format!("not started: {code}"),
            retryable,
            command: None,
        };
        let command = Command::RecordProvisionFailed(failure);
        self.carry(Mail::Workspace { workspace, command, origin: job.origin.clone() });
    }

    /// What a start says about the engine: its observer hears of it, and the number of starts at once follows.
    fn learn(&mut self, job: &Job, well: bool) {
        let took = std::time::Duration::from_millis(self.now - job.begun);
        self.observe(Input::Called { failed: !well, took });
        self.adapt(well);
    }

    /// The number of starts at once follows how the engine bears what it is asked.
    pub(super) fn adapt(&mut self, well: bool) {
        let Some(platform) = &mut self.platform else { return };
        let (starts, policy) = (&mut platform.starts, &platform.policy);
        let from = starts.limit.get();
        starts.limit =
            if well { starts.limit.went_well(policy, starts.under_way) } else { starts.limit.failed(policy) };
        let to = starts.limit.get();
        starts.lowest = starts.lowest.min(to);
        if from != to {
            let reason = if well { "going_well" } else { "engine_trouble" }.to_owned();
            let changed = ProvisionLimitChanged { cell: CELL, from, to, reason };
            let origin = self.origin(Principal::System);
            self.mail_after(
                0,
                Mail::Fleet { command: fleet::Command::RecordProvisionLimit(changed), origin },
            );
        }
    }
}
