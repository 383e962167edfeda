//! Admission by webhooks and expressions.

mod mutating_admission_policy;
mod mutating_admission_policy_binding;
mod mutating_webhook_configuration;
mod validating_admission_policy;
mod validating_admission_policy_binding;
mod validating_webhook_configuration;

mod policies;
mod webhooks;

pub use mutating_admission_policy::MUTATING_ADMISSION_POLICY;
pub use mutating_admission_policy_binding::MUTATING_ADMISSION_POLICY_BINDING;
pub use mutating_webhook_configuration::MUTATING_WEBHOOK_CONFIGURATION;
pub use validating_admission_policy::VALIDATING_ADMISSION_POLICY;
pub use validating_admission_policy_binding::VALIDATING_ADMISSION_POLICY_BINDING;
pub use validating_webhook_configuration::VALIDATING_WEBHOOK_CONFIGURATION;
