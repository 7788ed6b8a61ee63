//! What the edge promises, over a real socket, with the real write and read side on a log in memory.

mod access;
mod activity;
mod as_of;
mod assignment;
mod bad_input;
mod busy;
mod calls;
mod delegations;
mod document;
mod hibernation;
mod incidents;
mod lifecycle;
mod live;
mod matrix;
mod moments;
mod org;
mod platform;
mod projections;
mod queue;
mod registry;
mod replays;
mod sessions;
mod subscriptions;
mod supervision;
mod tokens;
mod transcript;
