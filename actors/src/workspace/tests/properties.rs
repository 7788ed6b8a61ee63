//! Properties over random lives: what must hold whatever happens in whatever order.

use std::time::Duration;

use covalence_events::workspace::{
    BackendKind, Event, EvidenceClass, EvidenceSource, ProvisionOrigin, RestartCause, StopReason, Verdict,
};
use covalence_events::{Generation, Position};
use proptest::prelude::*;

use super::drain::drained;
use super::session::{ends, failed};
use super::{beat, create, evidence, provisioned};
use crate::policy::SessionRestart;
use crate::scenario::Scenario;
use crate::workspace::command::{Hibernate, ProvisionFailure, Remove, Restart};
use crate::workspace::{self, Command, Effect, outstanding, react};

/// One thing that may happen next. Generations are given relative to the current one.
#[derive(Clone, Debug)]
enum Step {
    Beat { stale: bool },
    Evidence { class: EvidenceClass, stale: bool },
    Provisioned,
    ProvisionFailed { retryable: bool },
    Admit,
    Confirm { class: EvidenceClass },
    OutcomeUnknown,
    Probe { class: EvidenceClass },
    Suppress,
    Pause,
    Resume,
    Hibernate { forced: bool },
    Wake,
    Restart { cause: RestartCause },
    Drained { open: u32 },
    CallFails,
    Remove,
    Stopped,
    StopFailed,
    ShutDown,
    PlatformStart,
    Wait { seconds: u64 },
}

fn class() -> impl Strategy<Value = EvidenceClass> {
    prop_oneof![
        Just(EvidenceClass::Death),
        Just(EvidenceClass::Life),
        Just(EvidenceClass::Suspicion),
        Just(EvidenceClass::Silence),
        Just(EvidenceClass::ObserverFailure),
        Just(EvidenceClass::Expected),
    ]
}

