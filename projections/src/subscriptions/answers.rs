//! What consumers ask and are told, and why something is not done.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use covalence_events::log::ReadError;
use covalence_events::{Position, Recorded};
use uuid::Uuid;

use super::SUBSCRIPTIONS_MAX;
use super::definition::Definition;

/// Why something is not done.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is none of this name.
    #[error("no subscription of this name")]
    NoSuch,
    /// There is one of this name, and it is another one.
    #[error("there is another subscription of this name")]
    Exists,
    /// There are too many.
    #[error("there are {SUBSCRIPTIONS_MAX} subscriptions already")]
    TooMany,
    /// It is the platform's own.
    #[error("the platform follows this one itself")]
    Ours,
    /// Another consumer has it.
    #[error("`{consumer}` has it")]
    Taken {
        /// Who.
        consumer: String,
        /// For how long, if nothing more is heard of it.
        remaining: Duration,
    },
    /// The lease ran out and another consumer took it, or it was never given.
    #[error("this lease is over")]
    LeaseLost,
    /// The log is another one than the place is of.
    #[error("it has lost its place: {0}")]
    PlaceLost(String),
    /// It could not be kept.
    #[error("the subscription could not be kept")]
    Io(#[from] io::Error),
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// What a consumer asks for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Who it is: shown to others.
    pub consumer: String,
    /// The lease that it holds; none to get one.
    pub lease: Option<Uuid>,
    /// At most so many facts; none: only the lease.
    pub limit: usize,
    /// How long it waits where there is nothing.
    pub wait: Duration,
    /// Whether it waits for another one's lease as well.
    pub standby: bool,
}

/// A fact on its way to a consumer.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// The fact.
    pub fact: Arc<Recorded>,
    /// How often it has been delivered, this time included.
    pub attempt: u32,
    /// Whether it was parked before.
    pub replayed: bool,
}

/// What a consumer gets.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its lease.
    pub lease: Uuid,
    /// When that runs out if nothing more is heard of it.
    pub expires_in: Duration,
    /// The facts; those that come again first.
    pub facts: Vec<Delivered>,
    /// Whether everything that there is has been looked at.
    pub caught_up: bool,
    /// How the subscription stands now.
    pub standing: Standing,
}

/// How a subscription stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What it wants.
    pub definition: Definition,
    /// Everything up to here is settled or parked.
    pub checkpoint: Position,
    /// What is looked at next.
    pub next: Position,
    /// Facts of the log after the checkpoint.
    pub lag: u64,
    /// Facts that are delivered and not settled.
    pub open: usize,
    /// Facts that are parked.
    pub parked: usize,
    /// Who consumes it, and for how long if nothing more is heard.
    pub holder: Option<(String, Duration)>,
    /// Why it delivers nothing, if it has lost its place.
    pub lost: Option<String>,
}
