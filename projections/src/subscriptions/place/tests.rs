//! Places: whatever consumers, time and crashes do, nothing is skipped.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

fn id() -> EventId {
    EventId(uuid::Uuid::nil())
}

fn refusal() -> Nack {
    Nack { reason: "no".to_owned(), retry_after: None, park: false }
}

fn workspace() -> WorkspaceId {
    WorkspaceId(uuid::Uuid::from_u128(1))
}

/// What a consumer, time and a crash may do.
#[derive(Clone, Debug)]
enum Step {
    /// This much is new; whether each is wanted.
    New(Vec<bool>),
    Again,
    Ack(usize),
    Nack(usize, bool),
    Pass(u64),
    TakeBack,
    /// The process ends; what was kept is what the last settlement wrote.
    Crash,
    Replay,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop::collection::vec(any::<bool>(), 1..6).prop_map(Step::New),
        3 => Just(Step::Again),
        4 => (0usize..8).prop_map(Step::Ack),
        2 => ((0usize..8), any::<bool>()).prop_map(|(n, park)| Step::Nack(n, park)),
        2 => (1u64..90).prop_map(Step::Pass),
        1 => Just(Step::TakeBack),
        1 => Just(Step::Crash),
        1 => Just(Step::Replay),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_nothing_is_skipped_and_nothing_that_was_settled_comes_again(
        steps in prop::collection::vec(any_step(), 1..80),
    ) {
        let mut now = Instant::now();
        let mut place = Place::before(Position(1));
        let mut kept = serde_json::to_vec(&place).unwrap();
        // What the log holds that is wanted, and what was settled and kept.
        let (mut wanted, mut settled) = (BTreeSet::new(), BTreeSet::new());
        let mut with_consumer: Vec<Position> = Vec::new();
        let mut log: Vec<bool> = Vec::new();
        for step in steps {
            match step {
                Step::New(facts) => {
                    log.extend(facts);
                    while let Some(is_wanted) = log.get(usize::try_from(place.next().0).unwrap() - 1) {
                        let position = place.next();
                        if *is_wanted {
                            wanted.insert(position);
                            let sent = place.send((position, id()), Some(workspace()), now + PATIENCE);
                            prop_assert!(!settled.contains(&sent.position), "{position} was settled");
                            with_consumer.push(position);
                        } else {
                            place.pass(position, id());
                        }
                    }
                }
                Step::Again => {
                    for sent in place.send_again(now, now + PATIENCE, usize::MAX) {
                        prop_assert!(!settled.contains(&sent.position), "{} was settled", sent.position);
                        prop_assert!(sent.attempt <= DELIVERIES_MAX);
                        with_consumer.push(sent.position);
                    }
                }
                Step::Ack(n) if n < with_consumer.len() => {
                    let position = with_consumer.remove(n);
                    // Parked meanwhile, or settled by another copy: then it says nothing.
                    if place.ack([position]) == 1 {
                        settled.insert(position);
                    }
                    kept = serde_json::to_vec(&place).unwrap();
                }
                Step::Nack(n, park) if n < with_consumer.len() => {
                    let position = with_consumer.remove(n);
                    place.nack(position, &Nack { park, ..refusal() }, 3, now);
                    kept = serde_json::to_vec(&place).unwrap();
                }
                Step::Pass(seconds) => now += Duration::from_secs(seconds),
                Step::TakeBack => {
                    place.take_back();
                    with_consumer.clear();
                }
                Step::Crash => {
                    place = serde_json::from_slice(&kept).unwrap();
                    with_consumer.clear();
                }
                Step::Replay => {
                    place.replay(None);
                    kept = serde_json::to_vec(&place).unwrap();
                }
                Step::Ack(_) | Step::Nack(..) => {}
            }
            let (checkpoint, next) = (place.checkpoint(), place.next());
            for position in wanted.range(..next) {
                let held = place.open.contains_key(position) || place.parked.contains_key(position);
                prop_assert_eq!(held, !settled.contains(position), "{} is nowhere, or twice", position);
                prop_assert!(*position > checkpoint || place.open.get(position).is_none_or(|open| open.replayed));
            }
        }
        // In the end all of it can be settled.
        place.replay(None);
        now += Duration::from_secs(3600);
        let left = place.send_again(now, now, usize::MAX);
        place.ack(left.iter().map(|sent| sent.position));
        prop_assert_eq!((place.open(), place.checkpoint()), (0, Position(place.next().0 - 1)));
    }
}

