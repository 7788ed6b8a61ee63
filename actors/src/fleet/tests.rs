//! Decisions about the fleet, as given / when / then.
