//! Why a reconciliation failed; the key is tried again after a while.

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    #[error("{step}: {source}")]
    Api { step: &'static str, source: kube::Error },
    #[error("not all is deleted: {failures}")]
    Unfinished { failures: String },
    #[error("the controller's code panicked")]
    Panic,
    #[error("the owner is being deleted and adopts nothing")]
    OwnerGone,
    #[error("an object can't be read: {0}")]
    Unreadable(String),
    /// What a set's condition says too.
    #[error("{0}")]
    Pods(String),
}

/// Names the step at which the API refused: `.step("updating the status")?`.
pub(crate) trait Step<T> {
    fn step(self, step: &'static str) -> Result<T>;
}

impl<T> Step<T> for Result<T, kube::Error> {
    fn step(self, step: &'static str) -> Result<T> {
        self.map_err(|source| Error::Api { step, source })
    }
}

/// The status code, if the API server has judged the request.
pub(crate) fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// Nothing to say where the object is gone already.
pub(crate) fn unless_gone<T>(outcome: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if code(&error) == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Nothing to do where somebody was faster, or where the namespace is on its way out.
pub(crate) fn unless_there_or_terminating<T>(outcome: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(code(&error), Some(404 | 409)) || is_namespace_terminating(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the API server said, without the client's own words; upstream's events and conditions quote it so.
pub(crate) fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// The request failed since the namespace is being deleted: nothing will ever be made in it.
pub(crate) fn is_namespace_terminating(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    status.details.iter().flat_map(|details| &details.causes).any(|cause| cause.reason == "NamespaceTerminating")
}
