//! Which secrets there are, by name. Values are sealed, here as everywhere.

use std::collections::{BTreeMap, HashMap};

use covalence_events::{Fact, Recorded, Timestamp, WorkspaceId, fleet, workspace};
use serde::{Deserialize, Serialize};

use crate::projection::{ApplyError, Projection};

/// One secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// Its value, as the vault sealed it.
    pub value: String,
    /// When there was first one of this name, since there last was none.
    pub created: Timestamp,
    /// When it got its value.
    pub updated: Timestamp,
}

type Named = BTreeMap<String, Secret>;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    global: Named,
    #[serde(serialize_with = "crate::state::sorted")]
    own: HashMap<WorkspaceId, Named>,
}

impl Secrets {
    /// Those that every workspace gets, by name.
    pub const fn global(&self) -> &Named {
        &self.global
    }

    /// A workspace's own, by name.
    pub fn own(&self, workspace: WorkspaceId) -> &Named {
        static NONE: Named = Named::new();
        self.own.get(&workspace).unwrap_or(&NONE)
    }
}

fn set(secrets: &mut Named, name: &str, value: &str, at: Timestamp) {
    let created = secrets.get(name).map_or(at, |known| known.created);
    secrets.insert(name.to_owned(), Secret { value: value.to_owned(), created, updated: at });
}

impl Projection for Secrets {
    const NAME: &'static str = "secrets";
    const VERSION: u32 = 1;

    fn apply(&mut self, recorded: &Recorded) -> Result<(), ApplyError> {
        let at = recorded.meta.at;
        match (&recorded.fact, recorded.subject()) {
            (Fact::Fleet(fleet::Event::SecretSet(e)), _) => set(&mut self.global, &e.name, &e.value, at),
            (Fact::Fleet(fleet::Event::SecretRemoved(e)), _) => _ = self.global.remove(&e.name),
            (Fact::Workspace(workspace::Event::SecretSet(e)), Some(id)) => {
                set(self.own.entry(id).or_default(), &e.name, &e.value, at);
            }
            (Fact::Workspace(workspace::Event::SecretRemoved(e)), Some(id)) => {
                _ = self.own.get_mut(&id).and_then(|own| own.remove(&e.name));
            }
            (Fact::Workspace(workspace::Event::Removed(_) | workspace::Event::Erased(_)), Some(id)) => {
                _ = self.own.remove(&id);
            }
            _ => {}
        }
        Ok(())
    }
}
