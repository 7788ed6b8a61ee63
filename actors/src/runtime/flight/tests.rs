//! The ring and what is kept in it: nothing is missing, nothing is too old, nothing is too much.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta};
use covalence_events::flight::{PACKED_BYTES_MAX, Shown, ShownState};
use covalence_events::workspace::InstanceRef;
use covalence_events::{Generation, WorkspaceId};
use proptest::prelude::*;
use uuid::Uuid;

use super::ring::{BEATS_MAX, BYTES_MAX, KEPT, Taken};
use super::*;
use crate::effect::{BackendError, Listed, ListedState};

const CELL: BackendKind = BackendKind::Docker;

fn at(ms: i64) -> Timestamp {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap() + TimeDelta::milliseconds(ms)
}

fn workspace(n: u128) -> WorkspaceId {
    WorkspaceId(Uuid::from_u128(n))
}

fn item(n: u8, state: ListedState) -> Listed {
    Listed {
        workspace: Some(workspace(n.into())),
        generation: Some(Generation(1)),
        instance: InstanceRef { id: format!("container-{n}") },
        name: format!("ws-{n}"),
        state,
        url: None,
    }
}

/// Instances and how they are shown.
type Picture = BTreeMap<Arc<str>, ShownState>;

fn picture(listed: &[Listed]) -> Picture {
    let state = |state: &ListedState| match state {
        ListedState::Running => ShownState::Running,
        ListedState::Stopped { .. } => ShownState::Stopped,
        ListedState::Between => ShownState::Between,
    };
    listed.iter().map(|item| (Arc::from(item.instance.id.as_str()), state(&item.state))).collect()
}

fn go_on(picture: &mut Picture, changed: &[Shown]) {
    for shown in changed {
        match shown.state {
            ShownState::Gone => drop(picture.remove(&shown.instance)),
            state => drop(picture.insert(Arc::clone(&shown.instance), state)),
        }
    }
}

/// What each list of a flight showed, worked out from the flight alone.
fn pictures(taken: &Taken) -> Vec<(Timestamp, Picture)> {
    let (mut picture, mut all) = (Picture::new(), Vec::new());
    for one in taken.observations() {
        match &one.what {
            Observed::ShownBefore { instances } => go_on(&mut picture, instances),
            Observed::Listed { changed, .. } => {
                go_on(&mut picture, changed);
                all.push((one.at, picture.clone()));
            }
            _ => {}
        }
    }
    all
}

fn any_list() -> impl Strategy<Value = Vec<Listed>> {
    let state = prop_oneof![
        4 => Just(ListedState::Running),
        1 => any::<Option<i32>>().prop_map(|exit_status| ListedState::Stopped { exit_status }),
        1 => Just(ListedState::Between),
    ];
    prop::collection::btree_map(0u8..12, state, 0..12)
        .prop_map(|items| items.into_iter().map(|(n, state)| item(n, state)).collect())
}

proptest! {
    #[test]
    fn each_list_of_the_last_quarter_of_an_hour_can_be_worked_out_and_nothing_older_is_there(
        lists in prop::collection::vec((0i64..300_000, any_list()), 1..40),
    ) {
        let recorder = Recorder::new(at(-1));
        let mut notes = Notes::new(CELL);
        let (mut now, mut lived) = (0, Vec::new());
        for (pause, listed) in lists {
            now += pause;
            lived.push((at(now), picture(&listed)));
            notes.saw(&recorder, &Input::Listed { result: Ok(listed), took: Duration::ZERO }, at(now));
        }
        let taken = recorder.with(|ring| ring.taken_for(at(now), at(now))).unwrap();
        lived.retain(|(when, _)| *when >= at(now) - KEPT);
        prop_assert_eq!(pictures(&taken), lived);
        prop_assert_eq!((taken.since, taken.cut), (at(-1).max(at(now) - KEPT), false));
    }
}

#[test]
fn what_there_is_no_room_for_goes_first_and_the_flight_says_from_when_on_it_is_complete() {
    let mut ring = Ring::new(at(0));
    let called = |n: i64| Observation {
        at: at(n),
        cell: Some(CELL),
        what: Observed::Called { call: Call::Start, took_us: 1, failed: false },
    };
    let more_than_fit = i64::try_from(BYTES_MAX / size_of::<Observation>()).unwrap() + 1000;
    for n in 1..=more_than_fit {
        ring.keep(called(n));
        assert!(ring.bytes() <= BYTES_MAX);
    }
    let taken = ring.taken_for(at(1), at(more_than_fit)).unwrap();
    let first = taken.observations()[0].at;
    assert!(taken.cut && first > at(900), "{first}");
    assert_eq!(taken.since, first - TimeDelta::milliseconds(1) + TimeDelta::microseconds(1));
    assert_eq!(taken.beats_since, at(0), "of beats there is everything");
    // A quarter of an hour later nobody misses it.
    let later = at(more_than_fit) + KEPT;
    assert!(!ring.taken_for(later, later).unwrap().cut);
}

