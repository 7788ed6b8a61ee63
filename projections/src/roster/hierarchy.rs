//! Who stands where, and who may talk to whom.
//!
//! Removed and paused workspaces keep their place: status plays no part in who may talk to whom.

use std::sync::Arc;

use covalence_events::WorkspaceId;

use super::{Removed, Roster, Row, Status};

/// Steps walked up before a hierarchy counts as broken.
pub const DEPTH_MAX: usize = 32;

/// Whether workspaces without a parent may talk to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RootTalk {
    /// They may: one team.
    #[default]
    Open,
    /// They may not: each is an organisation of its own.
    Strict,
}

/// The rule that decided about a call, first match wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessRule {
    /// Allowed: a workspace calls itself.
    Same,
    /// Denied: one of them does not exist.
    Unknown,
    /// Allowed: same parent.
    Siblings,
    /// Allowed: both have no parent.
    Roots,
    /// Allowed: one is the other's parent.
    Parent,
    /// Allowed: one is above the other.
    Ancestor,
    /// Denied: the hierarchy above one of them has no end.
    Broken,
    /// Denied: no other rule fits.
    Unrelated,
}

impl AccessRule {
    /// What it means, for people.
    pub const fn explained(self) -> &'static str {
        match self {
            Self::Same => "a workspace may call itself",
            Self::Unknown => "one of the two does not exist",
            Self::Siblings => "both have the same parent",
            Self::Roots => "both have no parent, and roots may call each other",
            Self::Parent => "one is the parent of the other",
            Self::Ancestor => "one is above the other",
            Self::Broken => "the hierarchy above one of the two has no end",
            Self::Unrelated => "they are neither siblings nor both roots, and none is above the other",
        }
    }

    /// The word shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Unknown => "unknown",
            Self::Siblings => "siblings",
            Self::Roots => "roots",
            Self::Parent => "parent",
            Self::Ancestor => "ancestor",
            Self::Broken => "broken_hierarchy",
            Self::Unrelated => "unrelated",
        }
    }
}

/// Whether one workspace may call another, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Whether it may.
    pub allowed: bool,
    /// The rule that says so.
    pub rule: AccessRule,
}

impl From<AccessRule> for Access {
    fn from(rule: AccessRule) -> Self {
        let allowed = match rule {
            AccessRule::Same
            | AccessRule::Siblings
            | AccessRule::Roots
            | AccessRule::Parent
            | AccessRule::Ancestor => true,
            AccessRule::Unknown | AccessRule::Broken | AccessRule::Unrelated => false,
        };
        Self { allowed, rule }
    }
}

/// The way up from a workspace did not end within [`DEPTH_MAX`] steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the hierarchy above the workspace does not end within {DEPTH_MAX} steps")]
pub struct BrokenHierarchy;

impl Roster {
    /// Whether `caller` may call `target`.
    pub fn can_communicate(&self, caller: WorkspaceId, target: WorkspaceId, roots: RootTalk) -> Access {
        self.access(caller, target, roots).into()
    }

    fn access(&self, caller: WorkspaceId, target: WorkspaceId, roots: RootTalk) -> AccessRule {
        if caller == target {
            return AccessRule::Same;
        }
        let (Some(from), Some(to)) = (self.rows.get(&caller), self.rows.get(&target)) else {
            return AccessRule::Unknown;
        };
        match (from.parent, to.parent) {
            (Some(ours), Some(theirs)) if ours == theirs => return AccessRule::Siblings,
            (None, None) if roots == RootTalk::Open => return AccessRule::Roots,
            (ours, theirs) if ours == Some(target) || theirs == Some(caller) => return AccessRule::Parent,
            _ => {}
        }
        match (self.is_above(caller, target), self.is_above(target, caller)) {
            (Ok(true), _) | (_, Ok(true)) => AccessRule::Ancestor,
            (Err(BrokenHierarchy), _) | (_, Err(BrokenHierarchy)) => AccessRule::Broken,
            (Ok(false), Ok(false)) => AccessRule::Unrelated,
        }
    }

