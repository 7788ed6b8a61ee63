//! The truth table: every class of evidence against every kind of target.

use covalence_events::Generation;
use covalence_events::workspace::{
    EvidenceClass, EvidenceObserved, EvidenceSource, InstanceRef, RestartCause, Verdict,
};

use super::{Judgement, Target, judge};

const CLASSES: [EvidenceClass; 6] = [
    EvidenceClass::Death,
    EvidenceClass::Life,
    EvidenceClass::Suspicion,
    EvidenceClass::Silence,
    EvidenceClass::ObserverFailure,
    EvidenceClass::Expected,
];

fn evidence(class: EvidenceClass) -> EvidenceObserved {
    EvidenceObserved {
        source: EvidenceSource::Inspect,
        class,
        generation: Generation(3),
        instance: Some(InstanceRef { id: "a".to_owned() }),
        code: "exited".to_owned(),
        detail: String::new(),
        exit_status: None,
    }
}

fn cause(judgement: Judgement) -> Option<RestartCause> {
    match judgement {
        Judgement::Irrelevant => None,
        Judgement::Verdict { cause, .. } => cause,
    }
}

#[test]
fn only_proof_of_death_and_silence_ever_lead_to_a_restart() {
    let instance = InstanceRef { id: "a".to_owned() };
    let target = Target {
        generation: Generation(3),
        instance: Some(&instance),
        present: true,
        stopping: false,
        external: false,
        quiet: false,
    };
    let causes: Vec<_> = CLASSES.map(|class| cause(judge(&evidence(class), &target))).into();
    assert_eq!(causes, [Some(RestartCause::Death), None, None, Some(RestartCause::Hung), None, None]);
}

#[test]
fn an_error_of_the_observer_is_unknown_and_unknown_means_alive() {
    let target = Target {
        generation: Generation(3),
        instance: None,
        present: true,
        stopping: false,
        external: false,
        quiet: false,
    };
    let judgement = judge(&evidence(EvidenceClass::ObserverFailure), &target);
    assert_eq!(
        judgement,
        Judgement::Verdict { verdict: Verdict::Unknown, rule: super::UNKNOWN_MEANS_ALIVE, cause: None }
    );
}

#[test]
fn nothing_leads_to_a_restart_of_what_is_old_stopping_gone_or_not_ours() {
    let other = InstanceRef { id: "b".to_owned() };
    let target = Target {
        generation: Generation(3),
        instance: None,
        present: true,
        stopping: false,
        external: false,
        quiet: false,
    };
    let targets = [
        Target { generation: Generation(4), ..target },
        Target { instance: Some(&other), ..target },
        Target { present: false, ..target },
        Target { stopping: true, ..target },
        Target { external: true, ..target },
    ];
    for target in targets {
        for class in CLASSES {
            assert_eq!(cause(judge(&evidence(class), &target)), None, "{class:?} against {target:?}");
        }
    }
}
