//! The objects of a kind in a namespace, written as JSON: for code that makes many alike or must keep fields that it
//! doesn't know.

use kube::Client;
use kube::api::{DeleteParams, GetParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Request;
use serde_json::Value;
use tug_api::{Kind, Object};

#[derive(Clone)]
pub(crate) struct Collection {
    client: Client,
    path: Request,
}

type Result<T> = std::result::Result<T, kube::Error>;

impl Collection {
    pub fn new(client: &Client, kind: &Kind, namespace: &str) -> Self {
        let Kind { group, version, plural, .. } = kind;
        let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        Self { client: client.clone(), path: Request::new(format!("{root}/namespaces/{namespace}/{plural}")) }
    }

    pub async fn get(&self, name: &str) -> Result<Object> {
        self.send(self.path.get(name, &GetParams::default())).await
    }

    pub async fn create(&self, json: Vec<u8>) -> Result<Object> {
        self.send(self.path.create(&PostParams::default(), json)).await
    }

    pub async fn replace(&self, name: &str, object: &Value) -> Result<Object> {
        self.send(self.path.replace(name, &PostParams::default(), object.to_string().into())).await
    }

    pub async fn replace_status(&self, name: &str, object: &Value) -> Result<Object> {
        self.send(self.path.replace_subresource("status", name, &PostParams::default(), object.to_string().into()))
            .await
    }

    /// A strategic merge patch.
    pub async fn patch(&self, name: &str, patch: &Value) -> Result<Object> {
        self.send(self.path.patch(name, &PatchParams::default(), &Patch::Strategic(patch))).await
    }

    /// Deletes the object if it still is the one with this uid. What comes back is the object or, for most kinds, a
    /// `Status`, whose revision is 0.
    pub async fn delete(&self, name: &str, uid: &str) -> Result<Object> {
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        self.send(self.path.delete(name, &DeleteParams::default().preconditions(preconditions))).await
    }

    async fn send(
        &self,
        request: std::result::Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<Object> {
        let answer = self.client.request_text(request.map_err(kube::Error::BuildRequest)?).await?;
        Object::decode(answer.into()).map_err(kube::Error::SerdeError)
    }
}
