//! How lists and maps of the built-in types merge: patch strategies and keys, list types and map keys.
//!
//! The generated schemas lack these, and without them kubectl would replace lists that it should merge. Lists that
//! aren't named here are atomic, maps and structs that aren't are granular, as upstream's types say or imply.

/// What upstream's Go types say of one field (`patchStrategy`, `patchMergeKey`, `+listType`, `+listMapKey` …).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merge {
    /// `merge`, `replace`, `retainKeys`, `merge,retainKeys`, or empty, which means: lists are replaced, maps merged.
    pub patch_strategy: &'static str,
    /// Which field of its elements tells them apart in strategic merge patches. Empty for lists of scalars.
    pub patch_key: &'static str,
    /// `set` or `map` for lists, `atomic` or `granular` for any; empty where the type's default holds.
    pub list_type: &'static str,
    /// Which fields together tell the elements of a `map` list apart in server-side apply.
    pub map_keys: &'static [&'static str],
}

impl Merge {
    const NONE: Self = Self { patch_strategy: "", patch_key: "", list_type: "", map_keys: &[] };
    const SET: Self = Self { list_type: "set", ..Self::NONE };
    const PATCHED_SET: Self = Self { patch_strategy: "merge", ..Self::SET };
    const ATOMIC: Self = Self { list_type: "atomic", ..Self::NONE };
    const GRANULAR: Self = Self { list_type: "granular", ..Self::NONE };
    const RETAIN_KEYS: Self = Self { patch_strategy: "retainKeys", ..Self::NONE };
    const REPLACE: Self = Self { patch_strategy: "replace", ..Self::NONE };

    /// Keyed for apply; replaced whole by patches.
    const fn map(keys: &'static [&'static str]) -> Self {
        Self { list_type: "map", map_keys: keys, ..Self::NONE }
    }

    /// Keyed for both; patches go by the first key alone.
    const fn keyed(keys: &'static [&'static str]) -> Self {
        Self { patch_strategy: "merge", patch_key: keys[0], ..Self::map(keys) }
    }

    const fn keyed_retaining(keys: &'static [&'static str]) -> Self {
        Self { patch_strategy: "merge,retainKeys", ..Self::keyed(keys) }
    }

    /// Keyed for patches; atomic for apply.
    const fn patched(key: &'static str) -> Self {
        Self { patch_strategy: "merge", patch_key: key, ..Self::ATOMIC }
    }

    /// Whether a strategic merge patch merges this list, or replaces it.
    pub fn merges_in_patches(&self) -> bool {
        self.patch_strategy.starts_with("merge")
    }
}

/// What is known of `field` of the type named `type_name` (`io.k8s.api.core.v1.PodSpec`).
pub fn of_field(type_name: &str, field: &str) -> Option<&'static Merge> {
    let found = FIELDS.binary_search_by(|(name, of, _)| (*name, *of).cmp(&(type_name, field)));
    found.ok().map(|index| &FIELDS[index].2)
}

/// Whether apply replaces values of this type as a whole (`+structType=atomic`).
pub fn is_atomic(type_name: &str) -> bool {
    ATOMIC_TYPES.binary_search(&type_name).is_ok()
}

