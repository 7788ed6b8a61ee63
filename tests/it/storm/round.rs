//! One round of the storm, the same for every policy: calls fan out, faults begin, one container is killed, the engine
//! freezes, another is killed, the engine recovers. What happened is read off the engine, the kernel and the callers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rustix::process::Signal;

use super::engine::{Container, Engine};
use super::weather::weather;
use crate::support::fault_proxy::FaultProxy;
use crate::support::processes;

/// Workspaces, each of which gets one call.
pub(super) const MEMBERS: usize = 15;
/// Workspaces that are provisioned while the faults last.
const NEWCOMERS: usize = 3;
/// Faults last at least this long before the engine freezes: four of the platform's list ticks.
const FAULTS_MIN: Duration = Duration::from_secs(20);
/// Calls go on for up to this long after the engine's recovery.
const CALLS_BEYOND: Duration = Duration::from_secs(5);
/// After the recovery everybody is watched for this long, whether all is well already or not: what was asked for during
/// the freeze is done only then.
const AFTERMATH: Duration = Duration::from_secs(15);
/// A killed container is back within this while faults last.
pub(super) const HEALED_UNDER_FAULTS: Duration = Duration::from_secs(90);
/// And within this after the engine was silent altogether.
pub(super) const HEALED_AFTER_SILENCE: Duration = Duration::from_secs(30);
/// The engine refuses connections for this long, once a round.
const REFUSED_FOR: Duration = Duration::from_secs(2);
/// Between two looks whether a killed container is back.
const LOOK: Duration = Duration::from_millis(100);
/// A call that takes so much longer than the longest work is not coming back.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a call ended, as its caller saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With what the agent said.
    Answered,
    /// With a complete answer that says why not.
    Refused(String),
    /// Without a complete answer: the connection ended first.
    CutOff(String),
    /// Not at all.
    Endless,
}

/// How a container is killed while the engine answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Weapon {
    /// `docker kill`.
    Engine,
    /// SIGKILL to its first process, on the host.
    Kernel,
}

/// Fifteen workspaces under some policy.
pub(super) trait Fleet {
    /// Names of the workspaces, as the label of their containers has them.
    fn members(&self) -> &[String];
    /// How it can be killed for good: an engine's own policy takes `docker kill` for a wish.
    fn weapon(&self) -> Weapon;
    /// Calls one agent with work for so many seconds.
    async fn call(&self, member: &str, seconds: f64) -> Ended;
    /// Something to tell a recovery after this moment from an earlier one.
    async fn mark(&self) -> u64;
    /// Whether a workspace that was killed after the mark is back.
    async fn is_back(&self, member: &str, mark: u64) -> bool;
    /// Asks for one more workspace.
    async fn provision(&self, name: &str);
    /// How many of those are there.
    async fn newcomers_up(&self) -> usize;
}

fn longest_work(freeze: Duration) -> Duration {
    FAULTS_MIN + freeze + CALLS_BEYOND
}

/// What a seed decides.
struct Plan {
    /// Seconds of work of each member's call.
    work: Vec<f64>,
    /// Who is killed under faults, and who under the frozen engine.
    victims: [usize; 2],
    /// After the faults began.
    kill_at: Duration,
    /// After the faults began, and before the freeze.
    refuse_at: Duration,
    /// After the freeze began.
    second_kill_at: Duration,
}

impl Plan {
    fn new(seed: u64, freeze: Duration) -> Self {
        let mut chance = StdRng::seed_from_u64(seed);
        let longest = longest_work(freeze).as_secs_f64();
        let mut members: Vec<usize> = (0..MEMBERS).collect();
        members.shuffle(&mut chance);
        let faults = FAULTS_MIN.as_secs_f64();
        Self {
            work: (0..MEMBERS).map(|_| (chance.random_range(1.0..longest) * 10.0).round() / 10.0).collect(),
            victims: [members[0], members[1]],
            kill_at: Duration::from_secs_f64(chance.random_range(2.0..faults / 2.0)),
            refuse_at: Duration::from_secs_f64(chance.random_range(0.0..faults - 2.0)),
            second_kill_at: freeze.mul_f64(chance.random_range(0.1..0.9)),
        }
    }
}

