//! What a piece of evidence amounts to, for one workspace.
//!
//! Only two things are proof: the engine or the kernel says that this very instance is not there, or nothing was heard
//! for the whole liveness window. Everything else, every error in particular, leaves the workspace alive (R10).

use super::Policy;
use crate::context::ObserverView;
use covalence_events::Generation;
use covalence_events::workspace::{EvidenceClass, EvidenceObserved, InstanceRef, RestartCause, Verdict};

/// The rule's name: the engine or the kernel said so.
pub const PROOF_OF_DEATH: &str = "proof_of_death";
/// The rule's name: no sign of life for [`super::Policy::liveness_ttl`].
pub const LIVENESS_TTL: &str = "liveness_ttl";
/// The rule's name: an external workspace without a heartbeat for [`super::Policy::external_stale`].
pub const HEARTBEAT_STALE: &str = "heartbeat_stale";
/// The rule's name: an error of the observer proves nothing.
pub const UNKNOWN_MEANS_ALIVE: &str = "unknown_means_alive";
/// The rule's name: ambiguous signs never suffice alone.
pub const SUSPICION_IS_NOT_PROOF: &str = "suspicion_is_not_proof";
/// The rule's name: we have just stood still, and conclude nothing for a moment.
pub const OBSERVER_UNWELL: &str = "observer_unwell";

/// What should be running, and how far we are with it.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that is known of it")]
pub struct Target<'a> {
    /// The current generation.
    pub generation: Generation,
    /// The exact instance, if it is known.
    pub instance: Option<&'a InstanceRef>,
    /// Whether an instance of this generation is believed to be there: the backend said that it runs, and it was not
    /// proved dead. While a start is under way nothing is: what ends then may be a leftover that the start itself clears
    /// away, and what really died is seen by the first list after it.
    pub present: bool,
    /// Whether we asked for its end ourselves.
    pub stopping: bool,
    /// Whether somebody else runs it.
    pub external: bool,
    /// Whether we have just stood still.
    pub quiet: bool,
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// About something that is not there any more, or that we caused: recorded where it matters, without consequence.
    Irrelevant,
    /// A verdict by this rule. `cause` is what a restart would be asked for with.
    Verdict {
        /// Dead, alive or unknown.
        verdict: Verdict,
        /// The rule's stable name.
        rule: &'static str,
        /// Set only for a verdict that leads to a restart.
        cause: Option<RestartCause>,
    },
}

/// Judges one piece of evidence.
pub fn judge(evidence: &EvidenceObserved, target: &Target<'_>) -> Judgement {
    let other_instance = match (&evidence.instance, target.instance) {
        (Some(said), Some(known)) => said != known,
        _ => false,
    };
    if evidence.generation != target.generation || other_instance || !target.present || target.stopping {
        return Judgement::Irrelevant;
    }
    let (verdict, rule, cause) = match evidence.class {
        // Nobody of ours can say that somebody else's machine is gone.
        EvidenceClass::Death if target.external => return Judgement::Irrelevant,
        EvidenceClass::Death if target.quiet => (Verdict::Unknown, OBSERVER_UNWELL, None),
        EvidenceClass::Death => (Verdict::Dead, PROOF_OF_DEATH, Some(RestartCause::Death)),
        EvidenceClass::Silence if target.external => (Verdict::Unknown, HEARTBEAT_STALE, None),
        EvidenceClass::Silence => (Verdict::Dead, LIVENESS_TTL, Some(RestartCause::Hung)),
        EvidenceClass::Life => (Verdict::Alive, "sign_of_life", None),
        EvidenceClass::Suspicion => (Verdict::Unknown, SUSPICION_IS_NOT_PROOF, None),
        EvidenceClass::ObserverFailure => (Verdict::Unknown, UNKNOWN_MEANS_ALIVE, None),
        EvidenceClass::Expected => return Judgement::Irrelevant,
    };
    Judgement::Verdict { verdict, rule, cause }
}

/// Why a silent workspace does not count as hung yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// We have just started.
    Grace,
    /// A brake is engaged.
    Brake,
    /// We don't see well ourselves.
    ObserverUnwell,
    /// Too few sources speak against it.
    OneSource,
}

impl Withheld {
    /// The rule's stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grace => "grace",
            Self::Brake => "brake",
            Self::ObserverUnwell => OBSERVER_UNWELL,
            Self::OneSource => "one_source",
        }
    }
}

/// Whether silence for the whole window amounts to *hung*: only with a healthy observer, no brake, and enough sources that
/// agree (rule V1).
pub fn withheld(policy: &Policy, sources: u32, observer: &ObserverView) -> Option<Withheld> {
    if observer.in_grace {
        Some(Withheld::Grace)
    } else if observer.braked {
        Some(Withheld::Brake)
    } else if observer.quiet || observer.score > policy.hung_score_max {
        Some(Withheld::ObserverUnwell)
    } else {
        (sources < policy.hung_sources).then_some(Withheld::OneSource)
    }
}

#[cfg(test)]
mod tests;
