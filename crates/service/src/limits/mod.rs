//! Spending limits: how much a user, a key, a session, a model or a tag may spend in a window of time.
