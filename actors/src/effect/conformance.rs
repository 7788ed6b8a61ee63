//! The suite that every [`Backend`](super::Backend) passes.
