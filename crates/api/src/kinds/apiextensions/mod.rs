//! Kinds that users define.

mod custom_resource_definition;

pub use custom_resource_definition::CUSTOM_RESOURCE_DEFINITION;
