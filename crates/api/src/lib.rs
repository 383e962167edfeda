//! What Kubernetes objects mean: the table of kinds, defaults, validation, selectors, quantities, patches and columns.
//!
//! Pure functions over values: no async, no files, no sockets. The API server calls these on an object's way in,
//! controllers and kubelets on its way out.
#![forbid(unsafe_code)]

pub mod apply;
pub mod columns;
pub mod discovery;
pub mod field;
pub mod golang;
pub mod kind;
pub mod kinds;
pub mod merge;
pub mod meta;
pub mod names;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod protobuf;
pub mod quantity;
pub mod schema;
pub mod selector;
pub mod table;

pub use field::{FieldError, FieldErrors};
pub use kind::{Column, Kind, Subresource};
pub use object::{Meta, Object, ObjectKey};
pub use patch::PatchError;
pub use quantity::Quantity;
pub use selector::{FieldSelector, Selector};
