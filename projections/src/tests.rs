//! What each projection makes of each kind of fact, and what holds for all of them.

mod calls;
mod care;
mod credentials;
mod erasure;
mod hierarchy;
mod history;
mod picture;
mod properties;
mod rebuild;
mod roster;
mod runner;
mod snapshots;
mod standing;
mod structure;
mod supervision;
mod tail;
