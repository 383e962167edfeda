//! Whose requests go first.

mod flow_schema;
mod priority_level_configuration;

pub use flow_schema::FLOW_SCHEMA;
pub use priority_level_configuration::PRIORITY_LEVEL_CONFIGURATION;
