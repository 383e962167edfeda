//! Who owns what, read from the copies of all kinds: their indices are all the graph there is.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use tug_api::{Kind, Object, ObjectKey, kinds};

use super::decide::{Dependents, waits_for_dependents};
use crate::resources::Followed;

/// An object's place: what the queue holds.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Item {
    /// Of the graph's list.
    kind: usize,
    plural: &'static str,
    pub key: ObjectKey,
}

pub(super) struct Graph {
    followed: Vec<Followed>,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.plural, self.key)
    }
}

impl Graph {
    pub fn new(followed: Vec<Followed>) -> Self {
        Self { followed }
    }

    pub fn followed(&self) -> &[Followed] {
        &self.followed
    }

    pub fn item(&self, kind: usize, key: &ObjectKey) -> Item {
        Item { kind, plural: self.followed[kind].kind.plural, key: key.clone() }
    }

    pub fn kind(&self, item: &Item) -> &'static Kind {
        self.followed[item.kind].kind
    }

    pub fn object(&self, item: &Item) -> Option<Arc<Object>> {
        self.followed[item.kind].informer.object(&item.key)
    }

    /// Everything that names `uid` as an owner.
    pub fn dependents(&self, uid: &str) -> Vec<(Item, Arc<Object>)> {
        let of_kind = |(kind, followed): (usize, &Followed)| {
            let objects = followed.informer.objects_owned_by(uid);
            objects.into_iter().map(move |object| (self.item(kind, &object.key), object)).collect::<Vec<_>>()
        };
        self.followed.iter().enumerate().flat_map(of_kind).collect()
    }

    pub fn has_dependents(&self, uid: &str) -> Dependents {
        let dependents = self.dependents(uid);
        if dependents.iter().any(|(_, object)| waits_for_dependents(&object.meta)) {
            return Dependents::SomeWaiting;
        }
        if dependents.is_empty() { Dependents::None } else { Dependents::Some }
    }

    /// Where the owner is that an object in `namespace` refers to, if objects of its kind are followed.
    pub fn owner(&self, reference: &OwnerReference, namespace: &str) -> Option<Item> {
        let kind = kind_of(reference)?.storage();
        let kind = self.followed.iter().position(|followed| std::ptr::eq(followed.kind, kind))?;
        let namespace = if self.followed[kind].kind.namespaced { namespace } else { "" };
        Some(self.item(kind, &ObjectKey::new(namespace, &reference.name)))
    }

    /// The owner itself, if it is here.
    pub fn owner_object(&self, reference: &OwnerReference, namespace: &str) -> Option<Arc<Object>> {
        let owner = self.object(&self.owner(reference, namespace)?)?;
        (owner.meta.uid == reference.uid).then_some(owner)
    }

    /// True if an object of the kind referred to has this uid, wherever it is.
    pub fn is_elsewhere(&self, reference: &OwnerReference) -> bool {
        let Some(owner) = self.owner(reference, "") else { return false };
        let objects = self.followed[owner.kind].informer.objects();
        objects.iter().any(|object| object.meta.uid == reference.uid)
    }
}

/// `None` for kinds that aren't served, or that are only asked.
pub(super) fn kind_of(reference: &OwnerReference) -> Option<&'static Kind> {
    let (group, version) = reference.api_version.rsplit_once('/').unwrap_or(("", &reference.api_version));
    kinds::by_kind(group, version, &reference.kind).filter(|kind| kind.verbs.contains(&"get"))
}
