//! What an agent is told after a restart, in the wire contract's form.

use chrono::SecondsFormat;
use covalence_events::Timestamp;
use covalence_events::workspace::RestartCause;
use serde_json::{Value, json};

use super::State;

/// The contract's layer of messages that the platform itself writes.
const LAYER: u32 = 1;

/// The JSON-RPC request for the restart that the agent has not been told of; its message id is the restart's, so that an
/// agent can tell a repetition.
pub fn request(state: &State) -> Option<Value> {
    let untold = state.untold?;
    let text = text(untold.cause, untold.restarted, state.previous_life);
    Some(json!({
        "jsonrpc": "2.0",
        "id": untold.restart.to_string(),
        "method": "message/send",
        "params": {"message": {
            "kind": "message",
            "role": "user",
            "messageId": untold.restart.to_string(),
            "parts": [{"kind": "text", "text": text}],
            "metadata": {
                "source": "platform", "kind": "restart_context", "layer": LAYER, "restart_context": true,
            },
        }},
    }))
}

fn text(cause: RestartCause, restarted: Timestamp, heard: Option<Timestamp>) -> String {
    let reason = match cause {
        RestartCause::Death => "your last run ended unexpectedly",
        RestartCause::Hung => "your last run had not been heard from",
        RestartCause::Operator => "a person asked for it",
        RestartCause::Configuration => "your configuration changed",
        RestartCause::Session => "your session was reset",
        RestartCause::Team => "another member of your team was restarted",
        RestartCause::Shutdown => "the platform was stopped together with you, and is back",
    };
    let before = heard.map_or_else(
        || "Your last run was never heard from.".to_owned(),
        |heard| {
            let gap = (restarted - heard).num_seconds().max(0);
            format!("Your last run was last heard from at {}, {gap} s earlier.", time(heard))
        },
    );
    format!(
        "You were restarted at {}: {reason}. {before} Work that was under way then may be unfinished.",
        time(restarted)
    )
}

fn time(at: Timestamp) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use covalence_events::workspace::EvidenceClass;

    use super::super::tests::{asked, beat, begin, evidence, online, provisioned};
    use super::request;

    #[test]
    fn the_message_says_when_why_and_how_long_it_was_away_in_the_contracts_form() {
        let mut story = online();
        assert_eq!(request(story.state()), None, "a first start is nothing to tell");
        story.when(&evidence(EvidenceClass::Death, 1)).unwrap();
        let restart = asked(&story);
        let mut story = story.after(Duration::from_secs(12));
        begin(&mut story, restart);
        story.when(&provisioned(2)).unwrap();
        story.when(&beat(2)).unwrap();
        let request = request(story.state()).unwrap();
        let message = &request["params"]["message"];
        assert_eq!((&request["method"], &message["role"]), (&"message/send".into(), &"user".into()));
        assert_eq!(
            message["metadata"],
            serde_json::json!({
                "source": "platform", "kind": "restart_context", "layer": 1, "restart_context": true,
            })
        );
        assert_eq!(message["parts"][0]["kind"], "text");
        assert_eq!(
            message["parts"][0]["text"],
            "You were restarted at 2027-01-15T08:00:12Z: your last run ended unexpectedly. Your last run was last \
             heard from at 2027-01-15T08:00:00Z, 12 s earlier. Work that was under way then may be unfinished."
        );
    }
}
