//! Records core/v1 Events about objects, folding repeats into one Event's `count` as client-go's recorder does.

use k8s_openapi::api::core::v1::ObjectReference;

#[derive(Clone)]
pub struct Recorder;

impl Recorder {
    /// `component` is `source.component` (`kubelet`, `default-scheduler`, `deployment-controller`), `host` its node.
    pub fn new(client: kube::Client, component: &'static str, host: Option<String>) -> Self {
        let _ = (client, component, host);
        todo!()
    }

    /// Never waits; past a bound of queued events the oldest are dropped with a count in the trace.
    pub fn normal(&self, about: &ObjectReference, reason: &str, message: &str) {
        let _ = (about, reason, message);
        todo!()
    }

    pub fn warning(&self, about: &ObjectReference, reason: &str, message: &str) {
        let _ = (about, reason, message);
        todo!()
    }
}

/// The reference that events and owner references carry.
pub fn reference<K>(object: &K) -> ObjectReference
where
    K: k8s_openapi::Metadata<Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>,
{
    let _ = object;
    todo!()
}
