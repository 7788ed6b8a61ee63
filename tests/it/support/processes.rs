//! Processes as the kernel sees them: the only witness that does not ask the platform.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::eventually::eventually_blocking;

/// The agent's name as the kernel has it: at most fifteen characters, which it just fits.
const AGENT_NAME: &str = "covalence-agent";

/// A running agent process of one platform.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Agent {
    /// Its process id.
    pub(crate) pid: i32,
    /// When it started, in clock ticks since the host's boot: tells a re-used id from the same process.
    pub(crate) started: u64,
    /// The workspace that its environment names.
    pub(crate) workspace: String,
}

/// Every agent process that belongs to the platform with this data directory: it works below it, or its environment
/// points into it. Zombies are dead.
pub(crate) fn agents(data_dir: &Path) -> Vec<Agent> {
    let mut found: Vec<Agent> = fs::read_dir("/proc")
        .expect("/proc is there on Linux")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| agent(pid, data_dir))
        .collect();
    found.sort();
    found
}

/// The agents by workspace; a workspace with two processes is a failure of its own.
pub(crate) fn agents_by_workspace(data_dir: &Path) -> BTreeMap<String, Agent> {
    let mut found = BTreeMap::new();
    for agent in agents(data_dir) {
        if let Some(twin) = found.insert(agent.workspace.clone(), agent) {
            panic!("workspace {} runs twice; one of its processes is {}", twin.workspace, twin.pid);
        }
    }
    found
}

/// Sends a signal; a process that is gone already is fine.
pub(crate) fn signal(pid: i32, signal: Signal) {
    let _gone = Pid::from_raw(pid).map(|pid| kill_process(pid, signal));
}

/// Ends every agent of the platform with this data directory, for good.
pub(crate) fn end_agents(data_dir: &Path) {
    eventually_blocking("every agent process is gone", Duration::from_secs(10), || {
        let left = agents(data_dir);
        for agent in &left {
            signal(agent.pid, Signal::KILL);
        }
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

/// Agents that hold still, and send no heartbeats, for as long as this value lives.
#[derive(Debug)]
pub(crate) struct Still(Vec<i32>);

impl Still {
    /// Stops those of the platform with this data directory that a story has not stopped itself.
    pub(crate) fn hold(data_dir: &Path) -> Self {
        let pids: Vec<i32> =
            agents(data_dir).into_iter().map(|agent| agent.pid).filter(|pid| !is_stopped(*pid)).collect();
        for pid in &pids {
            signal(*pid, Signal::STOP);
        }
        Self(pids)
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        for pid in &self.0 {
            signal(*pid, Signal::CONT);
        }
    }
}

fn is_stopped(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && line.contains('T'))
}

fn agent(pid: i32, data_dir: &Path) -> Option<Agent> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    // What an agent itself starts inherits its environment.
    if fs::read_to_string(proc.join("comm")).ok()?.trim_end() != AGENT_NAME {
        return None;
    }
    let environment = fs::read(proc.join("environ")).ok()?;
    let workspace =
        environment.split(|byte| *byte == 0).find_map(|pair| pair.strip_prefix(b"WORKSPACE_ID="))?;
    let needle = data_dir.as_os_str().as_bytes();
    let mentions = environment.windows(needle.len()).any(|window| window == needle);
    let works_below = fs::read_link(proc.join("cwd")).is_ok_and(|cwd| cwd.starts_with(data_dir));
    if !mentions && !works_below {
        return None;
    }
    let stat = fs::read_to_string(proc.join("stat")).ok()?;
    // The command's name may hold spaces and brackets; the fields are counted from behind its last bracket.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let (state, started) = (*fields.first()?, fields.get(19)?.parse().ok()?);
    let workspace = String::from_utf8_lossy(workspace).into_owned();
    (state != "Z" && state != "X").then_some(Agent { pid, started, workspace })
}
