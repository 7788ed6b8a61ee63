//! Ends processes: gracefully, then by force, and with them whatever they left running.

use std::time::Duration;

use covalence_actors::effect::BackendError;
use covalence_events::{Generation, WorkspaceId};
use rustix::process::Signal;

use super::exits::gone_within;
use super::identity::{Identity, Presence};
use super::scan::{Found, scan};

/// A killed process is gone at once, unless the kernel is stuck in its I/O.
const KILL_WAIT: Duration = Duration::from_secs(5);

/// What is to end: a workspace up to a generation.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) instance: String,
    pub(super) workspace: WorkspaceId,
    pub(super) up_to: Generation,
    /// Its agent, if it is known.
    pub(super) agent: Option<Identity>,
}

impl Target {
    /// Everything alive that belongs to it: the agent's process group, and whatever has its environment. Blocking.
    pub(super) fn members(&self) -> Result<Vec<Identity>, BackendError> {
        let group = self.agent.as_ref().map(|agent| agent.pid).filter(|_| self.agent_lives());
        let found = scan(&self.instance, group)?;
        Ok(found.into_iter().filter(|process| self.holds(process)).map(|process| process.identity).collect())
    }

    async fn members_apart(&self) -> Result<Vec<Identity>, BackendError> {
        let target = self.clone();
        super::blocking(move || target.members()).await?
    }

    fn holds(&self, process: &Found) -> bool {
        let by_name = process
            .ours
            .is_some_and(|(workspace, generation)| workspace == self.workspace && generation <= self.up_to);
        let by_group = self.agent.as_ref().is_some_and(|agent| process.group == agent.pid);
        by_name || by_group && self.agent_lives()
    }

    /// Only while the agent lives is its number surely the name of its own group.
    fn agent_lives(&self) -> bool {
        self.agent.as_ref().is_some_and(|agent| matches!(agent.presence(), Ok(Presence::Alive)))
    }
}

/// Ends all of it. Nothing there is fine.
pub(super) async fn end(target: &Target, grace: Duration) -> Result<(), BackendError> {
    let members = target.members_apart().await?;
    // Nobody is left who could start another one.
    if members.is_empty() {
        return Ok(());
    }
    let living_agent = match &target.agent {
        Some(agent) if agent.presence()? == Presence::Alive => Some(agent.clone()),
        _ => None,
    };
    // An agent ends its own helpers. Without one they are asked directly.
    let asked = if let Some(agent) = &living_agent {
        agent.signal_group(Signal::TERM)?;
        vec![agent.clone()]
    } else {
        for member in &members {
            member.signal(Signal::TERM)?;
        }
        members.clone()
    };
    if !asked.is_empty() && !gone_within(&asked, grace).await? {
        if let Some(agent) = &living_agent {
            agent.signal_group(Signal::KILL)?;
        }
        tracing::warn!(workspace = %target.workspace, "not ended within its grace, killed");
    }
    // Looked at again, for helpers that were started meanwhile.
    let mut left = target.members_apart().await?;
    left.extend(members);
    for member in &left {
        member.signal(Signal::KILL)?;
    }
    if gone_within(&left, KILL_WAIT).await? {
        Ok(())
    } else {
        Err(BackendError { code: "timeout", detail: "a killed process has not ended yet".to_owned() })
    }
}
