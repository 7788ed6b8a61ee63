//! Lists of an engine, each as what it shows otherwise than the one before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use covalence_events::flight::{Observed, Shown, ShownState};

use crate::effect::{Listed, ListedState};
use crate::fleet::state::many;

/// Instances of a list that are compared with the one before; of more only the numbers are kept.
pub(super) const INSTANCES_MAX: usize = 4096;

/// What a list showed, by instance.
pub(super) type Picture = BTreeMap<Arc<str>, Shown>;

/// What the last list showed.
#[derive(Debug, Default)]
pub(super) struct Lists {
    shown: Picture,
}

impl Lists {
    /// Takes the next list.
    pub(super) fn take(&mut self, listed: &[Listed], took_us: u64) -> Observed {
        let (mut running, mut stopped, mut between) = (0, 0, 0);
        for item in listed {
            match item.state {
                ListedState::Running => running += 1,
                ListedState::Stopped { .. } => stopped += 1,
                ListedState::Between => between += 1,
            }
        }
        let compared = &listed[..listed.len().min(INSTANCES_MAX)];
        let changed = self.compare(compared);
        apply(&mut self.shown, &changed);
        let (running, stopped, between) = (many(running), many(stopped), many(between));
        Observed::Listed { took_us, running, stopped, between, changed }
    }

    fn compare(&self, listed: &[Listed]) -> Vec<Shown> {
        let now: BTreeSet<&str> = listed.iter().map(|item| item.instance.id.as_str()).collect();
        let gone = self.shown.values().filter(|before| !now.contains(&*before.instance));
        let mut changed: Vec<Shown> =
            gone.map(|before| Shown { state: ShownState::Gone, ..before.clone() }).collect();
        for item in listed {
            let before = self.shown.get(item.instance.id.as_str());
            let shown = shown(item, before);
            if before != Some(&shown) {
                changed.push(shown);
            }
        }
        changed
    }
}

fn shown(item: &Listed, before: Option<&Shown>) -> Shown {
    let (state, exit_status) = match item.state {
        ListedState::Running => (ShownState::Running, None),
        ListedState::Stopped { exit_status } => (ShownState::Stopped, exit_status),
        ListedState::Between => (ShownState::Between, None),
    };
    // One text for all that is kept of an instance.
    let known = before.map(|before| Arc::clone(&before.instance));
    Shown {
        instance: known.unwrap_or_else(|| Arc::from(item.instance.id.as_str())),
        workspace: item.workspace,
        generation: item.generation,
        state,
        exit_status,
    }
}

/// Goes on from one list to the next.
pub(super) fn apply(picture: &mut Picture, changed: &[Shown]) {
    for shown in changed {
        if shown.state == ShownState::Gone {
            picture.remove(&shown.instance);
        } else {
            picture.insert(Arc::clone(&shown.instance), shown.clone());
        }
    }
}