    /// What a rule rests on: the ids from the caller to the target along the hierarchy, where a way between them decided; for
    /// a denial none.
    pub fn edge(&self, caller: WorkspaceId, target: WorkspaceId, rule: AccessRule) -> Vec<WorkspaceId> {
        match rule {
            AccessRule::Same => vec![caller],
            AccessRule::Roots | AccessRule::Parent => vec![caller, target],
            AccessRule::Siblings => {
                let parent = self.rows.get(&caller).and_then(|row| row.parent);
                [Some(caller), parent, Some(target)].into_iter().flatten().collect()
            }
            AccessRule::Ancestor => {
                let mut up = self.way_up(caller, target);
                if up.is_empty() {
                    up = self.way_up(target, caller);
                    up.reverse();
                }
                up
            }
            AccessRule::Unknown | AccessRule::Broken | AccessRule::Unrelated => Vec::new(),
        }
    }

    /// The ids from one workspace up to another; none where that is not above it.
    fn way_up(&self, below: WorkspaceId, above: WorkspaceId) -> Vec<WorkspaceId> {
        let ancestors = self.ancestors(below).unwrap_or_default();
        let depth = ancestors.iter().position(|row| row.id == above);
        let way = depth.map(|depth| &ancestors[..=depth]).unwrap_or_default();
        let way = way.iter().map(|row| row.id);
        if depth.is_some() { [below].into_iter().chain(way).collect() } else { Vec::new() }
    }

    fn is_above(&self, above: WorkspaceId, below: WorkspaceId) -> Result<bool, BrokenHierarchy> {
        Ok(self.ancestors(below)?.iter().any(|row| row.id == above))
    }

    /// The way up, parent first. Ends at a root, or at a parent that is not there.
    pub fn ancestors(&self, id: WorkspaceId) -> Result<Vec<Arc<Row>>, BrokenHierarchy> {
        let mut found = Vec::new();
        let mut parent = self.rows.get(&id).and_then(|row| row.parent);
        while let Some(row) = parent.and_then(|id| self.rows.get(&id)) {
            if found.len() == DEPTH_MAX {
                return Err(BrokenHierarchy);
            }
            found.push(Arc::clone(row));
            parent = row.parent;
        }
        Ok(found)
    }

    /// Those whose parent it is, in order of creation, removed ones left out.
    pub fn children(&self, id: WorkspaceId) -> Vec<Arc<Row>> {
        self.under(Some(id)).cloned().collect()
    }

    /// Everything below it, level by level, removed ones (and what is only below them) left out. A cycle is walked once.
    pub fn descendants(&self, id: WorkspaceId) -> Vec<Arc<Row>> {
        let mut found: Vec<Arc<Row>> = Vec::new();
        let mut seen = std::collections::HashSet::from([id]);
        let mut next = 0;
        let mut parent = id;
        loop {
            found.extend(self.under(Some(parent)).filter(|row| seen.insert(row.id)).cloned());
            let Some(row) = found.get(next) else { return found };
            parent = row.id;
            next += 1;
        }
    }

    /// What was removed below it, however deep, and could not be stopped.
    pub fn unstopped(&self, id: WorkspaceId) -> Vec<WorkspaceId> {
        let mut seen = std::collections::HashSet::from([id]);
        let (mut found, mut open) = (Vec::new(), vec![id]);
        while let Some(parent) = open.pop() {
            let below = self.children.get(&Some(parent)).into_iter().flatten();
            for row in below.filter_map(|(_, id)| self.rows.get(id)) {
                if !seen.insert(row.id) {
                    continue;
                }
                open.push(row.id);
                found.extend(
                    (row.status == Status::Removed && row.stop_failure().is_some()).then_some(row.id),
                );
            }
        }
        found
    }

    /// Whom it knows: siblings (for a root: the other roots, unless strict), then children, then its parent. Removed
    /// ones are left out. `None` for an unknown workspace.
    pub fn peers(&self, id: WorkspaceId, roots: RootTalk) -> Option<Vec<Arc<Row>>> {
        let row = self.rows.get(&id)?;
        let mut peers = Vec::new();
        if row.parent.is_some() || roots == RootTalk::Open {
            peers.extend(self.under(row.parent).filter(|sibling| sibling.id != id).cloned());
        }
        peers.extend(self.under(Some(id)).cloned());
        let parent = row.parent.and_then(|parent| self.shown(parent, Removed::Hide));
        peers.extend(parent.cloned());
        Some(peers)
    }

    fn under(&self, parent: Option<WorkspaceId>) -> impl Iterator<Item = &Arc<Row>> {
        let below = self.children.get(&parent).into_iter().flatten();
        below.filter_map(|(_, id)| self.rows.get(id)).filter(|row| row.status != Status::Removed)
    }
}
