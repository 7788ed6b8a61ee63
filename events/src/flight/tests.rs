//! Lines, packing, counting.

use chrono::{DateTime, TimeDelta};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn at(ms: i64) -> Timestamp {
    DateTime::UNIX_EPOCH + TimeDelta::milliseconds(ms)
}

fn observed(what: Observed) -> Observation {
    Observation { at: at(1), cell: Some(BackendKind::Docker), what }
}

fn workspace(n: u128) -> WorkspaceId {
    WorkspaceId(Uuid::from_u128(n))
}

fn any_observed() -> impl Strategy<Value = Observed> {
    let (id, generation) = (any::<u128>().prop_map(workspace), any::<u64>().prop_map(Generation));
    let code = prop::sample::select(vec!["timeout", "eof", "refused"]).prop_map(Word::from);
    let shown =
        (any::<u128>(), any::<Option<i32>>(), any::<bool>()).prop_map(|(n, exit_status, ours)| Shown {
            instance: format!("{n:x}").into(),
            workspace: ours.then(|| workspace(n)),
            generation: ours.then_some(Generation(1)),
            state: if exit_status.is_some() { ShownState::Stopped } else { ShownState::Gone },
            exit_status,
        });
    prop_oneof![
        prop::collection::vec(shown.clone(), 0..4).prop_map(|instances| Observed::ShownBefore { instances }),
        prop::option::of(id.clone()).prop_map(|workspace| Observed::Asked {
            question: if workspace.is_some() { Question::Probe } else { Question::List },
            workspace,
            generation: None,
        }),
        (any::<u64>(), any::<u32>(), prop::collection::vec(shown, 0..4)).prop_map(
            |(took_us, running, changed)| Observed::Listed {
                took_us,
                running,
                stopped: 0,
                between: 1,
                changed,
            }
        ),
        (any::<u64>(), code.clone()).prop_map(|(took_us, code)| Observed::ListFailed { took_us, code }),
        (id.clone(), generation, any::<u64>(), prop::option::of(code.clone()), any::<Option<i32>>())
            .prop_map(|(workspace, generation, took_us, code, exit_status)| Observed::Inspected {
                workspace,
                generation,
                instance: "4711:1:boot".into(),
                took_us,
                answer: if code.is_some() { Answer::Unknown } else { Answer::NotThere },
                code,
                exit_status,
            }),
        code.prop_map(|code| Observed::Lost { code }),
        Just(Observed::Gap),
        Just(Observed::Found),
        (any::<u64>(), any::<bool>()).prop_map(|(took_us, failed)| Observed::Called {
            call: Call::Confirm,
            took_us,
            failed
        }),
        any::<u64>().prop_map(|late_us| Observed::Late { late_us }),
        any::<(u64, bool, bool)>().prop_map(|(append_p99_us, append_failed, beat_refused)| {
            Observed::Pressed { append_p99_us, append_failed, beat_refused }
        }),
        (id, any::<bool>()).prop_map(|(workspace, refused)| Observed::Beat { workspace, refused }),
    ]
}

proptest! {
    #[test]
    fn what_is_packed_comes_back_line_by_line(all in prop::collection::vec(any_observed(), 0..40)) {
        let all: Vec<Observation> = all.into_iter().map(observed).collect();
        let packed = Packed::of(&all).unwrap();
        let lines = packed.lines().unwrap();
        let text = std::str::from_utf8(&lines).unwrap();
        let back: Vec<Observation> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        prop_assert_eq!(back, all);
    }
}

#[test]
fn a_line_says_what_it_is_and_leaves_out_what_is_not_there() {
    let beat =
        Observation { cell: None, ..observed(Observed::Beat { workspace: workspace(7), refused: false }) };
    let line = serde_json::to_string(&beat).unwrap();
    assert_eq!(
        line,
        r#"{"at":"1970-01-01T00:00:00.001Z","what":"beat","workspace":"00000000-0000-0000-0000-000000000007"}"#
    );
}

#[test]
fn a_packed_flight_is_base64_where_a_format_has_no_bytes() {
    let packed = Packed::of(&[observed(Observed::Gap)]).unwrap();
    let json = serde_json::to_value(&packed).unwrap();
    assert_eq!(serde_json::from_value::<Packed>(json).unwrap(), packed);
    assert!(serde_json::from_str::<Packed>(r#""not base64!""#).is_err());
    let bytes = rmp_serde::to_vec(&packed).unwrap();
    assert!(bytes.len() < packed.len() + 6, "bytes as they are: {} of {}", bytes.len(), packed.len());
    assert_eq!(rmp_serde::from_slice::<Packed>(&bytes).unwrap(), packed);
}

#[test]
fn what_unpacks_to_more_than_any_flight_is_refused_before_it_fills_the_memory() {
    let bomb = zstd::encode_all(io::repeat(b'\n').take(UNPACKED_BYTES_MAX as u64 + 1), 1).unwrap();
    assert!(bomb.len() < PACKED_BYTES_MAX);
    assert_eq!(Packed(bomb.into()).lines().unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert!(Packed(b"no frame".as_slice().into()).lines().is_err());
}

#[test]
fn questions_are_counted_by_their_answers_and_those_without_one_are_pending() {
    let asked = |question, workspace| Observed::Asked { question, workspace, generation: None };
    let looked = |n, took_us, answer| Observed::Inspected {
        workspace: workspace(n),
        generation: Generation(1),
        instance: "x".into(),
        took_us,
        answer,
        code: None,
        exit_status: None,
    };
    let mut counter = Counter::default();
    for what in [
        asked(Question::List, None),
        Observed::ListFailed { took_us: 3_000_000, code: "timeout".into() },
        asked(Question::List, None),
        Observed::Listed { took_us: 2_000, running: 3, stopped: 0, between: 0, changed: Vec::new() },
        asked(Question::Inspect, Some(workspace(1))),
        asked(Question::Inspect, Some(workspace(2))),
        looked(1, 1_500_000, Answer::Unknown),
        asked(Question::Probe, Some(workspace(1))),
        Observed::Beat { workspace: workspace(1), refused: true },
        Observed::Late { late_us: 250_000 },
    ] {
        counter.add(&observed(what));
    }
    let counts = counter.finish();
    assert_eq!(counts.lists, Answers { answered: 2, failed: 1, slow: 1, slowest_ms: 3000, pending: 0 });
    assert_eq!(counts.looks, Answers { answered: 1, failed: 1, slow: 1, slowest_ms: 1500, pending: 1 });
    assert_eq!(counts.probes, Answers { pending: 1, ..Answers::default() });
    assert_eq!((counts.beats, counts.beats_refused, counts.latest_turn_ms), (1, 1, 250));
    assert_eq!(counts.observations, 10);
}
