//! What a program costs: processor time, which neighbours on the same machine change far less than they change throughput.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// Processor time that a process has used so far, in user and kernel together.
pub(crate) fn used(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name stands in parentheses and may hold anything; user and system time are the 12th and 13th field after it.
    let (_, fields) = stat.rsplit_once(')').context("a stat without a name")?;
    let times = fields.split_whitespace().skip(11).take(2).map(|ticks| Ok(ticks.parse::<u64>()?));
    let ticks: u64 = times.sum::<Result<u64>>()?;
    #[expect(clippy::cast_precision_loss, reason = "ticks of minutes, at a hundred a second")]
    let seconds = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    Ok(Duration::from_secs_f64(seconds))
}

/// The processes that a process has started and that still run.
pub(crate) fn children(pid: u32) -> Result<Vec<u32>> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    Ok(list.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
}
