//! Tiers: what a workspace may use (R23), and which privileges it gets.
//!
//! Limits always hold. Privileges of tiers 3 and 4 are given only where the operator allows them; what is withheld is
//! said in words that people see on the workspace.

use crate::config::TierLimits;

/// 1024 shares are one CPU.
const SHARES_PER_CPU: i64 = 1024;
const NANOS_PER_CPU: i64 = 1_000_000_000;
const BYTES_PER_MIB: i64 = 1024 * 1024;

/// Memory in bytes.
pub(super) fn memory_bytes(limits: TierLimits) -> i64 {
    i64::from(limits.memory_mb.get()).saturating_mul(BYTES_PER_MIB)
}

/// CPU in billionths of one: a hard allocation. 2³² shares are 4·10¹⁸ / 1024 before the division, which fits.
pub(super) fn nano_cpus(limits: TierLimits) -> i64 {
    i64::from(limits.cpu_shares.get()) * (NANOS_PER_CPU / SHARES_PER_CPU)
        + i64::from(limits.cpu_shares.get()) * (NANOS_PER_CPU % SHARES_PER_CPU) / SHARES_PER_CPU
}

/// What a tier may do beyond its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Privileges {
    /// Privileged and in the host's process namespace.
    pub(super) privileged: bool,
    /// On the host's network, with the engine's socket.
    pub(super) host: bool,
}

/// What a tier gets where privileges up to `allowed` are allowed, and what is withheld, in words. A tier is one grant:
/// tier 4 where only 3 is allowed gets nothing, rather than a mixture that nobody chose.
pub(super) fn privileges(tier: u8, allowed: Option<u8>) -> (Privileges, Vec<String>) {
    let wanted = Privileges { privileged: tier >= 3, host: tier >= 4 };
    if tier < 3 || allowed.is_some_and(|allowed| allowed >= tier) {
        return (wanted, Vec::new());
    }
    let mut withheld = vec!["privileged mode", "host process namespace"];
    if wanted.host {
        withheld.extend(["host network", "engine socket"]);
    }
    (Privileges::default(), withheld.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn limits(memory_mb: u32, cpu_shares: u32) -> TierLimits {
        TierLimits {
            memory_mb: NonZeroU32::new(memory_mb).unwrap(),
            cpu_shares: NonZeroU32::new(cpu_shares).unwrap(),
        }
    }

    /// R23: 1024 shares are one CPU, and very large values are taken.
    #[test]
    fn limits_become_bytes_and_nano_cpus() {
        assert_eq!(memory_bytes(limits(512, 1024)), 536_870_912);
        assert_eq!(nano_cpus(limits(512, 1024)), 1_000_000_000);
        assert_eq!(nano_cpus(limits(1, 1)), 976_562);
        assert_eq!(memory_bytes(limits(u32::MAX, 1)), i64::from(u32::MAX) << 20);
        assert_eq!(nano_cpus(limits(1, u32::MAX)), 4_194_303_999_023_437);
    }

    #[test]
    fn privileges_are_withheld_unless_allowed() {
        let none = Privileges::default();
        let all = Privileges { privileged: true, host: true };
        let some = Privileges { privileged: true, host: false };
        for (tier, allowed, given, withheld) in [
            (1, Some(4), none, 0),
            (2, None, none, 0),
            (3, None, none, 2),
            (3, Some(3), some, 0),
            (4, None, none, 4),
            (4, Some(3), none, 4),
            (4, Some(4), all, 0),
        ] {
            let (got, missing) = privileges(tier, allowed);
            assert_eq!((got, missing.len()), (given, withheld), "tier {tier}, allowed {allowed:?}");
        }
    }
}
