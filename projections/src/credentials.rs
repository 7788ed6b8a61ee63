//! Who may speak for whom: bearer tokens by the SHA-256 of their text, those of workspaces and those of the organisation.
//!
//! A removed workspace keeps the digests that it had, revoked, so that its agent can be told that it is gone instead of
//! being turned away as a stranger. No text of a token ever comes here.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use covalence_events::fleet::{self, OrgTokenIssued};
use covalence_events::workspace::{Event, TokenPurpose};
use covalence_events::{Fact, Generation, Position, Principal, Recorded, Timestamp, TokenId, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::projection::{ApplyError, Projection};

/// Revoked digests kept of one workspace. Each provisioning revokes one; what matters is that an agent which missed the
/// last few still gets the right answer.
pub const REVOKED_KEPT: usize = 16;

/// Characters of a token that people may see.
pub const PREFIX: usize = 8;

/// What is known of one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// Whom it speaks for.
    pub workspace: WorkspaceId,
    /// Its public name.
    pub token: TokenId,
    /// The first characters of its text, to be recognised by; blanks where it has fewer.
    pub prefix: [u8; PREFIX],
    /// The generation that it speaks for, if it was made for one.
    pub generation: Option<Generation>,
    /// What it was made for.
    pub purpose: TokenPurpose,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// When it became worthless, if it did.
    pub revoked_at: Option<Timestamp>,
    /// Whether its workspace is removed.
    pub workspace_removed: bool,
}

impl Credential {
    /// The first characters of its text.
    pub fn prefix(&self) -> &str {
        std::str::from_utf8(&self.prefix).unwrap_or_default().trim_end()
    }

    /// Whether it opens anything: not revoked, and its workspace not removed.
    pub const fn is_live(&self) -> bool {
        self.revoked_at.is_none() && !self.workspace_removed
    }
}

/// What is known of an organisation token that works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrgToken {
    /// Its public name.
    pub token: TokenId,
    /// The first characters of its text, to be recognised by.
    pub prefix: String,
    /// What the person who made it calls it.
    pub name: Option<String>,
    /// Who made it: `admin-token`, `org-token:` and the beginning of that one's text, or the principal's word.
    pub made_by: String,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// The fact that issued it: the order of the list.
    position: Position,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Credentials {
    #[serde(serialize_with = "crate::state::sorted")]
    by_digest: HashMap<[u8; 32], Credential>,
    #[serde(serialize_with = "crate::state::sorted")]
    by_workspace: HashMap<WorkspaceId, Vec<[u8; 32]>>,
    unrevoked: usize,
    #[serde(serialize_with = "crate::state::sorted")]
    of_org: HashMap<[u8; 32], OrgToken>,
}

impl Credentials {
    /// The credential with this digest, live or not.
    pub fn lookup(&self, sha256: &[u8; 32]) -> Option<Credential> {
        self.by_digest.get(sha256).copied()
    }

    /// Whether a workspace has a token that is not revoked.
    pub fn has_live(&self, workspace: WorkspaceId) -> bool {
        self.of(workspace).any(|credential| credential.is_live())
    }

    /// Whether a workspace's agent has a token of its own. Those that were made for people keep no agent from its first one.
    pub fn has_agents(&self, workspace: WorkspaceId) -> bool {
        self.of(workspace).any(|credential| credential.is_live() && credential.purpose.is_agents())
    }

    /// Whether any token anywhere is not revoked; a removed workspace's unrevoked token counts too (contract data 1.8).
    pub const fn any_live(&self) -> bool {
        self.unrevoked > 0
    }

