//! Cases as files, and what is held against what.

use std::sync::Arc;

use chrono::Utc;
use covalence_events::log::EventLog as _;
use covalence_events::{Position, Recorded};

use super::*;
use crate::testing::{LEAD, Story, at, id, restart};

async fn case() -> Case {
    let mut story = Story::of_lead();
    story.after(1000).death(LEAD, restart(1));
    let log = story.log().await;
    let facts: Vec<Arc<Recorded>> = log.read_all(Position(1), 1000).await.unwrap();
    let decision = |position: u64, decided: &str| Decision {
        position,
        at: at(0),
        kind: "verdict".to_owned(),
        workspace: Some(id(LEAD)),
        recorded: decided.to_owned(),
        decided: decided.to_owned(),
    };
    let decisions = vec![decision(5, "dead"), decision(7, "alive")];
    let explained = explained(&facts, &decisions).await.unwrap();
    let header = Header {
        format: 0,
        name: "one".to_owned(),
        about: "a death".to_owned(),
        made_by: "0.0.0".to_owned(),
        since: at(0),
        until: Utc::now(),
        workspaces: BTreeSet::new(),
        facts: 0,
        left_out: 0,
        policy: policy_in_force(&facts),
        digest: String::new(),
        expected: Expected { decisions, explained },
    };
    Case { header, facts }
}

#[tokio::test]
async fn a_file_gives_back_the_facts_at_their_places() {
    let mut case = case().await;
    // A gap, as where beats are left out.
    case.facts.remove(2);
    let (facts, expected) = (case.facts.clone(), case.header.expected.clone());
    let file = case.write().unwrap();
    assert!(file.starts_with(b"{\n  \"format\": 1,"), "a person can read what it is");
    let read = Case::read(&file).unwrap();
    assert_eq!((&read.facts, &read.header.expected), (&facts, &expected));
    let log = read.log();
    assert_eq!(log.head(), facts.last().unwrap().position);
    let at = facts[3].position;
    assert_eq!(log.read_all(at, 1).await.unwrap(), [Arc::clone(&facts[3])]);
    assert_eq!(log.find(facts[3].meta.id).await.unwrap(), Some(at));
    assert!(expected.explained[0].line.starts_with("lead died"), "{expected:?}");
}

#[tokio::test]
async fn a_damaged_file_and_a_newer_one_are_refused() {
    let file = case().await.write().unwrap();
    let mut damaged = file.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(matches!(Case::read(&damaged), Err(CaseError::NoCase(_))));
    assert!(matches!(Case::read(&file[..file.len() / 2]), Err(CaseError::NoCase(_))));
    assert!(matches!(Case::read(b"no case"), Err(CaseError::NoCase(_))));
    let text = String::from_utf8_lossy(&file).replacen("\"format\": 1", "\"format\": 9", 1);
    assert!(matches!(Case::read(text.as_bytes()), Err(CaseError::NewerFormat { found: 9, known: 1 })));
}

#[tokio::test]
async fn another_decision_a_missing_one_and_a_new_one_are_told_apart() {
    let expected = case().await.header.expected;
    assert_eq!(compare(&expected, &expected), []);
    let mut today = expected.clone();
    today.decisions[0].decided = "alive".to_owned();
    today.decisions[1].position = 9;
    today.explained.clear();
    let words = |one: &Mismatch| (one.position, one.expected.clone(), one.today.clone());
    let some = |text: &str| Some(text.to_owned());
    let found: Vec<_> = compare(&expected, &today).iter().map(words).collect();
    assert_eq!(
        found,
        [
            (Some(5), some("dead"), some("alive")),
            (Some(7), some("alive"), None),
            (Some(9), None, some("alive")),
            (None, Some(expected.explained[0].line.clone()), None),
        ]
    );
}
