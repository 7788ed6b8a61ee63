//! Judgement: what evidence amounts to, and whether a restart may go ahead. Pure functions over numbers in one place.
//!
//! The numbers are [`parameters`]; `docs/supervision.md` explains them. What looks at one workspace: [`verdict`], [`phi`].
//! What looks at the observer: [`score`], [`circuit`]. What looks at a cell, one engine and what it runs: [`brake`],
//! [`bucket`], [`limit`]. [`admission`] brings them together for one restart, [`headroom`] for those that
//! nobody has asked for yet.

use covalence_events::PolicyHash;

pub mod admission;
pub mod brake;
pub mod bucket;
pub mod circuit;
pub mod headroom;
pub mod limit;
pub mod parameters;
pub mod phi;
pub mod score;
pub mod verdict;

pub use self::parameters::{Parameter, ParameterError, Policy};

/// What is done about a session that is taken for poisoned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionRestart {
    /// A person is told what would help.
    #[default]
    Advise,
    /// The workspace is restarted with a fresh session, through the usual admission.
    Automatic,
}

impl SessionRestart {
    /// The setting's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Advise => "advise",
            Self::Automatic => "automatic",
        }
    }
}

impl Policy {
    /// Names exactly these numbers: FNV-1a over their text, stable across builds.
    pub fn hash(&self) -> PolicyHash {
        let text = format!("{self:?}");
        PolicyHash(text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }

    /// How many restarts may be in flight in a cell of this size.
    pub fn in_flight_max(&self, size: u32) -> u32 {
        share_of(size, self.in_flight_share).max(self.in_flight_min)
    }
}

/// This share of so many, rounded down.
pub(crate) fn share_of(size: u32, share: f64) -> u32 {
    // A hair more than exact, so that a tenth of ten is one in binary too.
    whole((f64::from(size) * share + 1e-9).floor())
}

/// The least number that is at least this share of so many.
pub(crate) fn at_least(size: u32, share: f64) -> u32 {
    whole((f64::from(size) * share - 1e-9).ceil())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits")]
fn whole(number: f64) -> u32 {
    number.clamp(0.0, f64::from(u32::MAX)) as u32
}
