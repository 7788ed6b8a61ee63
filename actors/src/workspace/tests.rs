//! Decisions about one workspace, as given / when / then.
