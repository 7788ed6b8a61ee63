//! Which fact is which event to clients.

use covalence_events::workspace::{
    CardUpdated, Degraded, Event, OnlineVia, Paused, Placed, ProvisionFailed, Removed, Renamed, Resumed,
    TeamCollapsed, TeamExpanded, TeamMember, TierChanged, WentOffline,
};
use covalence_events::{Generation, Position};
use serde_json::{Value, json};

use crate::Projection;
use crate::structure::{NEWEST, Structure};
use crate::testing::{History, at, beat, created, external, id, online, provision, registered, started};

fn fold(history: &History) -> Structure {
    let mut structure = Structure::default();
    for recorded in &history.0 {
        structure.apply(recorded).unwrap();
    }
    structure
}

/// The event that a fact is, after `created`.
fn told(event: impl Into<Event>) -> Option<(&'static str, Value)> {
    let mut history = History::default();
    history.of(1, created("a", None));
    history.of(1, event);
    let newest = fold(&history).newest(1);
    newest.first().map(|event| (event.event_type, event.payload.to_value()))
}

fn member(name: &str, role: Option<&str>) -> TeamMember {
    TeamMember { id: id(7), name: name.to_owned(), role: role.map(str::to_owned) }
}

#[test]
fn each_fact_is_told_in_the_words_of_the_wire() {
    let offline = WentOffline { rule: "x".to_owned(), message: None };
    let slow = Degraded { error_rate: 0.5, sample_error: "e".to_owned(), runtime_state: String::new() };
    let wedged = Degraded { runtime_state: "wedged".to_owned(), ..slow.clone() };
    let failed = ProvisionFailed {
        generation: Generation(1),
        code: "image_missing".to_owned(),
        message: "no image".to_owned(),
        retryable: false,
        command: None,
    };
    let card = json!({"name": "the card"});
    for (event, name, payload) in [
        (
            Event::from(provision(1)),
            "WORKSPACE_PROVISIONING",
            json!({"name": "a", "tier": 2, "runtime": "echo"}),
        ),
        (online(OnlineVia::Heartbeat, "offline").into(), "WORKSPACE_ONLINE", json!({})),
        (online(OnlineVia::Heartbeat, "degraded").into(), "WORKSPACE_ONLINE", json!({})),
        (
            online(OnlineVia::Heartbeat, "provisioning").into(),
            "WORKSPACE_ONLINE",
            json!({"recovered_from": "provisioning"}),
        ),
        (offline.into(), "WORKSPACE_OFFLINE", json!({})),
        (slow.into(), "WORKSPACE_DEGRADED", json!({"error_rate": 0.5, "sample_error": "e"})),
        (wedged.into(), "WORKSPACE_DEGRADED", json!({"runtime_state": "wedged", "sample_error": "e"})),
        (failed.into(), "WORKSPACE_PROVISION_FAILED", json!({"error": "no image"})),
        (Paused {}.into(), "WORKSPACE_PAUSED", json!({"name": "a"})),
        (
            Removed { cascade_deleted: None, purge: false, forwarded_to: None }.into(),
            "WORKSPACE_REMOVED",
            json!({}),
        ),
        (
            Removed { cascade_deleted: Some(2), purge: false, forwarded_to: None }.into(),
            "WORKSPACE_REMOVED",
            json!({"cascade_deleted": 2}),
        ),
        (
            TeamExpanded { children: vec![member("b", Some("digs")), member("c", None)] }.into(),
            "WORKSPACE_EXPANDED",
            json!({"children": [
                {"id": id(7), "name": "b", "role": "digs"},
                {"id": id(7), "name": "c", "role": ""},
            ]}),
        ),
        (
            TeamCollapsed { children: vec![member("b", None)] }.into(),
            "WORKSPACE_COLLAPSED",
            json!({"removed_children": ["b"]}),
        ),
        (CardUpdated { agent_card: card.clone() }.into(), "AGENT_CARD_UPDATED", json!({"agent_card": card})),
    ] {
        let tag = event.tag();
        assert_eq!(told(event), Some((name, payload)), "{tag}");
    }
}