/// Sorted by type, then by field.
#[rustfmt::skip] // One fact a line.
const FIELDS: &[(&str, &str, Merge)] = &[
    ("io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicySpec", "matchConditions", Merge::keyed(&["name"])),
    ("io.k8s.api.admissionregistration.v1.MutatingWebhook", "matchConditions", Merge::keyed(&["name"])),
    ("io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration", "webhooks", Merge::keyed(&["name"])),
    ("io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBindingSpec", "validationActions", Merge::SET),
    ("io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicySpec", "matchConditions", Merge::keyed(&["name"])),
    ("io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicySpec", "variables", Merge::keyed(&["name"])),
    ("io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyStatus", "conditions", Merge::map(&["type"])),
    ("io.k8s.api.admissionregistration.v1.ValidatingWebhook", "matchConditions", Merge::keyed(&["name"])),
    ("io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration", "webhooks", Merge::keyed(&["name"])),
    ("io.k8s.api.apps.v1.DaemonSetStatus", "conditions", Merge::keyed(&["type"])),
    ("io.k8s.api.apps.v1.DeploymentSpec", "strategy", Merge::RETAIN_KEYS),
    ("io.k8s.api.apps.v1.DeploymentStatus", "conditions", Merge::keyed(&["type"])),
    ("io.k8s.api.apps.v1.ReplicaSetStatus", "conditions", Merge::keyed(&["type"])),
    ("io.k8s.api.apps.v1.StatefulSetStatus", "conditions", Merge::keyed(&["type"])),
    ("io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerStatus", "conditions", Merge::keyed(&["type"])),
    ("io.k8s.api.batch.v1.JobStatus", "conditions", Merge::patched("type")),
    ("io.k8s.api.batch.v1.PodFailurePolicyOnExitCodesRequirement", "values", Merge::SET),
    ("io.k8s.api.batch.v1.UncountedTerminatedPods", "failed", Merge::SET),
    ("io.k8s.api.batch.v1.UncountedTerminatedPods", "succeeded", Merge::SET),
    ("io.k8s.api.certificates.v1.CertificateSigningRequestStatus", "conditions", Merge::map(&["type"])),
    ("io.k8s.api.core.v1.ComponentStatus", "conditions", Merge::keyed(&["type"])),
    ("io.k8s.api.core.v1.Container", "env", Merge::keyed(&["name"])),
    ("io.k8s.api.core.v1.Container", "ports", Merge::keyed(&["containerPort", "protocol"])),
    ("io.k8s.api.core.v1.Container", "volumeDevices", Merge::keyed(&["devicePath"])),
    ("io.k8s.api.core.v1.Container", "volumeMounts", Merge::keyed(&["mountPath"])),
    ("io.k8s.api.core.v1.ContainerRestartRuleOnExitCodes", "values", Merge::SET),
    ("io.k8s.api.core.v1.ContainerStatus", "allocatedResourcesStatus", Merge::keyed(&["name"])),
    ("io.k8s.api.core.v1.ContainerStatus", "volumeMounts", Merge::keyed(&["mountPath"])),
    ("io.k8s.api.core.v1.EphemeralContainer", "env", Merge::keyed(&["name"])),
    ("io.k8s.api.core.v1.EphemeralContainer", "ports", Merge::keyed(&["containerPort", "protocol"])),
    ("io.k8s.api.core.v1.EphemeralContainer", "volumeDevices", Merge::keyed(&["devicePath"])),
    ("io.k8s.api.core.v1.EphemeralContainer", "volumeMounts", Merge::keyed(&["mountPath"])),
    ("io.k8s.api.core.v1.NamespaceStatus", "conditions", Merge::keyed(&["type"])),
    ("io.k8s.api.core.v1.NodeAllocatableResourceClaimStatus", "containers", Merge::SET),
    ("io.k8s.api.core.v1.NodeSpec", "podCIDRs", Merge::PATCHED_SET),
    ("io.k8s.api.core.v1.NodeStatus", "addresses", Merge::keyed(&["type"])),
    ("io.k8s.api.core.v1.NodeStatus", "conditions", Merge::keyed(&["type"])),
    ("io.k8s.api.core.v1.PersistentVolumeClaimStatus", "allocatedResourceStatuses", Merge::GRANULAR),
    ("io.k8s.api.core.v1.PersistentVolumeClaimStatus", "conditions", Merge::keyed(&["type"])),
    ("io.k8s.api.core.v1.PersistentVolumeSpec", "claimRef", Merge::GRANULAR),
    ("io.k8s.api.core.v1.PodSpec", "containers", Merge::keyed(&["name"])),
    ("io.k8s.api.core.v1.PodSpec", "ephemeralContainers", Merge::keyed(&["name"])),
    ("io.k8s.api.core.v1.PodSpec", "hostAliases", Merge::keyed(&["ip"])),
    ("io.k8s.api.core.v1.PodSpec", "imagePullSecrets", Merge::keyed(&["name"])),
    ("io.k8s.api.core.v1.PodSpec", "initContainers", Merge::keyed(&["name"])),
    ("io.k8s.api.core.v1.PodSpec", "nodeSelector", Merge::ATOMIC),
    ("io.k8s.api.core.v1.PodSpec", "resourceClaims", Merge::keyed_retaining(&["name"])),
    ("io.k8s.api.core.v1.PodSpec", "schedulingGates", Merge::keyed(&["name"])),
    ("io.k8s.api.core.v1.PodSpec", "topologySpreadConstraints", Merge::keyed(&["topologyKey", "whenUnsatisfiable"])),
    ("io.k8s.api.core.v1.PodSpec", "volumes", Merge::keyed_retaining(&["name"])),
    ("io.k8s.api.core.v1.PodStatus", "conditions", Merge::keyed(&["type"])),
    ("io.k8s.api.core.v1.PodStatus", "hostIPs", Merge::patched("ip")),
    ("io.k8s.api.core.v1.PodStatus", "podIPs", Merge::keyed(&["ip"])),
    ("io.k8s.api.core.v1.PodStatus", "resourceClaimStatuses", Merge::keyed_retaining(&["name"])),
    ("io.k8s.api.core.v1.ReplicationControllerSpec", "selector", Merge::ATOMIC),
    ("io.k8s.api.core.v1.ReplicationControllerStatus", "conditions", Merge::keyed(&["type"])),
    ("io.k8s.api.core.v1.ResourceRequirements", "claims", Merge::map(&["name"])),
    ("io.k8s.api.core.v1.ResourceStatus", "resources", Merge::map(&["resourceID"])),
    ("io.k8s.api.core.v1.ServiceAccount", "secrets", Merge::keyed(&["name"])),
    ("io.k8s.api.core.v1.ServiceSpec", "ports", Merge::keyed(&["port", "protocol"])),
    ("io.k8s.api.core.v1.ServiceSpec", "selector", Merge::ATOMIC),
    ("io.k8s.api.core.v1.ServiceStatus", "conditions", Merge::keyed(&["type"])),
    ("io.k8s.api.discovery.v1.Endpoint", "addresses", Merge::SET),
    ("io.k8s.api.flowcontrol.v1.FlowSchemaStatus", "conditions", Merge::keyed(&["type"])),
    ("io.k8s.api.flowcontrol.v1.NonResourcePolicyRule", "nonResourceURLs", Merge::SET),
    ("io.k8s.api.flowcontrol.v1.NonResourcePolicyRule", "verbs", Merge::SET),
    ("io.k8s.api.flowcontrol.v1.PriorityLevelConfigurationStatus", "conditions", Merge::keyed(&["type"])),
    ("io.k8s.api.flowcontrol.v1.ResourcePolicyRule", "apiGroups", Merge::SET),
    ("io.k8s.api.flowcontrol.v1.ResourcePolicyRule", "namespaces", Merge::SET),
    ("io.k8s.api.flowcontrol.v1.ResourcePolicyRule", "resources", Merge::SET),
    ("io.k8s.api.flowcontrol.v1.ResourcePolicyRule", "verbs", Merge::SET),
    ("io.k8s.api.networking.v1.ServiceCIDRStatus", "conditions", Merge::keyed(&["type"])),
    ("io.k8s.api.node.v1.Scheduling", "nodeSelector", Merge::ATOMIC),
    ("io.k8s.api.policy.v1.PodDisruptionBudgetSpec", "selector", Merge::REPLACE),
    ("io.k8s.api.policy.v1.PodDisruptionBudgetStatus", "conditions", Merge::keyed(&["type"])),
    ("io.k8s.api.resource.v1.AllocatedDeviceStatus", "conditions", Merge::map(&["type"])),
    ("io.k8s.api.resource.v1.ResourceClaimStatus", "devices", Merge::map(&["driver", "device", "pool", "shareID"])),
    ("io.k8s.api.resource.v1.ResourceClaimStatus", "reservedFor", Merge::keyed(&["uid"])),
    ("io.k8s.api.storage.v1.CSIDriverSpec", "volumeLifecycleModes", Merge::SET),
    ("io.k8s.api.storage.v1.CSINodeSpec", "drivers", Merge::keyed(&["name"])),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionStatus", "conditions", Merge::map(&["type"])),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps", "x-kubernetes-validations", Merge::keyed(&["rule"])),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "finalizers", Merge::PATCHED_SET),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "ownerReferences", Merge::keyed(&["uid"])),
    ("io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIServiceStatus", "conditions", Merge::keyed(&["type"])),
];

