//! Workloads that grow and shrink by themselves.

mod horizontal_pod_autoscaler;
mod horizontal_pod_autoscaler_v1;

pub use horizontal_pod_autoscaler::HORIZONTAL_POD_AUTOSCALER;
pub use horizontal_pod_autoscaler_v1::HORIZONTAL_POD_AUTOSCALER_V1;
