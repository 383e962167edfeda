//! What requests carry that isn't an object of the table: the bodies of subresources, and options.

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions;

use crate::kind::Kind;
use crate::kinds::part::schema_of;

pub static DELETE_OPTIONS: Kind = Kind { kind: "DeleteOptions", schema: schema_of::<DeleteOptions>, ..Kind::NONE };
pub static EVICTION: Kind = Kind { group: "policy", kind: "Eviction", schema: schema_of::<Eviction>, ..Kind::NONE };
pub static SCALE: Kind = Kind { group: "autoscaling", kind: "Scale", schema: schema_of::<Scale>, ..Kind::NONE };
pub static TOKEN_REQUEST: Kind =
    Kind { group: "authentication.k8s.io", kind: "TokenRequest", schema: schema_of::<TokenRequest>, ..Kind::NONE };
