//! The table of kinds: one module a kind, one line here each.

use crate::kind::Kind;

/// Every served kind, in discovery's order.
pub fn all() -> &'static [&'static Kind] {
    &[]
}

/// The kind behind a request's path.
pub fn by_resource(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    all().iter().copied().find(|k| k.group == group && k.version == version && k.plural == plural)
}

/// The kind that an object names in `apiVersion` and `kind`.
pub fn by_kind(group: &str, version: &str, kind: &str) -> Option<&'static Kind> {
    all().iter().copied().find(|k| k.group == group && k.version == version && k.kind == kind)
}
