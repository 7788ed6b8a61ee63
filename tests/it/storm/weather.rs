//! Faults by chance: how often requests to the engine meet which, in an order that a seed decides.
//!
//! Each kind of request has an order of its own, so that the n-th list meets the same under the same seed, whatever else is
//! asked meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::support::fault_proxy::{Fault, Weather};

/// Of a hundred faults, so many are this one.
const SHARES: [(u32, Kind); 7] = [
    (30, Kind::Late),
    (17, Kind::Unanswered),
    (13, Kind::Cut),
    (10, Kind::AnswerLost),
    (10, Kind::BodyCut),
    (13, Kind::ServerError),
    (7, Kind::Garbage),
];

/// A late answer is this late: from what nobody notices to beyond every limit of a look.
const LATE: std::ops::Range<f64> = 0.05..5.0;

#[derive(Clone, Copy)]
enum Kind {
    Late,
    Unanswered,
    Cut,
    AnswerLost,
    BodyCut,
    ServerError,
    Garbage,
}

/// Weather in which so many of a hundred requests meet a fault, and the number of those that have. The seed decides which.
pub(super) fn weather(seed: u64, percent: u32) -> (Weather, Arc<AtomicUsize>) {
    let mut by_kind: HashMap<String, StdRng> = HashMap::new();
    let met = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&met);
    let weather = move |line: &str| {
        let chance = by_kind.entry(kind(line)).or_insert_with_key(|kind| {
            StdRng::seed_from_u64(seed ^ (u64::from(crc32fast::hash(kind.as_bytes())) << 32))
        });
        let fault = fault(chance, percent)?;
        counted.fetch_add(1, Ordering::Relaxed);
        Some(fault)
    };
    (Box::new(weather), met)
}

/// A request line without names, numbers and query: `GET /*/containers/*/json`.
fn kind(line: &str) -> String {
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = path.split('?').next().unwrap_or_default();
    let is_word = |part: &str| part.bytes().all(|byte| byte.is_ascii_lowercase());
    let parts: Vec<&str> = path.split('/').map(|part| if is_word(part) { part } else { "*" }).collect();
    format!("{method} {}", parts.join("/"))
}

fn fault(chance: &mut StdRng, percent: u32) -> Option<Fault> {
    // All are drawn, whether they are needed or not: each request takes the same share of the seed's order.
    let hit = chance.random_range(0..100) < percent;
    let (mut at, late) = (chance.random_range(0..100), chance.random_range(LATE));
    if !hit {
        return None;
    }
    for (share, kind) in SHARES {
        if at < share {
            return Some(match kind {
                Kind::Late => Fault::Delay(Duration::from_secs_f64(late)),
                Kind::Unanswered => Fault::BlackHole,
                Kind::Cut => Fault::CloseAfterRequest,
                Kind::AnswerLost => Fault::LoseAnswer,
                Kind::BodyCut => Fault::EofInBody,
                Kind::ServerError => Fault::Answer {
                    status: 500,
                    content_type: "application/json",
                    body: r#"{"message":"context deadline exceeded"}"#.to_owned(),
                },
                Kind::Garbage => Fault::Garbage,
            });
        }
        at -= share;
    }
    None
}

#[test]
fn the_same_seed_is_the_same_weather_whatever_else_is_asked() {
    let faults = |seed, other: usize| {
        let mut weather = weather(seed, 30).0;
        let mut ask = |_| {
            for _ in 0..other {
                weather("GET /v1.41/version HTTP/1.1");
            }
            format!(
                "{:?}",
                weather(&format!("GET /v1.41/containers/{}/json?size=1 HTTP/1.1", "c1".repeat(32)))
            )
        };
        (0..200).map(&mut ask).collect::<Vec<_>>()
    };
    assert_eq!(faults(7, 0), faults(7, 2));
    assert_ne!(faults(7, 0), faults(8, 0));
    let clear = faults(7, 0).iter().filter(|fault| *fault == "None").count();
    assert!((120..160).contains(&clear), "{clear} of 200 go through");
    assert_eq!(kind("POST /v1.41/containers/create?name=ws-1 HTTP/1.1"), "POST /*/containers/create");
}
