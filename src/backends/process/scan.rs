//! One pass over `/proc` for processes that this platform started, recognised by their environment.
//!
//! Used where the record is not enough: a start that a crash interrupted, and helpers that outlived their agent. The
//! environment is inherited, so a match alone says "descends from"; which one is the agent is decided by its arguments
//! and by leading its own process group.

use std::fs::File;
use std::io::Read as _;

use covalence_actors::effect::BackendError;
use covalence_events::{Generation, WorkspaceId};

use super::identity::{Identity, boot_id, is_gone, stat};
use super::record::Record;

/// Names the platform's installation in the environment of everything that it starts.
pub(super) const INSTANCE_VARIABLE: &str = "COVALENCE_INSTANCE";
/// Names the provisioning.
pub(super) const GENERATION_VARIABLE: &str = "COVALENCE_GENERATION";
/// More than most environments have; a larger one is read in several steps.
pub(super) const ENVIRONMENT_BYTES: usize = 32 * 1024;

/// One live process.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) identity: Identity,
    pub(super) parent: i32,
    pub(super) group: i32,
    /// The workspace and generation that its environment names, if it is ours.
    pub(super) ours: Option<(WorkspaceId, Generation)>,
}

impl Found {
    pub(super) fn leads_its_group(&self) -> bool {
        self.group == self.identity.pid
    }
}

/// All live processes of this platform, and besides them those in the process group `group`, whatever their environment
/// says by now. For every other process of the host only its environment is read: a start waits for this.
pub(super) fn scan(instance: &str, group: Option<i32>) -> Result<Vec<Found>, BackendError> {
    let boot_id = boot_id()?;
    let entries = std::fs::read_dir("/proc").map_err(|error| unreadable(&error))?;
    let mut found = Vec::new();
    let mut buffer = Vec::with_capacity(ENVIRONMENT_BYTES);
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(&error))?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let ours = owner(pid, instance, &mut buffer);
        if ours.is_none() && group.is_none() {
            continue;
        }
        let Some(stat) = stat(pid)?.filter(|stat| !stat.is_dead()) else { continue };
        if ours.is_some() || group == Some(stat.group) {
            found.push(Found {
                ours,
                identity: Identity { pid, start_ticks: stat.start_ticks, boot_id: boot_id.clone() },
                parent: stat.parent,
                group: stat.group,
            });
        }
    }
    Ok(found)
}

/// The workspace and generation that the environment of a process names, if this platform started it.
pub(super) fn owner(pid: i32, instance: &str, buffer: &mut Vec<u8>) -> Option<(WorkspaceId, Generation)> {
    buffer.clear();
    // Into room that is there already: the kernel states no size, and a vector that has to guess reads in small pieces.
    let read = File::open(format!("/proc/{pid}/environ")).and_then(|mut file| file.read_to_end(buffer));
    match read {
        Ok(_) => ours(buffer, instance),
        // Another user's process has an unreadable environment, and is none of ours: ours run as we do.
        Err(error) if is_gone(&error) || error.kind() == std::io::ErrorKind::PermissionDenied => None,
        Err(error) => {
            tracing::debug!(pid, %error, "environment of a process not readable");
            None
        }
    }
}

/// The process that an interrupted start left behind.
pub(super) fn of_intent(found: &[Found], record: &Record) -> Option<Identity> {
    let named = (record.workspace, record.generation);
    found
        .iter()
        .filter(|process| process.ours == Some(named) && process.leads_its_group())
        .filter(|process| runs(process.identity.pid, &record.argv))
        .min_by_key(|process| process.identity.start_ticks)
        .map(|process| process.identity.clone())
}

/// Whether the process runs these arguments. A script's interpreter stands before them.
fn runs(pid: i32, argv: &[String]) -> bool {
    let Ok(bytes) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let mut actual: Vec<&[u8]> = bytes.split(|byte| *byte == 0).collect();
    actual.pop();
    let wanted: Vec<&[u8]> = argv.iter().map(String::as_bytes).collect();
    actual.ends_with(&wanted)
}

fn ours(environment: &[u8], instance: &str) -> Option<(WorkspaceId, Generation)> {
    let value = |name: &str| {
        environment.split(|byte| *byte == 0).find_map(|pair| {
            let rest = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            std::str::from_utf8(rest).ok()
        })
    };
    if value(INSTANCE_VARIABLE)? != instance {
        return None;
    }
    Some((value("WORKSPACE_ID")?.parse().ok()?, Generation(value(GENERATION_VARIABLE)?.parse().ok()?)))
}

fn unreadable(error: &std::io::Error) -> BackendError {
    BackendError { code: "proc_unreadable", detail: format!("the list of processes can't be read: {error}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_environment_of_this_installation_counts() {
        let id = WorkspaceId::generate();
        let text = format!("A=1\0COVALENCE_INSTANCE=one\0WORKSPACE_ID={id}\0COVALENCE_GENERATION=4\0");
        assert_eq!(ours(text.as_bytes(), "one"), Some((id, Generation(4))));
        assert_eq!(ours(text.as_bytes(), "on"), None);
        assert_eq!(ours(b"COVALENCE_INSTANCE=one\0", "one"), None);
    }
}