    /// The tokens of a workspace, oldest first.
    pub fn of(&self, workspace: WorkspaceId) -> impl Iterator<Item = Credential> + '_ {
        let digests = self.by_workspace.get(&workspace).map_or(&[][..], Vec::as_slice);
        digests.iter().filter_map(|digest| self.by_digest.get(digest).copied())
    }

    /// The organisation token with this digest, if it works.
    pub fn lookup_org(&self, sha256: &[u8; 32]) -> Option<TokenId> {
        self.of_org.get(sha256).map(|known| known.token)
    }

    /// The organisation tokens that work, newest first.
    pub fn of_org(&self) -> Vec<&OrgToken> {
        let mut all: Vec<&OrgToken> = self.of_org.values().collect();
        all.sort_unstable_by_key(|known| std::cmp::Reverse(known.position));
        all
    }

    fn issue_org(&mut self, issued: &OrgTokenIssued, recorded: &Recorded) {
        let made_by = match &recorded.meta.principal {
            Principal::Admin => "admin-token".to_owned(),
            by @ Principal::OrgToken(maker) => {
                let maker = self.of_org.values().find(|known| known.token == *maker);
                maker.map_or_else(|| by.to_string(), |known| format!("org-token:{}", known.prefix))
            }
            by
            @ (Principal::System | Principal::Workspace(_) | Principal::Anonymous | Principal::Session) => {
                by.to_string()
            }
        };
        self.of_org.entry(issued.sha256).or_insert_with(|| OrgToken {
            token: issued.token,
            prefix: issued.prefix.clone(),
            name: issued.name.clone(),
            made_by,
            issued_at: recorded.meta.at,
            position: recorded.position,
        });
    }

    fn issue(&mut self, sha256: [u8; 32], credential: Credential) {
        // A digest seen again is the same token: its text is random, 32 bytes of it. What is known of it stands, so
        // that nothing can bring a revoked one back to life.
        if let Entry::Vacant(vacant) = self.by_digest.entry(sha256) {
            vacant.insert(credential);
            self.by_workspace.entry(credential.workspace).or_default().push(sha256);
            self.unrevoked += 1;
        }
    }

    fn revoke(&mut self, workspace: WorkspaceId, tokens: &[TokenId], at: Timestamp) {
        let Some(digests) = self.by_workspace.get_mut(&workspace) else { return };
        for digest in digests.iter() {
            if let Some(credential) = self.by_digest.get_mut(digest)
                && credential.revoked_at.is_none()
                && (tokens.is_empty() || tokens.contains(&credential.token))
            {
                credential.revoked_at = Some(at);
                self.unrevoked -= 1;
            }
        }
        let is_revoked = |digest: &[u8; 32]| {
            self.by_digest.get(digest).is_some_and(|credential| credential.revoked_at.is_some())
        };
        let mut surplus =
            digests.iter().filter(|digest| is_revoked(digest)).count().saturating_sub(REVOKED_KEPT);
        let mut dropped = Vec::new();
        digests.retain(|digest| {
            let drop = surplus > 0 && is_revoked(digest);
            if drop {
                surplus -= 1;
                dropped.push(*digest);
            }
            !drop
        });
        for digest in dropped {
            self.by_digest.remove(&digest);
        }
    }

    fn remove(&mut self, workspace: WorkspaceId) {
        let Some(digests) = self.by_workspace.get(&workspace) else { return };
        for digest in digests {
            if let Some(credential) = self.by_digest.get_mut(digest) {
                credential.workspace_removed = true;
            }
        }
    }
}

/// The first characters of a token's text in a fixed place; they are ASCII, as all of it.
fn prefix(text: &str) -> [u8; PREFIX] {
    let mut prefix = [b' '; PREFIX];
    for (to, from) in prefix.iter_mut().zip(text.bytes().filter(u8::is_ascii)) {
        *to = from;
    }
    prefix
}

impl Projection for Credentials {
    const NAME: &'static str = "credentials";
    const VERSION: u32 = 2;

    fn apply(&mut self, recorded: &Recorded) -> Result<(), ApplyError> {
        if let Fact::Fleet(event) = &recorded.fact {
            if let fleet::Event::OrgTokenIssued(e) = event {
                self.issue_org(e, recorded);
            } else if let fleet::Event::OrgTokenRevoked(e) = event {
                self.of_org.retain(|_, known| known.token != e.token);
            }
            return Ok(());
        }
        let (Fact::Workspace(event), Some(workspace)) = (&recorded.fact, recorded.subject()) else {
            return Ok(());
        };
        // All other facts say nothing about who may speak for whom.
        if let Event::TokenIssued(e) = event {
            self.issue(
                e.sha256,
                Credential {
                    workspace,
                    token: e.token,
                    prefix: prefix(&e.prefix),
                    generation: e.generation,
                    purpose: e.purpose,
                    issued_at: recorded.meta.at,
                    revoked_at: None,
                    workspace_removed: false,
                },
            );
        } else if let Event::TokensRevoked(e) = event {
            self.revoke(workspace, &e.tokens, recorded.meta.at);
        } else if let Event::Removed(_) = event {
            self.remove(workspace);
        }
        Ok(())
    }
}
