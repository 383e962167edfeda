//! What becomes of an object, from what became of its owners (upstream's `attemptToDeleteItem`).

use kube::api::PropagationPolicy;
use tug_api::Meta;

pub(super) const ORPHAN: &str = "orphan";
pub(super) const FOREGROUND: &str = "foregroundDeletion";

/// An owner, as the API has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// It is there, and not because it waits for its dependents.
    Solid,
    /// Nothing of that name and uid is there.
    Dangling,
    /// It is being deleted, once its dependents are gone.
    Waiting,
}

/// What is known of an object's own dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dependents {
    None,
    Some,
    /// One of them waits for its own dependents: perhaps for this object.
    SomeWaiting,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Keep,
    /// References to the owners of these uids are taken out.
    Unlink(Vec<String>),
    /// Its references are made to block no deletion: it may be part of a circle.
    Unblock,
    Delete(PropagationPolicy),
}

/// `owners` are those that `meta` refers to, in the same order.
pub(super) fn step(meta: &Meta, owners: &[Owner], dependents: Dependents) -> Step {
    let references = &meta.owner_references;
    if references.is_empty() {
        return Step::Keep;
    }
    if owners.contains(&Owner::Solid) {
        let gone = references.iter().zip(owners).filter(|(_, owner)| **owner != Owner::Solid);
        let gone: Vec<String> = gone.map(|(reference, _)| reference.uid.clone()).collect();
        // Those that wait would else wait for ever.
        return if gone.is_empty() { Step::Keep } else { Step::Unlink(gone) };
    }
    if owners.contains(&Owner::Waiting) && dependents != Dependents::None {
        let blocks = references.iter().any(|reference| reference.block_owner_deletion == Some(true));
        if dependents == Dependents::SomeWaiting && blocks {
            return Step::Unblock;
        }
        return Step::Delete(PropagationPolicy::Foreground);
    }
    let has = |finalizer: &str| meta.finalizers.iter().any(|held| held == finalizer);
    Step::Delete(if has(ORPHAN) {
        PropagationPolicy::Orphan
    } else if has(FOREGROUND) {
        PropagationPolicy::Foreground
    } else {
        PropagationPolicy::Background
    })
}

/// Being deleted, and stays until its dependents are gone.
pub(super) fn waits_for_dependents(meta: &Meta) -> bool {
    meta.deletion_timestamp.is_some() && meta.finalizers.iter().any(|held| held == FOREGROUND)
}

/// Being deleted, and stays until its dependents have forgotten it.
pub(super) fn waits_for_orphans(meta: &Meta) -> bool {
    meta.deletion_timestamp.is_some() && meta.finalizers.iter().any(|held| held == ORPHAN)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

    use super::*;

    fn meta(owners: &[(&str, bool)], finalizers: &[&str]) -> Meta {
        let reference = |(uid, blocks): &(&str, bool)| OwnerReference {
            uid: (*uid).into(),
            block_owner_deletion: Some(*blocks),
            ..OwnerReference::default()
        };
        Meta {
            owner_references: owners.iter().map(reference).collect(),
            finalizers: finalizers.iter().map(|f| (*f).to_string()).collect(),
            ..Meta::default()
        }
    }

    /// Expected from the comments and cases of upstream's `garbagecollector_test.go` and `attemptToDeleteItem`.
    #[test]
    fn owners_decide() {
        use Owner::{Dangling, Solid, Waiting};
        use PropagationPolicy::{Background, Foreground, Orphan};
        let (free, blocking) = (("a", false), ("a", true));
        let unlink = |uids: &[&str]| Step::Unlink(uids.iter().map(|uid| (*uid).to_string()).collect());
        let cases = [
            (meta(&[], &[]), vec![], Dependents::Some, Step::Keep),
            (meta(&[free], &[]), vec![Solid], Dependents::None, Step::Keep),
            (meta(&[free], &[]), vec![Dangling], Dependents::Some, Step::Delete(Background)),
            (meta(&[free], &[ORPHAN]), vec![Dangling], Dependents::None, Step::Delete(Orphan)),
            (meta(&[free], &[FOREGROUND]), vec![Dangling], Dependents::None, Step::Delete(Foreground)),
            (meta(&[free, ("b", false)], &[]), vec![Solid, Dangling], Dependents::None, unlink(&["b"])),
            (meta(&[blocking, ("b", true)], &[]), vec![Waiting, Solid], Dependents::Some, unlink(&["a"])),
            (meta(&[free, ("b", true)], &[]), vec![Dangling, Waiting], Dependents::None, Step::Delete(Background)),
            (meta(&[blocking], &[]), vec![Waiting], Dependents::None, Step::Delete(Background)),
            (meta(&[blocking], &[]), vec![Waiting], Dependents::Some, Step::Delete(Foreground)),
            (meta(&[blocking], &[]), vec![Waiting], Dependents::SomeWaiting, Step::Unblock),
            (meta(&[free], &[]), vec![Waiting], Dependents::SomeWaiting, Step::Delete(Foreground)),
        ];
        for (meta, owners, dependents, expected) in cases {
            assert_eq!(step(&meta, &owners, dependents), expected, "{:?} {owners:?}", meta.owner_references);
        }
    }
}
