//! A pod's wish for a volume.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, subresources, verbs};

pub static PERSISTENT_VOLUME_CLAIM: Kind = Kind {
    kind: "PersistentVolumeClaim",
    plural: "persistentvolumeclaims",
    singular: "persistentvolumeclaim",
    short_names: &["pvc"],
    verbs: verbs::ALL,
    subresources: &[subresources::status("PersistentVolumeClaim")],
    schema: schema_of::<PersistentVolumeClaim>,
    ..Kind::NONE
};