#[test]
fn what_no_client_has_a_word_for_is_not_told() {
    assert_eq!(told(Placed { x: 0.0, y: 0.0 }), None);
    assert_eq!(told(beat(1)), None);
    assert_eq!(told(started(1)), None);
    assert_eq!(told(Resumed {}), None);
    assert_eq!(told(online(OnlineVia::Create, "online")), None, "`created` has told it");
    assert_eq!(told(registered(Some("http://x"))), None, "it is told once it is up");
}

#[test]
fn a_registration_is_told_once_and_only_when_it_leaves_the_workspace_up() {
    let mut history = History::default();
    history.of(1, created("a", None));
    history.of(1, registered(Some("http://x")));
    history.of(1, online(OnlineVia::Register, "provisioning"));
    let payload = json!({"url": "http://x", "agent_card": {"name": "the card"}, "delivery_mode": "push"});
    let told = |history: &History| -> Vec<_> {
        fold(history).since(Position(0), 10).iter().map(|it| (it.event_type, it.payload.to_value())).collect()
    };
    assert_eq!(told(&history), [("WORKSPACE_ONLINE", payload)]);
    history.of(1, registered(Some("http://x")));
    assert_eq!(told(&history).len(), 2, "one that is up says so again");
    history.of(1, Paused {});
    history.of(1, registered(Some("http://x")));
    assert_eq!(told(&history).last(), Some(&("WORKSPACE_PAUSED", json!({"name": "a"}))));
}

#[test]
fn an_external_workspace_is_told_online_with_an_address_and_awaited_without() {
    let mut history = History::default();
    history.of(1, external("a", Some("https://x")));
    history.of(2, external("b", None));
    let structure = fold(&history);
    let told = |number| {
        let event = structure.of(id(number), 1).remove(0);
        (event.event_type, event.payload.to_value())
    };
    assert_eq!(told(1), ("WORKSPACE_ONLINE", json!({"name": "a", "external": true})));
    assert_eq!(told(2), ("WORKSPACE_AWAITING_AGENT", json!({"name": "b", "external": true})));
}

#[test]
fn names_and_tiers_are_those_of_the_moment() {
    let mut history = History::default();
    history.of(1, created("old", None));
    history.of(1, Paused {});
    history.of(1, Renamed { name: "new".to_owned() });
    history.of(1, TierChanged { tier: 3 });
    history.of(1, provision(2));
    let events = fold(&history).newest(10);
    assert_eq!(events[1].payload.to_value(), json!({"name": "old"}));
    assert_eq!(events[0].payload.to_value(), json!({"name": "new", "tier": 3, "runtime": "echo"}));
    assert_eq!(events[0].created_at, at(5));
}

#[test]
fn the_newest_hundred_are_kept_of_each_workspace_and_shown_of_all() {
    let mut history = History::default();
    history.of(1, created("a", None));
    history.of(2, created("b", None));
    history.of(2, Paused {});
    for generation in 1..=NEWEST as u64 + 20 {
        history.of(1, provision(generation));
    }
    history.of(2, Paused {});
    let structure = fold(&history);
    let own = structure.of(id(1), usize::MAX);
    assert_eq!((own.len(), own[0].position.0), (NEWEST, NEWEST as u64 + 23));
    assert_eq!(structure.of(id(2), usize::MAX).len(), 2);
    let all = structure.newest(usize::MAX);
    assert_eq!((all.len(), all[0].workspace), (NEWEST, id(2)));
    assert!(all.windows(2).all(|pair| pair[0].position > pair[1].position));
    let since = structure.since(own[1].position, 10);
    assert_eq!(since.iter().map(|event| event.workspace).collect::<Vec<_>>(), [id(1), id(2)]);
}
