//! Agents that are not heard from.

use covalence_actors::simulation::{Fault, Setup, World};
use covalence_events::fleet::{BrakeMode, BrakeTrigger};
use covalence_events::workspace::{Event, EvidenceClass, EvidenceSource, RestartCause};

use super::{MINUTE, SECOND, T0, after, calm, fleet_of, no_restarts, nothing_wrong};

/// The last heartbeat of a workspace before a moment.
fn last_beat(world: &World, whom: usize, before: u64) -> u64 {
    let beats = world.history().of(whom).filter(|(at, event)| {
        *at < before && matches!(event, Event::HeartbeatReceived(_) | Event::Registered(_))
    });
    beats.map(|(at, _)| at).last().expect("heard from")
}

fn suspected_at(world: &World, whom: usize) -> Option<u64> {
    world.history().first(whom, |event| matches!(event, Event::SuspicionRaised(_)))
}

/// Scenario 13 (R13): no heartbeats, but cards are answered. Decision 18 asks for the card only when a beat is 45 s late,
/// about when the silence becomes suspicious: suspicion may be raised for a moment, and an answer clears it.
#[test]
fn agents_that_answer_are_alive_though_their_heartbeats_are_missing() {
    let mut world = calm();
    after(&mut world, 0, Fault::Silent { from: 0, many: 15, lasts: 5 * MINUTE });
    world.run(T0 + 8 * MINUTE);
    no_restarts(&world);
    let withheld = world
        .history()
        .all()
        .filter(|(_, _, event, _)| matches!(event, Event::VerdictReached(e) if e.rule == "liveness_ttl"));
    assert_eq!(withheld.count(), 0);
    assert!(world.is_healed(), "{}", world.ailing());
}

/// Scenario 14: our own network broke.
#[test]
fn a_broken_network_freezes_suspects_the_observer_and_restarts_nothing() {
    let mut world = calm();
    after(&mut world, 0, Fault::NetworkCut { lasts: 12 * MINUTE });
    world.run(T0 + 20 * MINUTE);
    no_restarts(&world);
    let engaged = world.history().engagements();
    assert!(
        engaged
            .iter()
            .any(|(_, e)| e.trigger == BrakeTrigger::Everybody || e.trigger == BrakeTrigger::Suspicion),
        "{engaged:?}"
    );
    assert!(
        world.history().alarms().iter().any(|(_, kind)| kind.starts_with("brake")),
        "{:?}",
        world.history().alarms()
    );
    assert!(world.is_healed(), "{}", world.ailing());
}

/// Scenario 15 (R12): one agent hangs. Suspect after about 76 s of silence, restarted once between 180 and 215 s.
#[test]
fn a_hung_agent_is_restarted_once_about_three_minutes_after_its_last_beat() {
    let mut world = calm();
    after(&mut world, 0, Fault::Hang { whom: 9 });
    world.run(T0 + 8 * MINUTE);
    nothing_wrong(&world);
    let last = last_beat(&world, 9, T0);
    let suspected = suspected_at(&world, 9).expect("suspected") - last;
    assert!((70 * SECOND..=85 * SECOND).contains(&suspected), "suspected after {suspected} ms");
    let restarts: Vec<_> = world.history().restarts_of(9).iter().map(|at| at - last).collect();
    assert_eq!(restarts.len(), 1, "{restarts:?}");
    assert!((180 * SECOND..=215 * SECOND).contains(&restarts[0]), "{restarts:?}");
    assert_eq!(world.history().restarts().len(), 1);
    let admitted = world.history().admitted();
    assert_eq!((admitted[0].1.cause, admitted[0].1.cost), (RestartCause::Hung, Some(2.0)));
    let sources = world.history().of(9).filter_map(|(_, event)| match event {
        Event::EvidenceObserved(e) if e.class == EvidenceClass::Suspicion => Some(e.source),
        _ => None,
    });
    let sources: std::collections::BTreeSet<_> = sources.collect();
    assert!(
        sources.contains(&EvidenceSource::Heartbeat) && sources.contains(&EvidenceSource::Probe),
        "{sources:?}"
    );
    assert!(world.is_healed(), "{}", world.ailing());
}

/// Scenario 15 in a team: the one above waits for two tokens, and who is below it does not overtake it with the one that is there.
#[test]
fn a_member_waits_for_the_hung_one_above_it_though_it_needs_fewer_tokens() {
    let mut world = World::new(7, Setup { teams: Some(5), ..Setup::default() });
    world.run(T0);
    after(&mut world, 0, Fault::Hang { whom: 5 });
    let hung = last_beat(&world, 5, T0) + 180 * SECOND;
    // Three deaths before leave one token, and one more a while later.
    for (whom, before) in [(1, 10), (2, 9), (3, 3)] {
        world.inject(hung - before * SECOND, Fault::Exit { whom, status: 1 });
    }
    world.inject(hung + 3 * SECOND, Fault::Exit { whom: 7, status: 1 });
    world.run(T0 + 8 * MINUTE);
    nothing_wrong(&world);
    let rules: Vec<_> = world.history().deferred().iter().map(|(_, e)| (e.cause, e.rule.clone())).collect();
    assert!(rules.contains(&(RestartCause::Hung, "tokens".to_owned())), "{rules:?}");
    assert!(rules.contains(&(RestartCause::Death, "order".to_owned())), "{rules:?}");
    assert!(world.history().restarts_of(7)[0] > world.history().restarts_of(5)[0]);
    assert!(world.is_healed(), "{}", world.ailing());
}

/// Scenario 16 (R13): silent for a long answer, while traffic passes.
#[test]
fn an_agent_that_answers_calls_is_alive_without_heartbeats() {
    let mut world = calm();
    after(&mut world, 0, Fault::Silent { from: 2, many: 1, lasts: 4 * MINUTE });
    after(&mut world, 0, Fault::Traffic { whom: 2, every: 20 * SECOND, lasts: 4 * MINUTE });
    world.run(T0 + 8 * MINUTE);
    no_restarts(&world);
    assert_eq!(suspected_at(&world, 2), None);
}

/// Scenario 22: nineteen suspects of a hundred are below the border, twenty are on it.
#[test]
fn twenty_suspects_of_a_hundred_freeze_and_nineteen_do_not() {
    for (many, frozen) in [(19, false), (20, true)] {
        let mut world = fleet_of(100);
        // Heartbeats are spread over half a minute, and so would suspicions be: those of a minute count together here.
        after(&mut world, 0, Fault::Starved { from: 0, many, lasts: 100 * SECOND });
        world.run(T0 + 4 * MINUTE);
        no_restarts(&world);
        let engaged = world.history().engagements();
        let suspicion = engaged.iter().find(|(_, e)| e.trigger == BrakeTrigger::Suspicion);
        assert_eq!(suspicion.is_some(), frozen, "{many}: {engaged:?}");
        if let Some((_, e)) = suspicion {
            assert_eq!((e.mode, e.count, e.threshold, e.of), (BrakeMode::Freeze, 20, 20, 100));
        }
    }
}

/// Two agents that hang at once are no mass event, even if something else has frozen the cell meanwhile.
#[test]
fn agents_that_hang_while_the_cell_is_frozen_are_restarted_after_its_release() {
    let mut world = fleet_of(3);
    after(&mut world, 0, Fault::Hang { whom: 1 });
    after(&mut world, 60 * SECOND, Fault::EngineFrozen { lasts: 50 * SECOND });
    world.run(T0 + 15 * MINUTE);
    nothing_wrong(&world);
    assert_eq!(world.history().restarts().len(), 1);
    assert!(world.is_healed(), "{}", world.ailing());
}
