//! What is written today is read for ever: one fixture per wire tag, which may never change.
//!
//! A word that a released payload learned later has one of its own, `<tag>~<word>`.
//!
//! `<tag>.hex` is the payload as it was first written, `<tag>.json` what it means, `hashes.txt` what both were when they
//! were released. A new tag's files are made by running these tests once with `COVALENCE_WRITE_FIXTURES=1`; an existing
//! file is never written again.
#![expect(clippy::panic, reason = "helpers of a test are tests too")]

mod samples;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use covalence_events::codec::CodecError;
use covalence_events::{Fact, fleet, workspace};
use proptest::prelude::*;

/// Tags of encodings that are not written any more. Their fixtures stay.
const RETIRED: &[&str] = &[];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/streams")
}

fn all_tags() -> BTreeSet<&'static str> {
    workspace::Event::TAGS.iter().chain(fleet::Event::TAGS).copied().collect()
}

fn fixture(tag: &str) -> (Vec<u8>, serde_json::Value) {
    let read = |ending: &str| {
        let path = folder().join(format!("{tag}.{ending}"));
        fs::read_to_string(&path).unwrap_or_else(|error| {
            panic!("`{}`: {error}; a new tag needs a fixture, see the top of this file", path.display())
        })
    };
    let hex = read("hex");
    let hex = hex.trim();
    let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"));
    (bytes.collect(), serde_json::from_str(&read("json")).expect("JSON"))
}

#[expect(clippy::disallowed_methods, reason = "a maintainer's switch, not the platform's configuration")]
fn may_write() -> bool {
    std::env::var("COVALENCE_WRITE_FIXTURES").is_ok()
}

/// Makes what is missing, where a maintainer asked for it.
fn write_missing() {
    if !may_write() {
        return;
    }
    let hashes = folder().join("hashes.txt");
    let mut lines = fs::read_to_string(&hashes).unwrap_or_default();
    for (name, fact) in samples::named() {
        let json = format!("{}\n", serde_json::to_string_pretty(&fact.to_json()).expect("JSON"));
        let mut hex = String::new();
        for byte in fact.encode().expect("encodes") {
            write!(hex, "{byte:02x}").expect("a string takes it");
        }
        for (ending, text) in [("hex", hex + "\n"), ("json", json)] {
            let name = format!("{name}.{ending}");
            let path = folder().join(&name);
            if !path.exists() {
                fs::write(path, &text).expect("the fixture is written");
                writeln!(lines, "{} {name}", blake3::hash(text.as_bytes()).to_hex())
                    .expect("a string takes it");
            }
        }
    }
    fs::write(hashes, lines).expect("the hashes are written");
}

#[test]
fn every_tag_has_a_sample_and_a_fixture_that_was_never_edited() {
    write_missing();
    let sampled: BTreeSet<_> = samples::all().iter().map(Fact::tag).collect();
    assert_eq!(sampled, all_tags(), "left: tags with a sample, right: tags of the vocabulary");
    let text = fs::read_to_string(folder().join("hashes.txt")).expect("the recorded hashes");
    let recorded: BTreeMap<_, _> =
        text.lines().filter_map(|line| line.split_once(' ')).map(|(hash, name)| (name, hash)).collect();
    let names: BTreeSet<_> = samples::named().into_iter().map(|(name, _)| name).collect();
    for tag in names.iter().map(String::as_str).chain(RETIRED.iter().copied()) {
        for ending in ["hex", "json"] {
            let name = format!("{tag}.{ending}");
            let found = blake3::hash(&fs::read(folder().join(&name)).expect("the fixture")).to_hex();
            assert_eq!(recorded.get(name.as_str()), Some(&found.as_str()), "`{name}` was edited");
        }
    }
    assert_eq!(recorded.len(), (names.len() + RETIRED.len()) * 2, "a released tag is never removed");
}

#[test]
fn every_fixture_means_what_it_meant_and_encodes_as_it_did() {
    for (name, sample) in samples::named() {
        let (bytes, meaning) = fixture(&name);
        let fact = Fact::decode(sample.tag(), &bytes).unwrap_or_else(|error| panic!("`{name}`: {error:?}"));
        assert_eq!(fact.to_json(), meaning, "`{name}`");
        assert_eq!(fact.encode().expect("encodes"), bytes, "`{name}`");
    }
}

#[test]
fn every_sample_survives_the_round_trip() {
    for fact in samples::all().into_iter().chain(samples::grown()).chain(samples::later_fields()) {
        let bytes = fact.encode().expect("encodes");
        assert_eq!(Fact::decode(fact.tag(), &bytes).expect("decodes"), fact);
    }
}

#[test]
fn a_field_of_a_newer_program_is_ignored() {
    for fact in samples::all() {
        let mut bytes = fact.encode().expect("encodes");
        // A fixmap of fewer than fifteen fields gets one more; larger ones are a map16 with a count.
        match bytes[0] {
            head @ 0x80..=0x8e => bytes[0] = head + 1,
            0x8f => {
                bytes.splice(..1, [0xde, 0, 16]);
            }
            0xde => bytes[2] += 1,
            other => panic!("`{}` is no map: {other:#x}", fact.tag()),
        }
        bytes.extend_from_slice(b"\xa6future\xc3");
        assert_eq!(Fact::decode(fact.tag(), &bytes).expect("decodes"), fact);
    }
}

#[test]
fn an_unknown_tag_is_named() {
    let error = Fact::decode("workspace.levitated.v1", &[0x80]).expect_err("no such tag");
    assert!(matches!(&error, CodecError::UnknownTag { tag } if tag == "workspace.levitated.v1"));
}

#[test]
fn bytes_that_are_not_the_payload_are_an_error() {
    for fact in samples::all().iter().filter(|fact| fact.encode().expect("encodes").len() > 1) {
        let bytes = fact.encode().expect("encodes");
        let cut = Fact::decode(fact.tag(), &bytes[..bytes.len() - 1]);
        assert!(matches!(cut, Err(CodecError::Decode { .. })), "`{}`", fact.tag());
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_filter("JSON has no such number", |n| n.is_finite()).prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #[test]
    fn any_card_survives_the_round_trip(agent_card in json()) {
        let fact = Fact::Workspace(workspace::CardUpdated { agent_card }.into());
        prop_assert_eq!(Fact::decode(fact.tag(), &fact.encode().unwrap()).unwrap(), fact);
    }

    #[test]
    fn any_heartbeat_survives_the_round_trip(
        error_rate in any::<f64>().prop_filter("equality needs a number", |n| !n.is_nan()),
        texts in any::<(String, String, String)>(),
        numbers in any::<(i64, i64, Option<i64>)>(),
        generation in any::<Option<u64>>(),
        agent_card in prop::option::of(json().prop_filter("none and null are one", |card| !card.is_null())),
    ) {
        let fact = Fact::Workspace(workspace::HeartbeatReceived {
            error_rate,
            sample_error: texts.0,
            active_tasks: numbers.0,
            uptime_seconds: numbers.1,
            current_task: texts.1,
            monthly_spend: numbers.2,
            runtime_state: texts.2,
            agent_card,
            generation: generation.map(covalence_events::Generation),
        }.into());
        prop_assert_eq!(Fact::decode(fact.tag(), &fact.encode().unwrap()).unwrap(), fact);
    }

    #[test]
    fn any_bytes_decode_or_are_refused_without_a_panic(
        tag in prop::sample::select(all_tags().into_iter().collect::<Vec<_>>()),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = Fact::decode(tag, &bytes);
    }
}
