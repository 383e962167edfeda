//! The API as its clients see it: over TLS, from a server on a store of its own.

mod lists_and_watches;
mod objects;
mod support;
