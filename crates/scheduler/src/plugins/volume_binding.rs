//! VolumeBinding: a pod waits for its claims, and goes where their volumes are, or can be made.

use crate::change::{Change, Kinds, Subject};
use crate::framework::{Cycle, Filter, Plugin, PreFilter, Rejection};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::storage::{Claim, Storage};

pub struct VolumeBinding;

/// The pod's claims: those with a volume, and those that get one once the pod's node is known.
struct Volumes<'a> {
    storage: &'a Storage,
    bound: Vec<&'a Claim>,
    delayed: Vec<&'a Claim>,
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn pre_filter<'a>(&self, cycle: Cycle<'a>) -> PreFilter<'a> {
        if cycle.pod.wishes().volumes.is_empty() {
            return PreFilter::Skip;
        }
        match Volumes::of(cycle.pod, &cycle.cache.others.storage) {
            Ok(volumes) => PreFilter::Filter(Box::new(volumes)),
            Err(why) => PreFilter::Reject(why.into()),
        }
    }

    fn pre_bind(&self, cycle: Cycle<'_>) -> Vec<String> {
        let storage = &cycle.cache.others.storage;
        let volumes = cycle.pod.wishes().volumes.iter();
        let unbound = volumes
            .filter(|volume| storage.claim(&cycle.pod.key.namespace, &volume.name).is_some_and(|claim| !claim.bound));
        unbound.map(|volume| volume.name.clone()).collect()
    }

    fn events(&self) -> Kinds {
        Kinds::CLAIM | Kinds::VOLUME | Kinds::CLASS | Kinds::NODE_ADD | Kinds::NODE_LABEL
    }

    fn helps(&self, pod: &PodInfo, change: &Change) -> bool {
        match &change.subject {
            Subject::Claim(key) => {
                pod.key.namespace == key.namespace && pod.wishes().volumes.iter().any(|volume| volume.name == key.name)
            }
            _ => true,
        }
    }
}

impl<'a> Volumes<'a> {
    /// # Errors
    /// With why the pod can't be anywhere yet.
    fn of(pod: &PodInfo, storage: &'a Storage) -> Result<Self, String> {
        let mut volumes = Self { storage, bound: Vec::new(), delayed: Vec::new() };
        let mut immediate = false;
        for volume in &pod.wishes().volumes {
            let name = &volume.name;
            let claim = storage.claim(&pod.key.namespace, name).ok_or_else(|| match volume.ephemeral {
                true => format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"),
                false => format!("persistentvolumeclaim {name:?} not found"),
            })?;
            if claim.lost {
                let volume = claim.volume.as_deref().unwrap_or_default();
                return Err(format!(
                    "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
                ));
            }
            if claim.terminating {
                return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
            }
            if volume.ephemeral && claim.owner.as_deref() != Some(&pod.uid) {
                let (namespace, pod) = (&pod.key.namespace, &pod.key);
                return Err(format!("PVC {namespace}/{name} was not created for pod {pod} (pod is not owner)"));
            }
            if claim.bound {
                volumes.bound.push(claim);
            } else if claim.class.as_ref().is_some_and(|class| storage.class(class).is_some_and(|class| class.waits)) {
                volumes.delayed.push(claim);
            } else {
                immediate = true;
            }
        }
        if immediate {
            return Err("pod has unbound immediate PersistentVolumeClaims".into());
        }
        Ok(volumes)
    }

    fn can_be_made(&self, claim: &Claim, info: &NodeInfo) -> bool {
        if let Some(selected) = &claim.selected_node {
            return *selected == info.name;
        }
        let class = claim.class.as_ref().and_then(|class| self.storage.class(class));
        class.is_some_and(|class| class.provisions && class.serves(info.node()))
    }
}

impl Filter for Volumes<'_> {
    fn filter(&self, info: &NodeInfo) -> Result<(), Rejection> {
        let mut reasons = Vec::new();
        for claim in &self.bound {
            match claim.volume.as_deref().and_then(|name| self.storage.volume(name)) {
                None => {
                    return Err(Rejection::unresolvable(
                        "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
                    ));
                }
                Some(volume) if volume.nodes.matches(info.node()) => {}
                Some(_) => {
                    reasons.push("node(s) didn't match PersistentVolume's node affinity".into());
                    break;
                }
            }
        }
        if !self.delayed.iter().all(|claim| self.can_be_made(claim, info)) {
            reasons.push("node(s) didn't find available persistent volumes to bind".into());
        }
        if reasons.is_empty() { Ok(()) } else { Err(Rejection { unresolvable: true, reasons }) }
    }
}
