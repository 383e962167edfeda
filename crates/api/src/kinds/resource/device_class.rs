//! A sort of device.

use k8s_openapi::api::resource::v1::DeviceClass;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, verbs};

pub static DEVICE_CLASS: Kind = Kind {
    group: "resource.k8s.io",
    kind: "DeviceClass",
    plural: "deviceclasses",
    singular: "deviceclass",
    namespaced: false,
    verbs: verbs::ALL,
    schema: schema_of::<DeviceClass>,
    has_generation: true,
    ..Kind::NONE
};
