//! Tables over the policy.
