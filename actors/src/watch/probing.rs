//! Asking agents for their card, while their heartbeat is late (decision 18).

use std::collections::BTreeMap;

use covalence_events::workspace::{EvidenceClass, EvidenceObserved, EvidenceSource};
use covalence_events::{Generation, WorkspaceId};

use super::{Around, Output, Seen, Watch};
use crate::effect::Probe;
use crate::policy::Policy;

/// One workspace that is being asked.
#[derive(Clone, Debug)]
pub(super) struct Probing {
    generation: Generation,
    failures: u32,
    asked: bool,
}

impl Watch {
    /// Asks those that are late, and forgets those that are not any more.
    pub(super) fn probe_late(&mut self, around: &Around<'_>, out: &mut Vec<Output>) {
        let &Around { policy, seen, now } = around;
        let patience = policy.heartbeat_interval + policy.probe_late;
        let late =
            |one: &Seen| one.desired && one.instance.is_some() && now >= one.heard.max(self.since) + patience;
        let asked: Vec<_> = seen.iter().filter(|one| late(one)).collect();
        self.probes.retain(|id, probing| {
            asked.iter().any(|one| one.workspace == *id && one.generation == probing.generation)
        });
        for one in asked {
            let Some(url) = &one.url else { continue };
            let fresh = Probing { generation: one.generation, failures: 0, asked: false };
            let probing = self.probes.entry(one.workspace).or_insert(fresh);
            if !std::mem::replace(&mut probing.asked, true) {
                let (workspace, generation) = (one.workspace, one.generation);
                out.push(Output::Probe { workspace, generation, url: url.clone() });
            }
        }
    }
}

/// Any answer at all is life; no answer, several times in a row, is a reason for suspicion. What failed on our side is
/// neither.
pub(super) fn probed(
    probes: &mut BTreeMap<WorkspaceId, Probing>,
    policy: &Policy,
    (workspace, generation): (WorkspaceId, Generation),
    probe: &Probe,
    out: &mut Vec<Output>,
) {
    let known = probes.get_mut(&workspace).filter(|probing| probing.generation == generation);
    let Some(probing) = known else { return };
    probing.asked = false;
    let (class, code, detail) = match probe {
        Probe::Answered { status } => {
            probes.remove(&workspace);
            (EvidenceClass::Life, "answered", format!("its card was answered with HTTP {status}"))
        }
        Probe::Silent { code, detail } => {
            probing.failures += 1;
            if probing.failures < policy.probe_tries {
                return;
            }
            let tries = probing.failures;
            (EvidenceClass::Suspicion, *code, format!("{tries} requests for its card: {detail}"))
        }
        Probe::Unknown(_) => return,
    };
    let evidence = EvidenceObserved {
        source: EvidenceSource::Probe,
        class,
        generation,
        instance: None,
        code: code.to_owned(),
        detail,
        exit_status: None,
    };
    out.push(Output::Evidence { workspace, evidence });
}
