//! Who may do what.

mod cluster_role;
mod cluster_role_binding;
mod role;
mod role_binding;
mod rules;
mod subjects;

pub use cluster_role::CLUSTER_ROLE;
pub use cluster_role_binding::CLUSTER_ROLE_BINDING;
pub use role::ROLE;
pub use role_binding::ROLE_BINDING;
