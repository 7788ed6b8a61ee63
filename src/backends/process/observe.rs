//! Looks at processes: one generation, one instance, or all of them. Blocking.

use std::collections::HashSet;

use covalence_actors::effect::{BackendError, Inspection, Listed, ListedState};
use covalence_events::workspace::InstanceRef;
use covalence_events::{Generation, WorkspaceId};

use super::ProcessBackend;
use super::identity::{Identity, Presence};
use super::record::{Record, file_error};
use super::scan::{Found, of_intent, scan};

/// A workspace that has a record, and the record, if it can be read.
type Recorded = (WorkspaceId, Result<Record, BackendError>);

impl ProcessBackend {
    /// The records of all workspaces that have one.
    pub(super) fn records(&self) -> Result<Vec<Recorded>, BackendError> {
        let entries =
            std::fs::read_dir(&self.root).map_err(|error| file_error("list the workspaces", &error))?;
        let mut records = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| file_error("list the workspaces", &error))?.file_name();
            let Some(workspace) = name.to_str().and_then(|name| name.parse::<WorkspaceId>().ok()) else {
                continue;
            };
            match Record::read(&self.layout(workspace)) {
                Ok(Some(record)) => records.push((workspace, Ok(record))),
                Ok(None) => {}
                Err(error) => records.push((workspace, Err(error))),
            }
        }
        Ok(records)
    }

    pub(super) fn find_generation(
        &self,
        workspace: WorkspaceId,
        generation: Generation,
    ) -> Result<Inspection, BackendError> {
        let not_found =
            |detail: String| Inspection::NotThere { code: "not_found", detail, exit_status: None };
        let Some(record) = Record::read(&self.layout(workspace))? else {
            return Ok(not_found("no process was started for this workspace".to_owned()));
        };
        if record.generation != generation {
            return Ok(not_found(format!("the workspace's process is of generation {}", record.generation)));
        }
        let known = match &record.process {
            Some(identity) => Some(identity.clone()),
            None => self.complete(&record, &scan(&self.settings.platform_instance, None)?),
        };
        match known {
            Some(identity) => self.look(&record, &identity),
            None => Ok(not_found("its start was interrupted before there was a process".to_owned())),
        }
    }

    pub(super) fn inspect_instance(
        &self,
        workspace: WorkspaceId,
        instance: &InstanceRef,
    ) -> Result<Inspection, BackendError> {
        let identity: Identity = instance.id.parse()?;
        match Record::read(&self.layout(workspace)) {
            Ok(Some(record)) if record.process.as_ref() == Some(&identity) => self.look(&record, &identity),
            // Not, or no longer, on record: the kernel's word still counts, but only for its end.
            Ok(_) | Err(_) => match identity.presence()? {
                Presence::Gone(why) => Ok(Inspection::NotThere {
                    code: "exited",
                    detail: why.to_owned(),
                    exit_status: self.exits.exit_of(&identity).and_then(|exit| exit.status),
                }),
                Presence::Alive => Err(BackendError {
                    code: "garbage",
                    detail: "the process runs, but the workspace's record does not name it".to_owned(),
                }),
            },
        }
    }

    fn look(&self, record: &Record, identity: &Identity) -> Result<Inspection, BackendError> {
        match identity.presence()? {
            Presence::Alive => {
                self.adopt(record, identity);
                Ok(Inspection::Running(record.provisioned(identity)))
            }
            Presence::Gone(why) => {
                // It leaves the watch once it is on disk, which may be after the record was read.
                let on_disk = || Record::read(&self.layout(record.workspace)).ok()??.exit;
                let exit = record.exit.clone().or_else(|| self.exits.exit_of(identity)).or_else(on_disk);
                Ok(Inspection::NotThere {
                    code: "exited",
                    detail: exit.as_ref().map_or_else(|| why.to_owned(), super::record::Exit::detail),
                    exit_status: exit.and_then(|exit| exit.status),
                })
            }
        }
    }

    /// Finds the process of an interrupted start and completes its record.
    fn complete(&self, record: &Record, found: &[Found]) -> Option<Identity> {
        let identity = of_intent(found, record)?;
        let completed = Record { process: Some(identity.clone()), ..record.clone() };
        // The lookup works without it too, so a failed write costs only time.
        if let Err(error) = completed.write(&self.layout(record.workspace)) {
            tracing::warn!(workspace = %record.workspace, %error, "record not completed");
        }
        Some(identity)
    }

    pub(super) fn list_all(&self) -> Result<Vec<Listed>, BackendError> {
        let found = scan(&self.settings.platform_instance, None)?;
        let mut listed = Vec::new();
        let mut recorded = HashSet::new();
        for (workspace, record) in self.records()? {
            match record {
                Ok(record) => {
                    recorded.insert((workspace, record.generation));
                    let known = record.process.clone().or_else(|| self.complete(&record, &found));
                    listed.extend(known.map(|identity| self.listed(&record, &identity)));
                }
                Err(error) => listed.push(unreadable(workspace, &error)),
            }
        }
        listed.extend(strangers(&found, &recorded));
        Ok(listed)
    }

    fn listed(&self, record: &Record, identity: &Identity) -> Listed {
        let state = match self.look(record, identity) {
            Ok(Inspection::Running(_)) => ListedState::Running,
            Ok(Inspection::NotThere { exit_status, .. }) => ListedState::Stopped { exit_status },
            Ok(Inspection::Unknown(_)) | Err(_) => ListedState::Between,
        };
        Listed {
            workspace: Some(record.workspace),
            generation: Some(record.generation),
            instance: InstanceRef { id: identity.to_string() },
            name: format!("process {}", identity.pid),
            url: (state == ListedState::Running).then(|| record.url()),
            state,
        }
    }

    /// Watches all that runs from before.
    pub(super) fn adopt_all(&self) -> Result<(), BackendError> {
        self.list_all().map(drop)
    }
}

/// Something is there and says nothing: never to be taken for an absence.
fn unreadable(workspace: WorkspaceId, error: &BackendError) -> Listed {
    tracing::warn!(%workspace, %error, "instance record not readable");
    Listed {
        workspace: Some(workspace),
        generation: None,
        instance: InstanceRef { id: "unreadable".to_owned() },
        name: "unreadable record".to_owned(),
        state: ListedState::Between,
        url: None,
    }
}

/// Processes with our mark that no record explains. Helpers of a recorded agent are not among them.
fn strangers(found: &[Found], recorded: &HashSet<(WorkspaceId, Generation)>) -> Vec<Listed> {
    let ours: HashSet<i32> = found.iter().filter(|f| f.ours.is_some()).map(|f| f.identity.pid).collect();
    let unexplained = |process: &&Found| {
        process.ours.is_some_and(|named| !recorded.contains(&named))
            && process.leads_its_group()
            && !ours.contains(&process.parent)
    };
    found
        .iter()
        .filter(unexplained)
        .map(|process| Listed {
            workspace: process.ours.map(|(workspace, _)| workspace),
            generation: process.ours.map(|(_, generation)| generation),
            instance: InstanceRef { id: process.identity.to_string() },
            name: format!("process {}", process.identity.pid),
            state: ListedState::Running,
            url: None,
        })
        .collect()
}
