//! How many starts an engine is given at once: additive increase, multiplicative decrease (Netflix's AIMD).

use super::Policy;

/// The limit of one engine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    exact: f64,
}

impl Limit {
    /// Where it begins.
    pub fn new(policy: &Policy) -> Self {
        Self { exact: f64::from(policy.provisions_start.max(policy.provisions_min)) }
    }

    /// Starts at once.
    pub fn get(self) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and 64 by the policy"
        )]
        let whole = self.exact as u32;
        whole.max(1)
    }

    /// An engine call of a start failed in a way that says something about the engine.
    #[must_use]
    pub fn failed(self, policy: &Policy) -> Self {
        Self { exact: (self.exact * policy.provisions_backoff).max(f64::from(policy.provisions_min)) }
    }

    /// A start went well while so many were under way. Only a limit that was at least half used is proved too low.
    #[must_use]
    pub fn went_well(self, policy: &Policy, under_way: u32) -> Self {
        if under_way * 2 < self.get() {
            return self;
        }
        Self { exact: (self.exact + 1.0).min(f64::from(policy.provisions_max)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn trouble_lowers_it_to_one_and_success_raises_it_again() {
        let policy = Policy::default();
        let mut limit = Limit::new(&policy);
        assert_eq!(limit.get(), 3);
        for _ in 0..20 {
            limit = limit.failed(&policy);
        }
        assert_eq!(limit.get(), 1);
        for _ in 0..20 {
            limit = limit.went_well(&policy, limit.get());
        }
        assert_eq!(limit.get(), 8);
    }

    #[test]
    fn what_was_hardly_used_is_not_raised() {
        let policy = Policy::default();
        let limit = Limit { exact: 8.0 };
        assert_eq!(limit.went_well(&policy, 3), limit);
    }

    #[test]
    fn a_limit_that_was_half_used_is_raised_by_one() {
        let policy = Policy::default();
        let limit = Limit { exact: 6.0 };
        let raised = [0, 2, 3, 6].map(|under_way| limit.went_well(&policy, under_way).get());
        assert_eq!(raised, [6, 6, 7, 7]);
    }

    #[test]
    fn each_error_takes_a_tenth() {
        let policy = Policy::default();
        let lowered = Limit { exact: 6.0 }.failed(&policy);
        assert!((lowered.exact - 5.4).abs() < 1e-9, "{lowered:?}");
        assert_eq!(lowered.get(), 5);
    }

    proptest! {
        #[test]
        fn it_stays_in_its_range(steps in prop::collection::vec((any::<bool>(), 0_u32..10), 0..100)) {
            let policy = Policy::default();
            let mut limit = Limit::new(&policy);
            for (well, under_way) in steps {
                limit = if well { limit.went_well(&policy, under_way) } else { limit.failed(&policy) };
                prop_assert!((policy.provisions_min..=policy.provisions_max).contains(&limit.get()));
            }
        }
    }
}