#[test]
fn heartbeats_push_out_nothing_but_heartbeats() {
    let recorder = Recorder::new(at(0));
    let notes = Notes::new(CELL);
    notes.asks(&recorder, &Output::List, at(1));
    let beats = i64::try_from(BEATS_MAX).unwrap() + 10;
    for n in 1..=beats {
        recorder.beat(workspace(1), n % 2 == 0, at(n));
    }
    let taken = recorder.with(|ring| ring.taken_for(at(beats), at(beats))).unwrap();
    assert!(taken.cut);
    assert_eq!((taken.since, taken.beats_since), (at(0), at(10) + TimeDelta::microseconds(1)));
    let flight = taken.pack(CELL).unwrap();
    assert_eq!((flight.counts.beats, flight.counts.beats_refused), (32_768, 16_384));
    assert_eq!(flight.counts.lists.pending, 1, "the list that was asked for before all of them");
}

#[test]
fn a_flight_that_does_not_pack_small_enough_loses_its_oldest_part() {
    let mut ring = Ring::new(at(0));
    // Ids that no packing makes smaller.
    let instance = || Arc::from(Uuid::new_v4().to_string());
    for n in 1..30_000 {
        let (workspace, generation, instance) = (WorkspaceId(Uuid::new_v4()), Generation(1), instance());
        let what = Observed::Exited { workspace, generation, instance, exit_status: None };
        ring.keep(Observation { at: at(n), cell: Some(CELL), what });
    }
    let flight = ring.taken_for(at(1), at(30_000)).unwrap().pack(CELL).unwrap();
    assert!(flight.observations.len() <= PACKED_BYTES_MAX && flight.cut);
    assert!(flight.counts.exits > 1000, "{:?}", flight.counts);
    let lines = String::from_utf8(flight.observations.lines().unwrap()).unwrap();
    let lines: Vec<Observation> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), usize::try_from(flight.counts.exits).unwrap());
    assert!(lines[0].at >= flight.since && lines[0].at - flight.since < TimeDelta::milliseconds(2));
    assert_eq!(lines[lines.len() - 1].at, at(29_999), "the newest is there");
}

#[test]
fn a_brake_of_another_run_finds_no_flight() {
    let ring = Ring::new(at(1000));
    assert!(ring.taken_for(at(1000), at(2000)).is_none());
    assert!(ring.taken_for(at(1001), at(2000)).is_some());
}

#[test]
fn of_turns_and_of_pressure_only_what_says_something_is_kept_and_of_errors_only_their_word() {
    let recorder = Recorder::new(at(0));
    let mut notes = Notes::new(CELL);
    for turn in [0, 1000, 2099, 3200] {
        notes.saw(&recorder, &Input::Turn, at(turn));
    }
    for (p99, failed) in [(2, false), (3, false), (9, false), (10, true), (10, false)] {
        notes.felt(&recorder, Duration::from_millis(p99), (failed, false), at(4000));
    }
    let error = BackendError { code: "timeout", detail: "Ada's machine".to_owned() };
    notes.saw(&recorder, &Input::Signals(vec![Signal::Gap, Signal::Lost(error.clone())]), at(5000));
    let took = Duration::from_millis(3);
    notes.saw(&recorder, &Input::Listed { result: Err(error.clone()), took }, at(6000));
    let (workspace, generation, instance) =
        (workspace(1), Generation(2), InstanceRef { id: "container-1".to_owned() });
    let inspection = Inspection::Unknown(error);
    notes.saw(&recorder, &Input::Inspected { workspace, generation, instance, inspection, took }, at(7000));
    let probe = Probe::Silent { code: "refused", detail: "Ada's machine".to_owned() };
    notes.saw(&recorder, &Input::Probed { workspace, generation, probe, took }, at(8000));
    let flight = recorder.with(|ring| ring.taken_for(at(1), at(9000))).unwrap().pack(CELL).unwrap();
    let lines = String::from_utf8(flight.observations.lines().unwrap()).unwrap();
    let id = "00000000-0000-0000-0000-000000000001";
    assert_eq!(
        lines
            .lines()
            .map(|line| line.split_once(r#"","cell":"docker","what":"#).unwrap().1)
            .collect::<Vec<_>>(),
        [
            r#""late","late_us":101000}"#.to_owned(),
            r#""pressed","append_p99_us":2000,"append_failed":false,"beat_refused":false}"#.to_owned(),
            r#""pressed","append_p99_us":9000,"append_failed":false,"beat_refused":false}"#.to_owned(),
            r#""pressed","append_p99_us":10000,"append_failed":true,"beat_refused":false}"#.to_owned(),
            r#""gap"}"#.to_owned(),
            r#""lost","code":"timeout"}"#.to_owned(),
            r#""list_failed","took_us":3000,"code":"timeout"}"#.to_owned(),
            format!(
                r#""inspected","workspace":"{id}","generation":2,"instance":"container-1","took_us":3000,"answer":"unknown","code":"timeout"}}"#
            ),
            format!(
                r#""probed","workspace":"{id}","generation":2,"took_us":3000,"answer":"not_there","code":"refused"}}"#
            ),
        ]
    );
}