/// What a round came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) policy: &'static str,
    pub(super) seed: u64,
    /// Containers that were ended or replaced though nobody had killed them, as often as it happened.
    pub(super) wrong_restarts: usize,
    /// From the kill to the first sign of life; none: not within the limit.
    pub(super) healed_under_faults: Option<Duration>,
    /// From the engine's recovery.
    pub(super) healed_after_silence: Option<Duration>,
    /// By member.
    pub(super) calls: BTreeMap<String, Ended>,
    /// Members that the round killed.
    pub(super) killed: Vec<String>,
    pub(super) newcomers_up: usize,
    /// Requests to the engine that met a fault.
    pub(super) faults: usize,
}

impl Outcome {
    /// Calls that came to an end.
    pub(super) fn terminal(&self) -> usize {
        self.calls.values().filter(|ended| **ended != Ended::Endless).count()
    }

    /// Calls that were cut off though nobody had killed their agent.
    pub(super) fn cut_off(&self) -> usize {
        let cut = |ended: &Ended| matches!(ended, Ended::CutOff(_));
        self.calls.iter().filter(|(member, ended)| cut(ended) && !self.killed.contains(member)).count()
    }

    /// Calls that the agent answered.
    pub(super) fn answered(&self) -> usize {
        self.calls.values().filter(|ended| **ended == Ended::Answered).count()
    }

    /// One line of a report: tab-separated, in the order that `scripts/storm` reads.
    pub(super) fn line(&self) -> String {
        let seconds = |healed: Option<Duration>| {
            healed.map_or_else(|| "-".to_owned(), |time| format!("{:.1}", time.as_secs_f64()))
        };
        [
            self.policy.to_owned(),
            self.seed.to_string(),
            self.wrong_restarts.to_string(),
            self.cut_off().to_string(),
            self.terminal().to_string(),
            self.answered().to_string(),
            seconds(self.healed_under_faults),
            seconds(self.healed_after_silence),
            self.newcomers_up.to_string(),
            self.faults.to_string(),
        ]
        .join("\t")
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let healed = |healed: Option<Duration>| {
            healed.map_or_else(|| "never".to_owned(), |time| format!("after {:.1} s", time.as_secs_f64()))
        };
        write!(
            f,
            "storm {} of {}: {} wrong restarts; {} of {MEMBERS} calls ended, {} answered, {} cut off; back {} under \
             faults, {} of silence; {} of {NEWCOMERS} newcomers up; {} requests met a fault",
            self.seed,
            self.policy,
            self.wrong_restarts,
            self.terminal(),
            self.answered(),
            self.cut_off(),
            healed(self.healed_under_faults),
            healed(self.healed_after_silence),
            self.newcomers_up,
            self.faults,
        )
    }
}

/// The stage of one round.
pub(super) struct Round<'a> {
    pub(super) engine: &'a Engine,
    pub(super) proxy: &'a FaultProxy,
    pub(super) seed: u64,
    /// So many of a hundred requests meet a fault.
    pub(super) percent: u32,
    /// How long the engine is silent.
    pub(super) freeze: Duration,
}

