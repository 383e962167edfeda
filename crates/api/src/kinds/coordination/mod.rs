//! Who holds what, until when.

mod lease;

pub use lease::LEASE;
