//! Which flight belongs to which incident, and how it is said.

use covalence_events::fleet::{BrakeReading, BrakeReleased};
use covalence_events::flight::{Observation, Observed as Saw, Packed, Question, Shown, ShownState};
use covalence_events::workspace::BackendKind;
use covalence_events::{Generation, IncidentId};

use super::*;
use crate::testing::{LEAD, Story, id, who};
use crate::{Weight, Who, incident};

const CELL: BackendKind = BackendKind::Process;

fn recorded(observations: &[Observation], since: DateTime<Utc>, until: DateTime<Utc>) -> FlightRecorded {
    let counts = FlightCounts {
        observations: 3,
        lists: fleet::Answers { answered: 2, failed: 1, slow: 1, slowest_ms: 3000, pending: 1 },
        beats: 7,
        ..FlightCounts::default()
    };
    let observations = Packed::of(observations).unwrap();
    FlightRecorded { cell: CELL, since, beats_since: since, until, cut: false, counts, observations }
}

fn released() -> BrakeReleased {
    let reading = BrakeReading::default();
    BrakeReleased { cell: CELL, reason: "trigger_gone".to_owned(), after_ms: 1, reading }
}

#[tokio::test]
async fn flights_belong_to_the_incident_whose_brake_they_come_from_and_the_first_that_is_there_is_shown() {
    let mut story = Story::of_lead();
    let asked = Saw::Asked { question: Question::List, workspace: None, generation: None };
    let line = Observation { at: story.now(), cell: Some(CELL), what: asked };
    let first = story.brake(&[LEAD]);
    let opened = IncidentId(story.incident(first).0);
    story.decided(Some(first), FlightLost { cell: CELL, reason: "platform_ended".to_owned() });
    story.after(1000).fleet(released());
    let second = story.after(60_000).brake(&[LEAD]);
    let (since, until) = (story.now() - chrono::TimeDelta::minutes(15), story.now());
    story.decided(Some(second), recorded(&[line], since, until));
    let log = story.log().await;
    let who = who(&log).await;
    let incident = incident::find(&log, opened, &who).await.unwrap();
    let listed = incident::list(&log, 10, &who).await.unwrap().incidents;
    assert_eq!(listed, std::slice::from_ref(&incident));
    let summaries: Vec<_> = incident.flights.iter().map(Flight::summary).collect();
    assert_eq!(
        summaries,
        [
            "lost: the process that had observed ended before it wrote",
            "3 observations of 15 min 0 s: 2 lists, the slowest 3.0 s, 1 failed, 1 slow, 1 without an answer; 7 heartbeats",
        ]
    );
    let text = String::from_utf8(lines(&log, &incident, None).await.unwrap()).unwrap();
    assert!(text.ends_with("\"what\":\"asked\",\"question\":\"list\"}\n"), "{text}");
    let at = incident.flights[1].position;
    assert_eq!(lines(&log, &incident, Some(at)).await.unwrap(), text.as_bytes());
    for (position, why) in [
        (
            Some(incident.flights[0].position),
            "it is lost: the process that had observed ended before it wrote",
        ),
        (Some(1), "this incident has no flight at position 1"),
    ] {
        let refused = lines(&log, &incident, position).await.unwrap_err();
        assert!(matches!(&refused, Failure::NoFlight(said) if said == why), "{refused}");
    }
}

#[tokio::test]
async fn an_incident_without_flights_says_so() {
    let mut story = Story::of_lead();
    let brake = story.brake(&[LEAD]);
    let opened = IncidentId(story.incident(brake).0);
    let log = story.log().await;
    let incident = incident::find(&log, opened, &Who::default()).await.unwrap();
    let refused = lines(&log, &incident, None).await.unwrap_err();
    assert_eq!(refused.to_string(), "no brake of this incident left a flight");
}

#[test]
fn a_list_says_what_it_shows_otherwise_and_names_no_more_than_a_line_bears() {
    let mut who = Who::default();
    who.know(id(LEAD), "lead", None);
    let shown = |n: u128, state| Shown {
        instance: format!("{n:064x}").into(),
        workspace: (n == LEAD).then(|| id(n)),
        generation: Some(Generation(2)),
        state,
        exit_status: (state == ShownState::Stopped).then_some(137),
    };
    let mut changed = vec![shown(LEAD, ShownState::Stopped)];
    changed.extend((1..=9).map(|n| shown(n, ShownState::Gone)));
    let what = Saw::Listed { took_us: 1_200_000, running: 3, stopped: 1, between: 0, changed };
    let (weight, words) = say(&Observation { at: crate::testing::at(0), cell: Some(CELL), what }, &who);
    assert_eq!(weight, Weight::Doubt, "it took more than a second");
    let begin = "list after 1.2 s: 3 run, 1 stopped, 0 between; otherwise than before: lead generation 2 stopped, \
                 exit status 137 (SIGKILL), a stranger (";
    assert!(words.starts_with(begin) && words.ends_with(", and 2 more"), "{words}");
}