#[test]
fn a_refused_fact_comes_again_after_pauses_that_double_and_is_then_parked_with_the_last_reason() {
    let (mut place, mut now) = (Place::before(Position(7)), Instant::now());
    place.send((Position(7), id()), None, now + PATIENCE);
    for (attempt, pause) in [(1, 1), (2, 2), (3, 4)] {
        let reason = format!("no, {attempt}");
        assert!(!place.nack(Position(7), &Nack { reason, ..refusal() }, 4, now));
        let due = now + Duration::from_secs(pause);
        assert_eq!(place.next_due(), Some(due));
        let too_soon = now + Duration::from_secs(pause).saturating_sub(Duration::from_millis(1));
        assert_eq!(place.send_again(too_soon, due, 9), []);
        now = due;
        let again = Delivery { position: Position(7), attempt: attempt + 1, replayed: false };
        assert_eq!(place.send_again(now, now + PATIENCE, 9), [again]);
        assert_eq!(place.checkpoint(), Position(6));
    }
    assert!(place.nack(Position(7), &Nack { reason: "ä".repeat(300), ..refusal() }, 4, now));
    assert_eq!((place.checkpoint(), place.open()), (Position(7), 0));
    let parked = &place.parked()[&Position(7)];
    assert_eq!((parked.deliveries, parked.nacks, parked.reason.as_str()), (4, 4, &*"ä".repeat(250)));
    assert_eq!(place.replay(Some(&[Position(7), Position(7), Position(8)])), 1);
    assert_eq!(place.checkpoint(), Position(7), "what is replayed lies behind it");
    let again = Delivery { position: Position(7), attempt: 1, replayed: true };
    assert_eq!(place.send_again(now, now + PATIENCE, 9), [again]);
    assert_eq!(place.ack([Position(7)]), 1);
}

#[test]
fn what_nobody_says_a_word_about_is_parked_in_the_end() {
    let (mut place, mut now) = (Place::before(Position(1)), Instant::now());
    place.send((Position(1), id()), None, now + PATIENCE);
    for _ in 1..DELIVERIES_MAX {
        now += PATIENCE;
        assert_eq!(place.send_again(now, now + PATIENCE, 9).len(), 1);
    }
    now += PATIENCE;
    assert_eq!(place.send_again(now, now + PATIENCE, 9), []);
    assert_eq!(place.parked()[&Position(1)].reason, NEVER_SETTLED);
}

#[test]
fn where_too_many_are_parked_the_next_is_tried_again_and_in_the_end_nothing_new_is_sent() {
    let (mut place, now) = (Place::before(Position(1)), Instant::now());
    let park = Nack { park: true, ..refusal() };
    for n in 1..=PARKED_MAX as u64 {
        place.send((Position(n), id()), None, now + PATIENCE);
        assert!(place.nack(Position(n), &park, 9, now));
    }
    let one_more = Position(PARKED_MAX as u64 + 1);
    place.send((one_more, id()), None, now + PATIENCE);
    assert!(!place.nack(one_more, &park, 9, now));
    assert_eq!((place.parked().len(), place.next_due()), (PARKED_MAX, Some(now + RETRY_CAP)));
    while place.room() > 0 {
        place.send((place.next(), id()), None, now + PATIENCE);
    }
    assert_eq!(place.open(), WINDOW);
    assert_eq!(place.give_up(Some(&[Position(1)])), 1);
    assert_eq!(place.send_again(now + RETRY_CAP, now + RETRY_CAP, 1)[0].position, one_more);
    assert!(place.nack(one_more, &park, 9, now), "there is room again");
}

#[test]
fn what_was_said_about_a_workspace_is_forgotten_with_it() {
    let (mut place, now) = (Place::before(Position(1)), Instant::now());
    for (n, about) in [(1, Some(workspace())), (2, Some(workspace())), (3, None)] {
        place.send((Position(n), id()), about, now + PATIENCE);
        let reason = "Ada can't be reached".to_owned();
        place.nack(Position(n), &Nack { reason, park: n > 1, ..refusal() }, 9, now);
    }
    assert!(place.forget(workspace()));
    assert!(!place.forget(workspace()));
    let kept = serde_json::to_string(&place).unwrap();
    assert_eq!(kept.matches("Ada").count(), 1, "{kept}");
    assert_eq!(place.parked()[&Position(2)].reason, covalence_events::seal::ERASED);
}
