//! Identifiers: one newtype per thing, so that no two can be mixed up.
//!
//! On the wire and in the log they are plain UUIDs or numbers, as the platform's wire contract demands.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $new:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh identifier. Not for pure code: there, ids come in with the context.
            pub fn generate() -> Self {
                Self(Uuid::$new())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0.hyphenated())
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id!(
    /// A workspace: one long-lived agent role. Chosen by the platform, never by a client.
    WorkspaceId, new_v4
);
uuid_id!(
    /// One recorded fact. Time-ordered (`UUIDv7`); appends are idempotent by it.
    EventId, now_v7
);
uuid_id!(
    /// One run of the platform's process. Monotonic times compare only within one.
    BootId, now_v7
);
uuid_id!(
    /// What belongs together: one request, or one incident.
    CorrelationId, now_v7
);
uuid_id!(
    /// One request to restart a workspace, from the verdict to its outcome.
    RestartId, now_v7
);
uuid_id!(
    /// One hold that a person set on restarts.
    HoldId, now_v7
);
uuid_id!(
    /// One incident: the id of the fact that opened it.
    IncidentId, now_v7
);
uuid_id!(
    /// One A2A call through the platform.
    CallId, now_v7
);
uuid_id!(
    /// One task that a workspace hands to another.
    DelegationId, new_v4
);
uuid_id!(
    /// One call that waits for a busy agent.
    QueueId, now_v7
);
uuid_id!(
    /// One assignment of a model to a workspace.
    AgentId, new_v4
);
uuid_id!(
    /// A bearer token's public name. The token itself is never stored.
    TokenId, new_v4
);

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The number after this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// Place in the one global order of the log. The first fact has 1; 0 means "before everything".
    Position
);
number!(
    /// Place in a stream. The first fact of a stream has 1; 0 means "no such stream yet".
    Version
);
number!(
    /// Which provisioning of a workspace something belongs to. Evidence about an older one is stale.
    Generation
);

/// Names the exact supervision policy that a decision was made under: the first eight bytes of a hash over it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicyHash(pub u64);

/// What was read is no [`PolicyHash`].
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not the 16 hex digits that name a policy")]
pub struct NotAPolicyHash(String);

impl FromStr for PolicyHash {
    type Err = NotAPolicyHash;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        number.map(Self).ok_or_else(|| NotAPolicyHash(text.to_owned()))
    }
}

impl fmt::Display for PolicyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::PolicyHash;

    #[test]
    fn a_policy_is_named_by_sixteen_hex_digits_and_by_nothing_else() {
        let hash = PolicyHash(0xfe);
        assert_eq!(hash.to_string().parse::<PolicyHash>().unwrap(), hash);
        for wrong in ["", "1", "00000000000000000", "+00000000000000f", "000000000000000g"] {
            assert!(wrong.parse::<PolicyHash>().is_err(), "{wrong}");
        }
    }
}
