//! The suite that every [`EventLog`](super::EventLog) passes.
