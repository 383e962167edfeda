//! A workload's size by its load.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;

use crate::kind::Kind;
use crate::kinds::part::{schema_of, subresources, verbs};

pub static HORIZONTAL_POD_AUTOSCALER: Kind = Kind {
    group: "autoscaling",
    version: "v2",
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    singular: "horizontalpodautoscaler",
    short_names: &["hpa"],
    categories: &["all"],
    verbs: verbs::ALL,
    subresources: &[subresources::status("HorizontalPodAutoscaler")],
    schema: schema_of::<HorizontalPodAutoscaler>,
    ..Kind::NONE
};