fn wish() -> impl Strategy<Value = RestartCause> {
    prop_oneof![Just(RestartCause::Operator), Just(RestartCause::Configuration), Just(RestartCause::Session),]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => any::<bool>().prop_map(|stale| Step::Beat { stale }),
        3 => (class(), any::<bool>()).prop_map(|(class, stale)| Step::Evidence { class, stale }),
        3 => Just(Step::Provisioned),
        1 => any::<bool>().prop_map(|retryable| Step::ProvisionFailed { retryable }),
        3 => Just(Step::Admit),
        3 => class().prop_map(|class| Step::Confirm { class }),
        1 => Just(Step::OutcomeUnknown),
        1 => class().prop_map(|class| Step::Probe { class }),
        1 => Just(Step::Suppress),
        1 => Just(Step::Pause),
        2 => Just(Step::Resume),
        2 => any::<bool>().prop_map(|forced| Step::Hibernate { forced }),
        1 => Just(Step::Wake),
        2 => wish().prop_map(|cause| Step::Restart { cause }),
        2 => (0_u32..2).prop_map(|open| Step::Drained { open }),
        2 => Just(Step::CallFails),
        1 => Just(Step::Remove),
        1 => Just(Step::Stopped),
        1 => Just(Step::StopFailed),
        1 => Just(Step::ShutDown),
        2 => Just(Step::PlatformStart),
        2 => (0_u64..700).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

fn command(step: &Step, story: &Scenario) -> Command {
    let current = story.generation().0;
    let named = |stale: &bool| if *stale { current.saturating_sub(1) } else { current };
    let restart = story
        .state()
        .restart
        .as_ref()
        .map_or(covalence_events::RestartId(uuid::Uuid::from_u128(99)), |pending| pending.restart);
    match step {
        Step::Beat { stale } => beat(named(stale)),
        Step::Evidence { class, stale } => evidence(*class, named(stale)),
        Step::Provisioned => provisioned(current),
        Step::ProvisionFailed { retryable } => Command::RecordProvisionFailed(ProvisionFailure {
            generation: Generation(current),
            code: "start_failed".to_owned(),
            message: "it broke".to_owned(),
            retryable: *retryable,
            command: None,
        }),
        Step::Admit => Command::RecordAdmission { restart, admission: Position(1) },
        Step::Confirm { class } => {
            let Command::RecordEvidence(evidence) = evidence(*class, current) else { unreachable!() };
            Command::RecordConfirmed { restart, evidence, url: None }
        }
        Step::OutcomeUnknown => Command::RecordOutcomeUnknown {
            generation: Generation(current),
            operation: "provision",
            detail: String::new(),
        },
        Step::Probe { class } => {
            let Command::RecordEvidence(mut evidence) = evidence(*class, current) else { unreachable!() };
            evidence.source = EvidenceSource::Probe;
            Command::RecordEvidence(evidence)
        }
        Step::Suppress => {
            let rule = "intensity".to_owned();
            Command::RecordSuppression { restart, rule, message: String::new() }
        }
        Step::Pause => Command::Pause,
        Step::Resume => Command::Resume,
        Step::Hibernate { forced } => Command::Hibernate(Hibernate { forced: *forced, open: 0 }),
        Step::Wake => Command::Wake,
        Step::Restart { cause } => Command::Restart(Restart::because_of(*cause)),
        Step::Drained { open } => drained(story, *open),
        Step::CallFails => ends(failed("boom")),
        Step::Remove => Command::Remove(Remove::default()),
        Step::Stopped => Command::RecordStopped { generation: Generation(current) },
        Step::StopFailed => {
            Command::RecordStopFailed { generation: Generation(current), message: "no".to_owned() }
        }
        Step::ShutDown => Command::ShutDown,
        Step::PlatformStart => Command::RecordPlatformStart,
        Step::Wait { .. } => Command::RecordDeadline,
    }
}

fn live(backend: BackendKind, steps: &[Step]) -> Scenario {
    let mut story = Scenario::new();
    story.policy.session_restart = SessionRestart::Automatic;
    story.when(&create(backend)).expect("creation");
    for step in steps {
        if let Step::Wait { seconds } = step {
            story = story.after(Duration::from_secs(*seconds));
        }
        let command = command(step, &story);
        let _ = story.when(&command);
    }
    story
}

fn facts(story: &Scenario) -> impl Iterator<Item = &Event> {
    story.story.iter().filter_map(|recorded| match &recorded.fact {
        covalence_events::Fact::Workspace(event) => Some(event),
        covalence_events::Fact::Fleet(_) => None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// R10: a restart for death or hanging rests on a verdict of death, and never on an observer's failure.
    #[test]
    fn no_automatic_restart_without_a_verdict_of_death(steps in prop::collection::vec(step(), 0..60)) {
        let story = live(BackendKind::Process, &steps);
        let mut dead = std::collections::HashSet::new();
        for event in facts(&story) {
            match event {
                Event::VerdictReached(e) if e.verdict == Verdict::Dead => { dead.insert(e.generation); }
                Event::ProvisionFailed(e) if e.retryable => { dead.insert(e.generation); }
                Event::RestartRequested(e)
                    if matches!(e.cause, RestartCause::Death | RestartCause::Hung) =>
                {
                    prop_assert!(dead.contains(&e.generation), "{:?}", story.story);
                    prop_assert!(!e.evidence.is_empty());
                }
                _ => {}
            }
        }
    }

    /// A generation is requested once, in order, and has at most one start.
    #[test]
    fn generations_go_up_by_one_and_start_at_most_once(steps in prop::collection::vec(step(), 0..60)) {
        let story = live(BackendKind::Docker, &steps);
        let mut last = 0;
        let mut started = std::collections::HashSet::new();
        for event in facts(&story) {
            if let Event::ProvisionRequested(e) = event {
                prop_assert_eq!(e.generation.0, last + 1);
                last = e.generation.0;
            }
            if let Event::InstanceStarted(e) = event {
                prop_assert!(started.insert(e.generation));
            }
        }
    }

    /// After removal nothing but clean-up happens.
    #[test]
    fn nothing_but_clean_up_follows_removal(steps in prop::collection::vec(step(), 0..60)) {
        let story = live(BackendKind::Process, &steps);
        let after = facts(&story).skip_while(|event| !matches!(event, Event::Removed(_))).skip(1);
        for event in after {
            prop_assert!(
                matches!(
                    event,
                    Event::TokensRevoked(_) | Event::RestartAbandoned(_) | Event::StopRequested(_)
                        | Event::InstanceStopped(_) | Event::StopFailed(_) | Event::EvidenceObserved(_)
                        | Event::OutcomeUnknown(_) | Event::SuspicionCleared(_)
                        | Event::DrainEnded(_) | Event::CallFinished(_) | Event::CallRecorded(_)
                ),
                "{} after removal", event.tag()
            );
        }
    }

    /// Pause is a wish that nothing but a person lifts.
    #[test]
    fn a_paused_workspace_starts_only_by_hand(steps in prop::collection::vec(step(), 0..60)) {
        let story = live(BackendKind::Process, &steps);
        let mut paused = false;
        for event in facts(&story) {
            match event {
                Event::Paused(_) => paused = true,
                Event::Resumed(_) => paused = false,
                Event::RestartRequested(e)
                    // By hand: whatever the platform asks for by itself rests on evidence.
                    if e.evidence.is_empty() =>
                {
                    paused = false;
                }
                Event::ProvisionRequested(_) => prop_assert!(!paused, "{:?}", story.story),
                _ => {}
            }
        }
    }

    /// What sleeps is not dead: the supervisor wants nothing of it, and only need or a person ends its sleep.
    #[test]
    fn what_hibernates_is_started_only_because_it_is_needed(steps in prop::collection::vec(step(), 0..60)) {
        let story = live(BackendKind::Process, &steps);
        let (mut asleep, mut by_hand) = (false, false);
        for event in facts(&story) {
            match event {
                Event::HibernationRequested(_) => (asleep, by_hand) = (true, false),
                Event::Hibernated(_) => prop_assert!(asleep, "{:?}", story.story),
                // A pause is a wish of its own, and has a test of its own.
                Event::Paused(_) | Event::Removed(_) => asleep = false,
                Event::RestartRequested(e) if asleep => {
                    prop_assert!(e.evidence.is_empty(), "{:?}", story.story);
                    by_hand = true;
                }
                Event::ProvisionRequested(e) => {
                    let needed = e.origin == ProvisionOrigin::Wake || by_hand;
                    prop_assert!(!asleep || needed, "{:?}", story.story);
                    (asleep, by_hand) = (false, false);
                }
                Event::CameOnline(_) | Event::WentOffline(_) => prop_assert!(!asleep, "{:?}", story.story),
                _ => {}
            }
        }
    }

    /// A start of the platform asks for what it stopped itself, once, and for nothing else.
    #[test]
    fn only_what_went_down_with_the_platform_is_asked_for_at_its_start(
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let story = live(BackendKind::Process, &steps);
        let mut down = false;
        for event in facts(&story) {
            match event {
                Event::StopRequested(e) => down = e.reason == StopReason::Shutdown,
                Event::RestartRequested(e) if e.cause == RestartCause::Shutdown => {
                    prop_assert!(down, "{:?}", story.story);
                }
                Event::ProvisionRequested(_) | Event::Quarantined(_) => down = false,
                _ => {}
            }
        }
    }

    /// Every restart is asked for once, and ends at most once.
    #[test]
    fn every_restart_ends_at_most_once(steps in prop::collection::vec(step(), 0..60)) {
        let story = live(BackendKind::Process, &steps);
        let mut open = std::collections::HashSet::new();
        for event in facts(&story) {
            match event {
                Event::RestartRequested(e) => prop_assert!(open.insert(e.restart)),
                Event::RestartAbandoned(e) => prop_assert!(open.remove(&e.restart)),
                Event::CameOnline(e) => if let Some(restart) = e.restart {
                    prop_assert!(open.remove(&restart));
                },
                Event::Quarantined(e) => prop_assert!(open.remove(&e.restart)),
                _ => {}
            }
        }
        prop_assert!(open.len() <= 1);
    }

    /// What works is drained before it is replaced, and every drain that was asked for ends once, before anything else
    /// becomes of its restart.
    #[test]
    fn every_drain_ends_once_and_before_the_replacement(steps in prop::collection::vec(step(), 0..60)) {
        let story = live(BackendKind::Process, &steps);
        let mut draining = None;
        for event in facts(&story) {
            match event {
                Event::DrainRequested(e) => {
                    prop_assert_eq!(draining.replace(e.restart), None);
                }
                Event::DrainEnded(e) => prop_assert_eq!(draining.take(), Some(e.restart)),
                Event::ProvisionRequested(_) | Event::RestartAbandoned(_) | Event::RestartRequested(_) => {
                    prop_assert_eq!(draining, None, "{} during a drain", event.tag());
                }
                Event::CameOnline(e) if draining.is_some() => prop_assert_eq!(e.restart, None),
                _ => {}
            }
        }
        let open = story.state().restart.as_ref().filter(|pending| pending.drain.is_some());
        prop_assert_eq!(open.map(|pending| pending.restart), draining);
    }

    /// Replaying the story gives the same state, from the start or from any point on.
    #[test]
    fn replay_gives_the_same_state(steps in prop::collection::vec(step(), 0..60)) {
        let story = live(BackendKind::Process, &steps);
        let mut state = None;
        for recorded in &story.story {
            state = Some(workspace::evolve(state, recorded).expect("a fact that can follow"));
        }
        prop_assert_eq!(state.as_ref(), story.state.as_ref());
    }

    /// What a state still waits for is among what its facts once asked for.
    #[test]
    fn outstanding_asks_for_nothing_that_no_fact_asked_for(steps in prop::collection::vec(step(), 0..60)) {
        let story = live(BackendKind::Process, &steps);
        let asked: Vec<Effect> = story
            .story
            .iter()
            .filter_map(|recorded| match &recorded.fact {
                covalence_events::Fact::Workspace(event) => Some((recorded.meta.id, event)),
                covalence_events::Fact::Fleet(_) => None,
            })
            .flat_map(|(id, event)| react(id, event, story.state()))
            .collect();
        for effect in outstanding(story.state()) {
            prop_assert!(asked.contains(&effect), "{effect:?}");
        }
    }

    /// An external workspace is never started, stopped or restarted.
    #[test]
    fn an_external_workspace_is_left_to_its_owner(steps in prop::collection::vec(step(), 0..60)) {
        let story = live(BackendKind::External, &steps);
        for event in facts(&story) {
            prop_assert!(
                !matches!(
                    event,
                    Event::ProvisionRequested(_) | Event::RestartRequested(_) | Event::StopRequested(_)
                ),
                "{} of an external workspace", event.tag()
            );
        }
    }
}
