//! What holds for every history: two folds are equal however the facts arrive, and indexes agree with the rows.

use std::sync::Arc;

use covalence_events::workspace::{
    CallOutcome, Degraded, Event, Moved, OnlineVia, Paused, Removed as RemovedFact, Renamed, StopReason,
    StopRequested, TokensRevoked, WentOffline,
};
use covalence_events::{Generation, Position, Principal};
use proptest::prelude::*;

use crate::Views;
use crate::roster::{Removed, Roster, Status};
use crate::runner::Restored;
use crate::testing::{
    History, beat, call, created, external, id, online, provision, registered, started, token,
};

/// Few enough that they meet often.
const WORKSPACES: u128 = 5;

fn event() -> impl Strategy<Value = Event> {
    let number = 0..WORKSPACES;
    prop_oneof![
        (1_u64..4).prop_map(|generation| provision(generation).into()),
        (1_u64..4).prop_map(|generation| started(generation).into()),
        (1_u64..4).prop_map(|generation| beat(generation).into()),
        Just(registered(Some("http://x")).into()),
        Just(online(OnlineVia::Heartbeat, "offline").into()),
        Just(WentOffline { rule: "r".to_owned(), message: Some("m".to_owned()) }.into()),
        Just(Degraded { error_rate: 0.6, sample_error: "e".to_owned(), runtime_state: String::new() }.into()),
        Just(StopRequested { generation: Generation(1), reason: StopReason::Pause }.into()),
        Just(Paused {}.into()),
        Just(RemovedFact { cascade_deleted: None, purge: false, forwarded_to: None }.into()),
        "[a-c]{1,2}".prop_map(|name| Renamed { name }.into()),
        proptest::option::of(number.clone()).prop_map(|parent| Moved { parent: parent.map(id) }.into()),
        number.prop_map(|caller| call(Principal::Workspace(id(caller)), CallOutcome::Answered, 7).into()),
        (0_u8..4).prop_map(|number| token(number).into()),
        Just(TokensRevoked { tokens: Vec::new(), reason: "rotated".to_owned() }.into()),
    ]
}

fn history() -> impl Strategy<Value = History> {
    proptest::collection::vec((0..WORKSPACES, event()), 0..80).prop_map(|facts| {
        let mut history = History::default();
        for number in 0..WORKSPACES {
            let parent = number.checked_sub(2);
            if number == 4 {
                history.of(number, external("x", None))
            } else {
                history.of(number, created("w", parent))
            };
        }
        for (number, event) in facts {
            history.of(number, event);
        }
        history
    })
}

fn folded(history: &History) -> Views {
    let mut views = Views::new();
    for recorded in &history.0 {
        views.fold(recorded);
    }
    views
}

fn assert_same(left: &Views, right: &Views) -> Result<(), TestCaseError> {
    prop_assert_eq!(&*left.roster.read(), &*right.roster.read());
    prop_assert_eq!(&*left.credentials.read(), &*right.credentials.read());
    prop_assert_eq!(&*left.structure.read(), &*right.structure.read());
    prop_assert_eq!(&*left.calls.read(), &*right.calls.read());
    prop_assert_eq!(&*left.supervision.read(), &*right.supervision.read());
    Ok(())
}

fn assert_indexes(roster: &Roster) -> Result<(), TestCaseError> {
    let rows = roster.list(Removed::Show);
    for status in Status::ALL {
        let counted = rows.iter().filter(|row| row.status == status).count();
        prop_assert_eq!(roster.counts().of(status), counted);
    }
    for row in &rows {
        let children: Vec<_> = rows
            .iter()
            .filter(|child| child.parent == Some(row.id) && child.status != Status::Removed)
            .map(|child| child.id)
            .collect();
        prop_assert_eq!(roster.children(row.id).iter().map(|child| child.id).collect::<Vec<_>>(), children);
    }
    Ok(())
}

proptest! {
    #[test]
    fn following_in_batches_with_repetitions_equals_one_fold(history in history(), size in 1_usize..9) {
        let whole = folded(&history);
        let followed = Views::new();
        for (index, batch) in history.0.chunks(size).enumerate() {
            followed.apply(batch);
            // As after a crash: some facts come again, from a little before.
            let from = (index * size).saturating_sub(3);
            followed.apply(&history.0[from..(index * size + batch.len())]);
        }
        assert_same(&whole, &followed)?;
        prop_assert_eq!(followed.checkpoint().0, history.0.len() as u64);
    }

    #[test]
    fn a_state_that_was_written_and_read_back_goes_on_as_the_one_it_was(history in history(), cut in 0_usize..85) {
        let whole = folded(&history);
        let (before, after) = history.0.split_at(cut.min(history.0.len()));
        let mut begun = Views::new();
        for recorded in before {
            begun.fold(recorded);
        }
        let position = Position(before.len() as u64);
        let mut restored = Restored::default();
        for state in begun.encode(position).unwrap() {
            restored.add(state.name, state.version, &state.bytes).unwrap();
        }
        let mut restored = restored.views(position).unwrap();
        assert_same(&begun, &restored)?;
        for recorded in after {
            restored.fold(recorded);
        }
        assert_same(&whole, &restored)?;
        let prints = |views: &Views| views.each().map(|view| view.fingerprint().unwrap());
        prop_assert_eq!(prints(&whole), prints(&restored));
    }

    #[test]
    fn counts_and_children_agree_with_the_rows(history in history()) {
        assert_indexes(&folded(&history).roster.read())?;
    }

    #[test]
    fn who_may_call_whom_is_symmetric(history in history(), one in 0..WORKSPACES, other in 0..WORKSPACES) {
        let views = folded(&history);
        let roster = views.roster.read();
        let there = roster.can_communicate(id(one), id(other), crate::roster::RootTalk::Open);
        let back = roster.can_communicate(id(other), id(one), crate::roster::RootTalk::Open);
        prop_assert_eq!(there, back);
    }

    #[test]
    fn a_row_held_by_a_reader_never_changes(history in history(), cut in 0_usize..80) {
        let mut views = Views::new();
        let cut = cut.min(history.0.len());
        for recorded in &history.0[..cut] {
            views.fold(recorded);
        }
        let held = views.roster.read().list(Removed::Show);
        let copies: Vec<_> = held.iter().map(|row| (**row).clone()).collect();
        for recorded in &history.0[cut..] {
            views.fold(recorded);
        }
        prop_assert!(held.iter().map(Arc::as_ref).eq(copies.iter()));
    }
}
