//! Which pods go first.

mod priority_class;

pub use priority_class::PRIORITY_CLASS;
