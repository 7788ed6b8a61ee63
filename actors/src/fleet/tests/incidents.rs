//! Incidents: opened by a brake that engages, or by a person; noted on and closed by people.

use covalence_events::IncidentId;

use super::*;
use crate::fleet::NewIncident;

impl Fleet {
    /// Engages the brake by a bad score, and releases it.
    fn flap(&mut self) -> Vec<&'static str> {
        let mut facts = self.when(&Command::RecordSurvey(Survey { score: 4, ..calm() }));
        self.after(Duration::from_secs(31));
        facts.extend(self.when(&Command::RecordSurvey(calm())));
        tags(&facts)
    }

    fn incidents(&self) -> Vec<IncidentId> {
        self.state.incidents.keys().copied().collect()
    }
}

const OPENED: &str = "fleet.incident_opened.v1";

#[test]
fn a_brake_opens_an_incident_that_bears_the_id_of_its_fact_and_comes_from_the_brake() {
    let mut fleet = Fleet::of(15);
    assert!(fleet.flap().contains(&OPENED));
    let opening = fleet.chain.iter().find(|(_, _, tag)| *tag == OPENED).copied().unwrap();
    let brake = fleet.chain.iter().find(|(_, _, tag)| *tag == "fleet.brake_engaged.v1").copied().unwrap();
    assert_eq!(opening.1, Some(brake.0));
    assert_eq!(fleet.incidents(), [IncidentId(opening.0.0)]);
}

#[test]
fn a_brake_that_flaps_opens_one_incident_and_after_ten_quiet_minutes_another() {
    let mut fleet = Fleet::of(15);
    let mut facts = Vec::new();
    for _ in 0..10 {
        facts.extend(fleet.flap());
        fleet.after(Duration::from_secs(500));
    }
    let count = |facts: &[&str], tag| facts.iter().filter(|known| **known == tag).count();
    assert_eq!(count(&facts, "fleet.brake_engaged.v1"), 10);
    assert_eq!(count(&facts, OPENED), 1);
    fleet.after(Duration::from_secs(101));
    assert!(fleet.flap().contains(&OPENED));
}

#[test]
fn a_brake_after_its_incident_was_closed_opens_another() {
    let mut fleet = Fleet::of(15);
    fleet.flap();
    let incident = fleet.incidents()[0];
    let close = Command::CloseIncident { incident, comment: Some("a full disk".to_owned()) };
    assert_eq!(tags(&fleet.when(&close)), ["fleet.incident_closed.v1"]);
    assert!(fleet.flap().contains(&OPENED));
    assert_eq!(fleet.incidents().len(), 2);
}

#[test]
fn a_change_of_a_brake_s_mode_opens_nothing_even_after_its_incident_was_closed() {
    let mut fleet = Fleet::of(15);
    fleet.when(&Command::RecordSurvey(Survey { score: 4, ..calm() }));
    let incident = fleet.incidents()[0];
    fleet.when(&Command::CloseIncident { incident, comment: None });
    let dead = (1..=6).map(workspace).collect();
    let events = fleet.when(&Command::RecordSurvey(Survey { dead, score: 4, ..calm() }));
    assert_eq!(tags(&events)[..1], ["fleet.brake_engaged.v1"]);
    assert_eq!(fleet.incidents().len(), 1);
}

#[test]
fn a_person_opens_notes_and_closes_an_incident_once() {
    let mut fleet = Fleet::of(15);
    let wish = NewIncident { title: "slow answers".to_owned(), ..NewIncident::default() };
    assert_eq!(tags(&fleet.when(&Command::OpenIncident(Box::new(wish)))), [OPENED]);
    let incident = fleet.incidents()[0];
    let note = Command::NoteIncident { incident, text: "it was the proxy".to_owned() };
    assert_eq!(tags(&fleet.when(&note)), ["fleet.incident_noted.v1"]);
    let close = Command::CloseIncident { incident, comment: None };
    fleet.when(&close);
    assert_eq!(fleet.try_when(&close), Err(Rejection::IncidentClosed));
    assert_eq!(tags(&fleet.when(&note)), ["fleet.incident_noted.v1"], "what is learned later");
    let unknown = IncidentId(Uuid::from_u128(77));
    let note = Command::NoteIncident { incident: unknown, text: "?".to_owned() };
    assert_eq!(fleet.try_when(&note), Err(Rejection::NoSuchIncident));
    let close = Command::CloseIncident { incident: unknown, comment: None };
    assert_eq!(fleet.try_when(&close), Err(Rejection::NoSuchIncident));
}
