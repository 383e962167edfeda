//! The API as its clients see it: over TLS, from a server on a store of its own.

mod anonymous;
mod lists_and_watches;
mod malformed;
mod objects;
mod support;
