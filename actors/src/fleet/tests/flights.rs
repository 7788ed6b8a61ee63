//! Flights: which brakes ask for one, and what is done when one is late or doubled.

use covalence_events::fleet::{FlightCounts, FlightLost, FlightRecorded};

use super::*;
use crate::fleet::state::FlightDue;

fn flight(at: Timestamp) -> Command {
    Command::RecordFlight(Ok(Box::new(FlightRecorded {
        cell: BackendKind::Process,
        since: at,
        beats_since: at,
        until: at,
        cut: false,
        counts: FlightCounts::default(),
        observations: Vec::new().into(),
    })))
}

fn lost() -> Command {
    let reason = "platform_ended".to_owned();
    Command::RecordFlight(Err(FlightLost { cell: BackendKind::Process, reason }))
}

impl Fleet {
    /// Engages the brake and releases it; what it asks for.
    fn brake(&mut self) -> Option<FlightDue> {
        self.when(&Command::RecordSurvey(Survey { score: 4, ..calm() }));
        let due = self.effects.iter().find_map(|effect| match effect {
            Effect::RecordFlight(due) => Some(*due),
            _ => None,
        });
        self.after(Duration::from_secs(31));
        self.when(&Command::RecordSurvey(calm()));
        due
    }

    fn answered(&mut self, due: FlightDue, command: &Command) -> Vec<&'static str> {
        tags(&self.when_because(Some(due.brake), command))
    }
}

const RECORDED: &str = "fleet.flight_recorded.v1";

#[test]
fn a_brake_asks_for_a_flight_and_takes_one() {
    let mut fleet = Fleet::of(15);
    let due = fleet.brake().unwrap();
    assert_eq!(outstanding(&fleet.state), [Effect::RecordFlight(due)], "also after a crash");
    let now = fleet.now;
    assert_eq!(fleet.answered(due, &flight(now)), [RECORDED]);
    assert_eq!(fleet.answered(due, &flight(now)), [""; 0], "it came twice");
    assert_eq!(fleet.answered(due, &lost()), [""; 0]);
    assert_eq!(outstanding(&fleet.state), []);
    assert_eq!(tags(&fleet.when(&flight(now))), [""; 0], "nobody asked for it");
}

#[test]
fn a_brake_within_five_minutes_of_a_flight_asks_for_none() {
    let mut fleet = Fleet::of(15);
    let due = fleet.brake().unwrap();
    let now = fleet.now;
    fleet.answered(due, &flight(now));
    fleet.after(Duration::from_secs(299));
    assert_eq!(fleet.brake(), None);
    assert_eq!(outstanding(&fleet.state), []);
    assert!(fleet.brake().is_some(), "31 s later it is long enough ago");
}

#[test]
fn a_flight_that_was_lost_is_no_reason_to_do_without_the_next() {
    let mut fleet = Fleet::of(15);
    let due = fleet.brake().unwrap();
    assert_eq!(fleet.answered(due, &lost()), ["fleet.flight_lost.v1"]);
    assert!(fleet.brake().is_some());
}

#[test]
fn one_that_never_came_does_not_stand_in_the_way_of_later_ones_and_is_not_taken_for_them() {
    let mut fleet = Fleet::of(15);
    let first = fleet.brake().unwrap();
    assert_eq!(fleet.brake(), None, "one is on its way");
    fleet.after(Duration::from_secs(300));
    let second = fleet.brake().unwrap();
    let now = fleet.now;
    assert_eq!(fleet.answered(first, &flight(now)), [""; 0]);
    assert_eq!(fleet.answered(second, &flight(now)), [RECORDED]);
}