impl Round<'_> {
    /// How long a caller waits.
    pub(super) fn patience(&self) -> Duration {
        longest_work(self.freeze) + PATIENCE
    }

    /// Lets the storm loose on a fleet that is up.
    pub(super) async fn run(&self, policy: &'static str, fleet: &impl Fleet) -> Outcome {
        let plan = Plan::new(self.seed, self.freeze);
        let members = fleet.members();
        let before = self.engine.running().await;
        let deaths = self.engine.watch_deaths();
        let (weather, faults) = weather(self.seed, self.percent);
        self.proxy.weather(Some(weather));
        self.proxy.cut_open();

        let fan_out = members.iter().zip(&plan.work).map(|(member, work)| fleet.call(member, *work));
        let newcomers = async {
            for number in 1..=NEWCOMERS {
                fleet.provision(&format!("newcomer-{number}")).await;
            }
        };
        let course = self.faults_then_silence(fleet, &plan);
        let (calls, course, ()) = tokio::join!(futures_util::future::join_all(fan_out), course, newcomers);

        let (ended, after) = (deaths.by_container(), self.engine.running().await);
        let victims = plan.victims.map(|index| members[index].clone());
        Outcome {
            policy,
            seed: self.seed,
            wrong_restarts: wrong_ends(&ended, &course.killed).max(replaced(&before, &after, &victims)),
            healed_under_faults: course.healed_under_faults,
            healed_after_silence: course.healed_after_silence,
            calls: members.iter().cloned().zip(calls).collect(),
            killed: victims.to_vec(),
            newcomers_up: fleet.newcomers_up().await,
            faults: faults.load(Ordering::Relaxed),
        }
    }

    /// Faults, a refusal and a kill among them; then silence and another kill; then the recovery.
    async fn faults_then_silence(&self, fleet: &impl Fleet, plan: &Plan) -> Course {
        let begun = Instant::now();
        let victims = plan.victims.map(|index| fleet.members()[index].as_str());
        let refusal = async {
            tokio::time::sleep(plan.refuse_at).await;
            self.proxy.refuse().await;
            tokio::time::sleep(REFUSED_FOR).await;
            self.proxy.listen();
        };
        let first = async {
            tokio::time::sleep(plan.kill_at).await;
            self.kill(fleet, victims[0], HEALED_UNDER_FAULTS).await
        };
        let ((mut killed, healed_under_faults), ()) = tokio::join!(first, refusal);
        tokio::time::sleep(FAULTS_MIN.saturating_sub(begun.elapsed())).await;

        // Asked now: a frozen engine says nothing, and a policy may have replaced it.
        let second = self.engine.running().await.remove(victims[1]);
        self.engine.freeze();
        tokio::time::sleep(plan.second_kill_at).await;
        let mark = fleet.mark().await;
        if let Some(container) = second {
            processes::signal(container.pid, Signal::KILL);
            killed.push(container.id);
        }
        tokio::time::sleep(self.freeze.saturating_sub(plan.second_kill_at)).await;
        self.proxy.weather(None);
        self.engine.thaw();
        let recovered = Instant::now();
        let healed_after_silence = back_within(fleet, (victims[1], mark), HEALED_UNDER_FAULTS).await;
        tokio::time::sleep(AFTERMATH.saturating_sub(recovered.elapsed())).await;
        Course { killed, healed_under_faults, healed_after_silence }
    }

    /// Kills what runs for a member, and waits until the member is back. Answers the container, if one ran.
    async fn kill(
        &self,
        fleet: &impl Fleet,
        member: &str,
        limit: Duration,
    ) -> (Vec<String>, Option<Duration>) {
        let mark = fleet.mark().await;
        let running = self.engine.running().await.remove(member);
        let killed = match running {
            Some(container) if fleet.weapon() == Weapon::Kernel => {
                processes::signal(container.pid, Signal::KILL);
                Some(container.id)
            }
            Some(container) => self.engine.kill(&container.id).await.then_some(container.id),
            None => None,
        };
        (killed.into_iter().collect(), back_within(fleet, (member, mark), limit).await)
    }
}

/// What the stage did, and how long it took to be repaired.
struct Course {
    /// Containers that the round killed.
    killed: Vec<String>,
    healed_under_faults: Option<Duration>,
    healed_after_silence: Option<Duration>,
}

async fn back_within(fleet: &impl Fleet, (member, mark): (&str, u64), limit: Duration) -> Option<Duration> {
    let begun = Instant::now();
    while begun.elapsed() < limit {
        if fleet.is_back(member, mark).await {
            return Some(begun.elapsed());
        }
        tokio::time::sleep(LOOK).await;
    }
    None
}

/// Ends of containers that no kill of ours explains.
fn wrong_ends(ended: &BTreeMap<String, usize>, killed: &[String]) -> usize {
    let kills = |id: &String| killed.iter().filter(|killed| *killed == id).count();
    ended.iter().map(|(id, times)| times.saturating_sub(kills(id))).sum()
}

/// Members whose container is not the one that it was, or was started again, though nobody killed it.
fn replaced(
    before: &BTreeMap<String, Container>,
    after: &BTreeMap<String, Container>,
    killed: &[String],
) -> usize {
    before
        .iter()
        .filter(|(member, container)| !killed.contains(member) && after.get(*member) != Some(container))
        .count()
}
