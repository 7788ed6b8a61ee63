//! What the stories share: a real platform to talk to, a client that speaks its wire, a real engine, and patience.

pub(crate) mod client;
pub(crate) mod docker;
pub(crate) mod eventually;
pub(crate) mod fault_proxy;
pub(crate) mod platform;
pub(crate) mod processes;
pub(crate) mod python;
pub(crate) mod rebuilt;
pub(crate) mod receiver;
