//! A part's door to the Kubernetes API: `kube::Client` in process or over HTTPS, shared informers, work queues and an
//! event recorder. Nothing here knows any kind in particular.
#![forbid(unsafe_code)]

pub mod events;
pub mod https;
pub mod informer;
pub mod kubeconfig;
pub mod queue;
pub mod source;

use std::sync::Arc;

pub use events::Recorder;
pub use https::HttpsSource;
pub use informer::{Change, Informer, Informers};
pub use queue::{Next, Queue, work};
pub use source::{Scope, Source, SourceEvent};

/// What a scheduler, controller, kubelet, proxy or DNS server is given: an identity's door to the API.
#[derive(Clone)]
pub struct Cluster {
    pub client: kube::Client,
    pub informers: Informers,
}

impl Cluster {
    /// `client` and `source` must speak for the same identity.
    pub fn new(client: kube::Client, source: Arc<dyn Source>) -> Self {
        Self { client, informers: Informers::new(source) }
    }
}
