//! The wire shapes of A2A, versions 0.3 and 1.0, as far as an agent without tasks needs them. Pure.
//!
//! Every answer here is a Message, never a Task: a runtime answers within the call, nothing outlives it, and so
//! there is nothing to get, cancel or subscribe to. Clients of both versions accept that by specification.
//!
//! SDKs parse results strictly: an unknown member is an error on their side, so nothing is ever added.

pub mod card;
pub mod message;
pub mod method;
pub mod rpc;
