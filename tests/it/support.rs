//! What several stories need.

pub(crate) mod docker;
pub(crate) mod fault_proxy;
