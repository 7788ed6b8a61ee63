//! Events as bytes, made once for all who listen.

use actix_http::ws::{CloseCode, CloseReason, Codec, Message};
use bytes::{Bytes, BytesMut};
use covalence_events::Position;
use covalence_projections::live::Told;
use covalence_projections::tail;
use serde_json::json;
use tokio_util::codec::Encoder as _;

use super::hub::{Reason, Wire};

/// An event as a listener of this kind reads it.
pub fn of(wire: Wire, told: &Told) -> Bytes {
    match wire {
        Wire::Socket => socket(told),
        Wire::Events => event(told),
    }
}

/// A web socket's text frame (contract 6.1), with the position to come back from.
fn socket(told: &Told) -> Bytes {
    let (event, workspace) = (told.event, told.workspace);
    let text = format!(
        "{{\"event\":\"{event}\",\"workspace_id\":\"{workspace}\",\"timestamp\":\"{}\",\"payload\":{},\"position\":{}}}",
        tail::time(told.at),
        told.payload,
        told.position.0,
    );
    encoded(Message::Text(text.into()))
}

/// An event of an event stream (contract 6.4), with the position as its id.
fn event(told: &Told) -> Bytes {
    let (kind, at) = (told.event, told.at.timestamp_millis());
    // JSON has no line break outside of a text, and none inside that is not escaped.
    let text = format!(
        "id: {}\ndata: {{\"type\":\"{kind}\",\"timestamp\":{at},\"data\":{}}}\n\n",
        told.position.0, told.payload
    );
    Bytes::from(text)
}

/// A ping, by which a dead connection shows.
pub fn ping() -> Bytes {
    encoded(Message::Ping(Bytes::new()))
}

/// The answer to a client's ping.
pub fn pong(said: Bytes) -> Bytes {
    encoded(Message::Pong(said))
}

/// The last frame, which says why, and where to go on.
pub fn closing(reason: Option<Reason>, last: Position) -> Bytes {
    let code = match reason {
        None => CloseCode::Normal,
        Some(Reason::Slow) => CloseCode::Again,
        Some(Reason::Revoked) => CloseCode::Policy,
        Some(Reason::Leaving) => CloseCode::Away,
    };
    let description = reason.map(|reason| format!("{} ({})", reason.as_str(), last.0));
    encoded(Message::Close(Some(CloseReason { code, description })))
}

/// The last event of an event stream.
pub fn last_event(reason: Reason, last: Position) -> Bytes {
    let data = json!({"reason": reason.as_str(), "after": last});
    Bytes::from(format!("event: closed\ndata: {data}\n\n"))
}

fn encoded(message: Message) -> Bytes {
    let mut bytes = BytesMut::new();
    // Only a continuation out of place is refused.
    let _ = Codec::new().encode(message, &mut bytes);
    bytes.freeze()
}
