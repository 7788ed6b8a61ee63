//! The truth table: every class of evidence against every kind of target.

use covalence_events::Generation;
use covalence_events::workspace::{
    EvidenceClass, EvidenceObserved, EvidenceSource, InstanceRef, RestartCause, Verdict,
};

use super::{
    HEARTBEAT_STALE, Judgement, LIVENESS_TTL, OBSERVER_UNWELL, PROOF_OF_DEATH, SUSPICION_IS_NOT_PROOF,
    Target, UNKNOWN_MEANS_ALIVE, Withheld, judge, withheld,
};
use crate::context::ObserverView;
use crate::policy::Policy;

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

/// What runs as it should.
const OURS: Target<'static> = Target {
    generation: Generation(3),
    instance: None,
    present: true,
    stopping: false,
    external: false,
    quiet: false,
};

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
    let target = OURS;
    let judgement = judge(&evidence(EvidenceClass::ObserverFailure), &target);
    assert_eq!(
        judgement,
        Judgement::Verdict { verdict: Verdict::Unknown, rule: UNKNOWN_MEANS_ALIVE, cause: None }
    );
}

#[test]
fn nothing_leads_to_a_restart_of_what_is_old_stopping_gone_or_not_ours() {
    let other = InstanceRef { id: "b".to_owned() };
    let target = OURS;
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

#[test]
fn every_class_of_evidence_has_one_verdict_by_one_rule() {
    let ours = OURS;
    let quiet = Target { quiet: true, ..ours };
    let external = Target { external: true, ..ours };
    let unknown = |rule| Some((Verdict::Unknown, rule));
    let dead = |rule| Some((Verdict::Dead, rule));
    let alive = Some((Verdict::Alive, "sign_of_life"));
    let (doubt, error) = (unknown(SUSPICION_IS_NOT_PROOF), unknown(UNKNOWN_MEANS_ALIVE));
    let table = [
        (ours, [dead(PROOF_OF_DEATH), alive, doubt, dead(LIVENESS_TTL), error, None]),
        (quiet, [unknown(OBSERVER_UNWELL), alive, doubt, dead(LIVENESS_TTL), error, None]),
        (external, [None, alive, doubt, unknown(HEARTBEAT_STALE), error, None]),
    ];
    for (target, expected) in table {
        let verdicts = CLASSES.map(|class| match judge(&evidence(class), &target) {
            Judgement::Irrelevant => None,
            Judgement::Verdict { verdict, rule, .. } => Some((verdict, rule)),
        });
        assert_eq!(verdicts, expected, "{target:?}");
    }
}

/// Rule V1, at the border of each number.
#[test]
fn silence_is_hung_only_for_a_well_observer_without_a_brake_and_with_two_sources() {
    let policy = Policy::default();
    let well = ObserverView::well(chrono::DateTime::UNIX_EPOCH);
    let table = [
        (2, well, None),
        (3, well, None),
        (1, well, Some(Withheld::OneSource)),
        (0, well, Some(Withheld::OneSource)),
        (2, ObserverView { score: 1, ..well }, None),
        (2, ObserverView { score: 2, ..well }, Some(Withheld::ObserverUnwell)),
        (2, ObserverView { score: 8, ..well }, Some(Withheld::ObserverUnwell)),
        (2, ObserverView { quiet: true, ..well }, Some(Withheld::ObserverUnwell)),
        (2, ObserverView { braked: true, ..well }, Some(Withheld::Brake)),
        (2, ObserverView { in_grace: true, ..well }, Some(Withheld::Grace)),
    ];
    for (sources, observer, expected) in table {
        assert_eq!(withheld(&policy, sources, &observer), expected, "{sources} sources, {observer:?}");
    }
}

#[test]
fn what_withholds_a_verdict_is_named_like_the_rule_that_defers_a_restart() {
    let reasons = [Withheld::Grace, Withheld::Brake, Withheld::ObserverUnwell, Withheld::OneSource];
    assert_eq!(reasons.map(Withheld::as_str), ["grace", "brake", "observer_unwell", "one_source"]);
}
