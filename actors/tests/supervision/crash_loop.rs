//! Workspaces that die again and again.

use covalence_actors::simulation::Fault;
use covalence_events::fleet::Event;

use super::{MINUTE, SECOND, T0, after, calm, nothing_wrong, since};

/// Scenario 17: dies 5 s after each start. That is before its first sign of life (six seconds, decision 20), so each try fails
/// in flight, and the delays alone space them out.
#[test]
fn a_crash_loop_is_spaced_out_and_quarantined_after_five_restarts() {
    let mut world = calm();
    after(&mut world, 0, Fault::CrashLoop { whom: Some(4), after: 5 * SECOND, lasts: 60 * MINUTE });
    after(&mut world, SECOND, Fault::Exit { whom: 4, status: 1 });
    world.run(T0 + 10 * MINUTE);
    nothing_wrong(&world);
    let restarts = since(&world.history().restarts_of(4));
    assert_eq!(restarts.len(), 5, "{restarts:?}");
    let gaps: Vec<_> = restarts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // Seven seconds of life and start, and 5, 10, 20, 40 s of delay, give or take a fifth.
    for (gap, delay) in gaps.iter().zip([5, 10, 20, 40]) {
        let (low, high) = (5 * SECOND + delay * 800, 9 * SECOND + delay * 1_200);
        assert!((low..=high).contains(gap), "{gaps:?}");
    }
    let state = world.state_of(4).expect("known");
    assert!(state.quarantined && state.status.as_str() == "failed", "{state:?}");
    let quarantined = world.history().suppressed();
    assert!(quarantined[0].0 <= T0 + 240 * SECOND, "{quarantined:?}");
    assert!(world.history().alarms().iter().any(|(_, kind)| *kind == "crash_loop"));
    assert_eq!(world.history().brakes(), []);
}

/// Scenario 17, later: three tries out of quarantine, then only a person can help.
#[test]
fn a_quarantined_workspace_is_tried_three_times_and_then_left_to_a_person() {
    let mut world = calm();
    after(&mut world, 0, Fault::CrashLoop { whom: Some(4), after: 5 * SECOND, lasts: 200 * MINUTE });
    after(&mut world, SECOND, Fault::Exit { whom: 4, status: 1 });
    world.run(T0 + 120 * MINUTE);
    nothing_wrong(&world);
    let tries =
        world.history().fleet().filter(|(_, event, _)| matches!(event, Event::QuarantineProbed(_))).count();
    assert_eq!((tries, world.history().restarts_of(4).len()), (3, 8));
}

/// Scenario 18: it heals with the fourth start; after ten quiet minutes the count begins anew.
#[test]
fn a_crash_loop_that_heals_is_forgotten_after_ten_minutes() {
    let mut world = calm();
    after(&mut world, 0, Fault::CrashLoop { whom: Some(4), after: 5 * SECOND, lasts: 40 * SECOND });
    after(&mut world, SECOND, Fault::Exit { whom: 4, status: 1 });
    world.run(T0 + 4 * MINUTE);
    assert_eq!(world.history().restarts_of(4).len(), 4, "{:?}", since(&world.history().restarts_of(4)));
    assert!(world.is_healed(), "{}", world.ailing());
    after(&mut world, 13 * MINUTE, Fault::Exit { whom: 4, status: 1 });
    world.run(T0 + 15 * MINUTE);
    nothing_wrong(&world);
    let (_, last) = *world.history().admitted().last().expect("admitted again");
    let inputs = last.inputs.as_ref().expect("recorded");
    assert_eq!((inputs.in_a_row, inputs.recent), (0, 0));
}
