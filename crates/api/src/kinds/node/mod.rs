//! Which runtime runs a pod.

mod runtime_class;

pub use runtime_class::RUNTIME_CLASS;
