//! Groups served by other API servers.

mod api_service;

pub use api_service::API_SERVICE;
