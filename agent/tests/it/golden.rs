//! The bodies that cross the wire, as files that the platform's tests can read as well.

use covalence_agent::a2a::card::{Card, CardFacts};
use covalence_agent::activity::Snapshot;
use covalence_agent::platform::wire::{Heartbeat, Register};
use serde_json::Value;

fn card() -> Value {
    let url = "http://127.0.0.1:8000";
    let facts = CardFacts { name: "Ada", description: "Answers the phone", url, runtime: "echo" };
    let mut card = Card::new(&facts).document;
    // The version of this crate, which the file need not follow.
    card["version"] = "0.1.0".into();
    card
}

fn is_golden(actual: &impl serde::Serialize, golden: &str) {
    let golden: Value = serde_json::from_str(golden).unwrap();
    let actual = serde_json::to_value(actual).unwrap();
    assert_eq!(actual, golden, "\n{actual:#}");
}

#[test]
fn a_registration_is_written_as_the_contract_has_it() {
    let id = "6f1c2a52-57ab-4f5e-9d2f-1d5f0c6f0a01".to_owned();
    let register = Register { id, url: "http://127.0.0.1:8000".to_owned(), agent_card: card() };
    is_golden(&register, include_str!("../golden/register.json"));
}

#[test]
fn a_heartbeat_is_written_as_the_contract_has_it() {
    let seen = Snapshot {
        uptime_seconds: 61,
        active_tasks: 1,
        current_task: "long work".to_owned(),
        error_rate: 0.25,
        sample_error: "command ended with exit code 3: no credit left".to_owned(),
    };
    let beat = Heartbeat::new("6f1c2a52-57ab-4f5e-9d2f-1d5f0c6f0a01", seen, None);
    is_golden(&beat, include_str!("../golden/heartbeat.json"));
}
