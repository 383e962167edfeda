//! Where a Service's endpoints are.

mod endpoint_slice;

pub use endpoint_slice::ENDPOINT_SLICE;
