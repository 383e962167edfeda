//! Events under their newer group; stored as the core group's.

mod event;

pub use event::EVENT;
