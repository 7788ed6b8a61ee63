//! The machinery, run for real over the log in memory.
