//! Where an informer's objects come from: the API server in the same process, or a watch over HTTPS.

use std::sync::Arc;

use futures::stream::BoxStream;
use tug_api::Object;

/// Which objects of a kind to follow. Empty strings mean no restriction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope {
    pub group: String,
    pub version: String,
    pub plural: String,
    pub namespace: String,
    /// As in a request's `labelSelector`.
    pub labels: String,
    /// As in a request's `fieldSelector`.
    pub fields: String,
}

impl Scope {
    /// All objects of the kind.
    pub fn is_whole(&self) -> bool {
        self.namespace.is_empty() && self.labels.is_empty() && self.fields.is_empty()
    }
}

/// What a source says. It begins with `Restart`, the objects as they are, `Synced`; then changes. A source that lost its
/// place begins again with `Restart`.
#[derive(Clone, Debug)]
pub enum SourceEvent {
    /// Forget what isn't repeated before the next `Synced`.
    Restart,
    Synced,
    /// All changes up to this revision have been said. Each object's own revision says so too, so this is needed only
    /// where there was none to say, as after a listing.
    Reached(u64),
    Applied(Arc<Object>),
    Deleted(Arc<Object>),
}

/// A feed of objects. Its stream never ends by itself: errors are retried with back-off inside it, with a trace.
pub trait Source: Send + Sync + 'static {
    fn follow(&self, scope: Scope) -> BoxStream<'static, SourceEvent>;
}
