//! Who stands where, and who may talk to whom.

use covalence_events::workspace::{Moved, Paused, Removed};

use super::roster::fold;
use crate::roster::hierarchy::DEPTH_MAX;
use crate::roster::{AccessRule, RootTalk, Roster};
use crate::testing::{History, created, id};

/// Roots 1 and 2; under 1: 10 and 11; under 10: 100; under 2: 20.
fn family() -> History {
    let mut history = History::default();
    for (number, parent) in
        [(1, None), (2, None), (10, Some(1)), (11, Some(1)), (100, Some(10)), (20, Some(2))]
    {
        history.of(number, created(&format!("w{number}"), parent));
    }
    history
}

fn numbers(rows: &[std::sync::Arc<crate::Row>]) -> Vec<u128> {
    rows.iter().map(|row| row.id.0.as_u128()).collect()
}

fn rule(roster: &Roster, caller: u128, target: u128, roots: RootTalk) -> AccessRule {
    roster.can_communicate(id(caller), id(target), roots).rule
}

#[test]
fn the_first_rule_that_fits_decides_about_a_call() {
    let roster = fold(&family());
    for (caller, target, expected) in [
        (1, 1, AccessRule::Same),
        (99, 99, AccessRule::Same),
        (1, 99, AccessRule::Unknown),
        (99, 1, AccessRule::Unknown),
        (10, 11, AccessRule::Siblings),
        (1, 2, AccessRule::Roots),
        (1, 10, AccessRule::Parent),
        (10, 1, AccessRule::Parent),
        (1, 100, AccessRule::Ancestor),
        (100, 1, AccessRule::Ancestor),
        (11, 100, AccessRule::Unrelated),
        (2, 10, AccessRule::Unrelated),
        (20, 10, AccessRule::Unrelated),
    ] {
        assert_eq!(rule(&roster, caller, target, RootTalk::Open), expected, "{caller} -> {target}");
    }
}

#[test]
fn what_a_rule_rests_on_is_the_way_between_the_two() {
    let roster = fold(&family());
    for (caller, target, way) in [
        (1, 1, vec![1]),
        (10, 11, vec![10, 1, 11]),
        (1, 2, vec![1, 2]),
        (10, 1, vec![10, 1]),
        (1, 100, vec![1, 10, 100]),
        (100, 1, vec![100, 10, 1]),
        (2, 100, vec![]),
        (1, 99, vec![]),
    ] {
        let rule = rule(&roster, caller, target, RootTalk::Open);
        let edge = roster.edge(id(caller), id(target), rule);
        let edge: Vec<u128> = edge.iter().map(|id| id.0.as_u128()).collect();
        assert_eq!(edge, way, "{caller} -> {target}");
    }
}

#[test]
fn strict_roots_do_not_talk_to_each_other_and_everything_else_stays() {
    let roster = fold(&family());
    assert_eq!(rule(&roster, 1, 2, RootTalk::Strict), AccessRule::Unrelated);
    assert_eq!(rule(&roster, 10, 11, RootTalk::Strict), AccessRule::Siblings);
    assert_eq!(rule(&roster, 100, 1, RootTalk::Strict), AccessRule::Ancestor);
    assert_eq!(numbers(&roster.peers(id(1), RootTalk::Strict).unwrap()), [10, 11]);
}

#[test]
fn status_plays_no_part_in_who_may_talk_to_whom() {
    let mut history = family();
    history.of(10, Paused {});
    history.of(11, Removed { cascade_deleted: None, purge: false, forwarded_to: None });
    let roster = fold(&history);
    assert_eq!(rule(&roster, 10, 11, RootTalk::Open), AccessRule::Siblings);
}

#[test]
fn a_cycle_is_denied_and_walked_once() {
    let mut history = family();
    history.of(1, Moved { parent: Some(id(100)) });
    let roster = fold(&history);
    assert_eq!(rule(&roster, 20, 11, RootTalk::Open), AccessRule::Broken);
    assert!(roster.ancestors(id(1)).is_err());
    assert_eq!(numbers(&roster.descendants(id(1))), [10, 11, 100]);
}

#[test]
fn ancestors_end_after_a_bounded_walk() {
    let mut history = History::default();
    history.of(0, created("top", None));
    let deepest = DEPTH_MAX as u128 + 1;
    for number in 1..=deepest {
        history.of(number, created("below", Some(number - 1)));
    }
    let roster = fold(&history);
    assert_eq!(roster.ancestors(id(deepest - 1)).unwrap().len(), DEPTH_MAX);
    assert!(roster.ancestors(id(deepest)).is_err());
}

#[test]
fn peers_are_siblings_then_children_then_the_parent() {
    let mut history = family();
    let roster = fold(&history);
    assert_eq!(numbers(&roster.peers(id(10), RootTalk::Open).unwrap()), [11, 100, 1]);
    assert_eq!(numbers(&roster.peers(id(1), RootTalk::Open).unwrap()), [2, 10, 11]);
    assert!(roster.peers(id(99), RootTalk::Open).is_none());
    history.of(11, Removed { cascade_deleted: None, purge: false, forwarded_to: None });
    assert_eq!(numbers(&fold(&history).peers(id(10), RootTalk::Open).unwrap()), [100, 1]);
}

#[test]
fn moving_a_workspace_takes_its_subtree_along() {
    let mut history = family();
    history.of(10, Moved { parent: Some(id(2)) });
    let roster = fold(&history);
    assert_eq!(numbers(&roster.children(id(1))), [11]);
    assert_eq!(numbers(&roster.descendants(id(2))), [10, 20, 100]);
    assert_eq!(numbers(&roster.ancestors(id(100)).unwrap()), [10, 2]);
}
