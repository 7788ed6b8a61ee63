//! What the whole edge promises, without a socket where that is enough.