/// Sorted.
const ATOMIC_TYPES: &[&str] = &[
    "io.k8s.api.admissionregistration.v1.MatchResources",
    "io.k8s.api.admissionregistration.v1.NamedRuleWithOperations",
    "io.k8s.api.admissionregistration.v1.ParamKind",
    "io.k8s.api.admissionregistration.v1.ParamRef",
    "io.k8s.api.admissionregistration.v1.Variable",
    "io.k8s.api.autoscaling.v1.CrossVersionObjectReference",
    "io.k8s.api.core.v1.ConfigMapKeySelector",
    "io.k8s.api.core.v1.EndpointAddress",
    "io.k8s.api.core.v1.EndpointPort",
    "io.k8s.api.core.v1.FileKeySelector",
    "io.k8s.api.core.v1.LocalObjectReference",
    "io.k8s.api.core.v1.NodeSelector",
    "io.k8s.api.core.v1.NodeSelectorTerm",
    "io.k8s.api.core.v1.ObjectFieldSelector",
    "io.k8s.api.core.v1.ObjectReference",
    "io.k8s.api.core.v1.ResourceFieldSelector",
    "io.k8s.api.core.v1.ScopeSelector",
    "io.k8s.api.core.v1.SecretKeySelector",
    "io.k8s.api.core.v1.SecretReference",
    "io.k8s.api.core.v1.TopologySelectorTerm",
    "io.k8s.api.core.v1.TypedLocalObjectReference",
    "io.k8s.api.discovery.v1.EndpointPort",
    "io.k8s.api.networking.v1.ServiceBackendPort",
    "io.k8s.api.rbac.v1.RoleRef",
    "io.k8s.api.rbac.v1.Subject",
    "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector",
    "io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted() {
        assert!(FIELDS.is_sorted_by(|a, b| (a.0, a.1) < (b.0, b.1)));
        assert!(ATOMIC_TYPES.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn every_fact_is_of_a_field_that_exists() {
        let mut generator = schemars::SchemaGenerator::default();
        for kind in crate::kinds::all() {
            (kind.schema)(&mut generator);
        }
        let definitions = generator.definitions();
        for (type_name, field, merge) in FIELDS {
            let properties = definitions.get(*type_name).and_then(|d| d.get("properties"));
            let property = properties.and_then(|p| p.get(*field));
            assert!(property.is_some(), "{type_name}.{field} is no field of a served kind");
            assert!(merge.map_keys.is_empty() == (merge.list_type != "map"), "{type_name}.{field}");
        }
        for type_name in ATOMIC_TYPES {
            assert!(definitions.contains_key(*type_name), "{type_name} is no type of a served kind");
        }
    }
}
