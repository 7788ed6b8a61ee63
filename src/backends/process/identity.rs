//! Which process exactly: its number, the tick it started at, and the boot that the tick counts from.
//!
//! A process number is used again sooner or later; the three together never are. Whether such a process is there is
//! asked of the kernel, and only the kernel's own answer counts as *gone*: an unreadable `/proc` is *unknown*.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::sync::OnceLock;

use covalence_actors::effect::BackendError;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// Names one process of this or an earlier boot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Identity {
    /// Its number.
    pub(super) pid: i32,
    /// Clock ticks from the boot to its start.
    pub(super) start_ticks: u64,
    /// The kernel's name for that boot.
    pub(super) boot_id: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.pid, self.start_ticks, self.boot_id)
    }
}

impl FromStr for Identity {
    type Err = BackendError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, ':');
        let parsed = (|| {
            let pid = parts.next()?.parse().ok().filter(|pid| *pid > 0)?;
            let start_ticks = parts.next()?.parse().ok()?;
            let boot_id = parts.next().filter(|id| !id.is_empty())?.to_owned();
            Some(Self { pid, start_ticks, boot_id })
        })();
        parsed.ok_or_else(|| BackendError {
            code: "garbage",
            detail: format!("`{text}` is not the name of a process instance"),
        })
    }
}

/// What the kernel says of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It runs.
    Alive,
    /// It has ended; why that is certain.
    Gone(&'static str),
}

/// The fields of `/proc/<pid>/stat` that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) state: char,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) start_ticks: u64,
}

impl Stat {
    /// Ended, and only kept until its parent takes note.
    pub(super) fn is_dead(self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

impl Identity {
    /// The process with this number, as it is at this moment. `None` if there is none.
    pub(super) fn of(pid: i32) -> Result<Option<Self>, BackendError> {
        let boot_id = boot_id()?;
        Ok(stat(pid)?.map(|stat| Self { pid, start_ticks: stat.start_ticks, boot_id }))
    }

    /// Whether it is there. An error proves nothing.
    pub(super) fn presence(&self) -> Result<Presence, BackendError> {
        if boot_id()? != self.boot_id {
            return Ok(Presence::Gone("the host was started again since"));
        }
        match stat(self.pid)? {
            None => Ok(Presence::Gone("the kernel knows no such process")),
            Some(stat) if stat.start_ticks != self.start_ticks => {
                Ok(Presence::Gone("its process number belongs to a younger process"))
            }
            Some(stat) if stat.is_dead() => Ok(Presence::Gone("the process has ended")),
            Some(_) => Ok(Presence::Alive),
        }
    }

    /// A handle on exactly this process, which the kernel keeps valid whatever happens to the number.
    /// `None` if it is gone; a dead child that nobody has taken note of still has one.
    pub(super) fn open(&self) -> Result<Option<OwnedFd>, BackendError> {
        if boot_id()? != self.boot_id {
            return Ok(None);
        }
        let fd = match pidfd_open(kernel_pid(self.pid)?, PidfdFlags::NONBLOCK) {
            Ok(fd) => fd,
            Err(Errno::SRCH) => return Ok(None),
            Err(errno) => return Err(error("pidfd_open", &errno.into())),
        };
        // The handle is on whoever has the number at that moment, so the start is compared afterwards.
        let same = stat(self.pid)?.is_some_and(|stat| stat.start_ticks == self.start_ticks);
        Ok(same.then_some(fd))
    }

    /// Sends a signal to exactly this process; gone is fine.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), BackendError> {
        let Some(fd) = self.open()? else { return Ok(()) };
        match pidfd_send_signal(&fd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(error("pidfd_send_signal", &errno.into())),
        }
    }

    /// Sends a signal to the process group that it leads, if it still runs.
    pub(super) fn signal_group(&self, signal: Signal) -> Result<(), BackendError> {
        // Held across the call: while the leader is not reaped its number can't name another group.
        let Some(_held) = self.open()? else { return Ok(()) };
        match kill_process_group(kernel_pid(self.pid)?, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(error("kill", &errno.into())),
        }
    }
}

/// The kernel's name for the boot that we live in.
pub(super) fn boot_id() -> Result<String, BackendError> {
    static KNOWN: OnceLock<String> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(known.clone());
    }
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_err(|source| error("boot_id", &source))?;
    Ok(KNOWN.get_or_init(|| text.trim().to_owned()).clone())
}

/// The process with this number, whoever it is. `None` only on the kernel's word.
pub(super) fn stat(pid: i32) -> Result<Option<Stat>, BackendError> {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => parse_stat(&text).map(Some).ok_or_else(|| BackendError {
            code: "garbage",
            detail: format!("the status of process {pid} can't be read"),
        }),
        Err(source) if is_gone(&source) => match pidfd_open(kernel_pid(pid)?, PidfdFlags::empty()) {
            Err(Errno::SRCH) => Ok(None),
            // A hidden or unmounted `/proc` looks like an empty one.
            Ok(_) => Err(BackendError {
                code: "proc_unreadable",
                detail: format!("process {pid} exists, but /proc does not show it"),
            }),
            Err(errno) => Err(error("pidfd_open", &errno.into())),
        },
        Err(source) => Err(error("stat", &source)),
    }
}

/// Whether reading `/proc` failed because the process ended.
pub(super) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name in parentheses may hold anything, so the fields are counted from its end.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        // Field 22 of the line, and the state is the third.
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

fn kernel_pid(pid: i32) -> Result<Pid, BackendError> {
    Pid::from_raw(pid).ok_or_else(|| BackendError { code: "garbage", detail: format!("{pid} is no process") })
}

fn error(call: &str, source: &io::Error) -> BackendError {
    BackendError { code: "proc_unreadable", detail: format!("the kernel did not answer `{call}`: {source}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let tail = "S 7 8 9 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 12345 0 0";
        let stat = parse_stat(&format!("42 (a) b (c) {tail}")).unwrap();
        assert_eq!(stat, Stat { state: 'S', parent: 7, group: 8, start_ticks: 12345 });
    }

    #[test]
    fn a_number_that_a_younger_process_has_is_gone() {
        let me = Identity::of(i32::try_from(std::process::id()).unwrap()).unwrap().unwrap();
        assert_eq!(me.presence().unwrap(), Presence::Alive);
        let older = Identity { start_ticks: me.start_ticks - 1, ..me.clone() };
        assert!(matches!(older.presence().unwrap(), Presence::Gone(_)));
        assert!(older.open().unwrap().is_none());
        assert_eq!(me.to_string().parse::<Identity>().unwrap(), me);
        let other_boot = Identity { boot_id: "another".to_owned(), ..me };
        assert!(matches!(other_boot.presence().unwrap(), Presence::Gone(_)));
    }
}
