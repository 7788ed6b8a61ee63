//! Secrets on their way to workspaces: opened for a start, and told of when they change.

use std::collections::BTreeMap;
use std::sync::Arc;

use covalence_events::EventId;
use tracing::error;

use super::Runtime;
use crate::context::Origin;
use crate::effect::{ProvisionError, Secret};
use crate::fleet::state::GlobalSecret;
use crate::workspace::{Command, State};

impl Runtime {
    /// What the agent of a workspace finds in its environment: the fleet's secrets, and its own in their place.
    ///
    /// # Errors
    /// One of them does not open: better not started than started without what it needs.
    pub(super) fn secrets_of(&self, state: &State) -> Result<Vec<(String, Secret)>, ProvisionError> {
        let global = self.shared.sight.secrets();
        let global = global.iter().filter_map(|(name, secret)| Some((name, secret.value.as_ref()?)));
        let mut sealed: BTreeMap<&String, (&String, &str)> =
            global.map(|(name, value)| (name, (value, "global"))).collect();
        sealed.extend(state.secrets.iter().map(|(name, value)| (name, (value, "workspace"))));
        let opened = sealed.into_iter().map(|(name, (value, scope))| {
            let opened = self.shared.vault.open(name, value).map_err(|reason| {
                error!(workspace = %state.id, secret = %name, scope, %reason, "a secret does not open");
                ProvisionError {
                    code: "secret_unreadable",
                    message: format!("failed to decrypt {scope} secret"),
                    retryable: false,
                    command: None,
                }
            })?;
            Ok((name.clone(), Secret::new(opened.to_string())))
        });
        opened.collect()
    }

    /// Tells every workspace which secrets of the fleet have changed, and when. Who has them changes nothing.
    pub(super) fn spread_secrets(&self, because: EventId, fresh: bool, origin: Origin) {
        let (secrets, now) = (self.shared.sight.secrets(), self.shared.clock.now().at);
        // Whoever was asked for between the fact and this moment may have been given what was known before it.
        let changed = |secret: &GlobalSecret| {
            if fresh && secret.because == because { now.max(secret.changed) } else { secret.changed }
        };
        let changes: BTreeMap<_, _> =
            secrets.iter().map(|(name, secret)| (name.clone(), changed(secret))).collect();
        let (runtime, changes) = (self.clone(), Arc::new(changes));
        self.shared.spawn(async move {
            for (workspace, _) in runtime.shared.registry.all() {
                let command = Command::RecordGlobalSecrets(Arc::clone(&changes));
                // One that is gone needs none.
                let _ = runtime.insist(workspace, command, &origin).await;
            }
        });
    }
}
