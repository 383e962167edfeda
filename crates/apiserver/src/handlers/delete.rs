//! Objects deleted, one or all that a selector takes.

use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use tug_api::field::FieldError;
use tug_api::kinds::bodies;
use tug_api::{FieldErrors, Kind, schema};

use super::Call;
use super::decode;
use super::list::{self, Page};
use super::options::{dry_run, refused};
use crate::api::Inbound;
use crate::body::Body;
use crate::negotiate;
use crate::registry::{DeleteOptions, Deleted, Preconditions, Propagation};
use crate::respond;
use crate::status::{self, Status};

/// `meta/v1` `DeleteOptions`, as they come in a body.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Wire {
    grace_period_seconds: Option<i64>,
    preconditions: Option<WirePreconditions>,
    orphan_dependents: Option<bool>,
    propagation_policy: Option<String>,
    dry_run: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WirePreconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

/// Kinds whose delete answers with the object, not with a `Status`.
const ANSWER_WITH_OBJECT: &[&str] =
    &["Pod", "PodTemplate", "PersistentVolume", "PersistentVolumeClaim", "ResourceQuota", "Service", "ServiceAccount"];

pub async fn delete(call: &Call<'_>, body: Inbound) -> Result<Response<Body>, Status> {
    let (options, keeps_open) = options(call, body).await?;
    let key = call.key();
    match call.api.registry.delete(call.kind, &key, &options, call).await? {
        Deleted::Going(object) => {
            let code = if keeps_open { StatusCode::ACCEPTED } else { StatusCode::OK };
            call.object(code, &object)
        }
        Deleted::Gone(object) if answers_with_object(call.kind) => call.object(StatusCode::OK, &object),
        Deleted::Gone(object) => {
            let success = status::success(call.kind, &key.name, &object.meta.uid);
            Ok(respond::json(StatusCode::OK, &success))
        }
    }
}

pub async fn delete_collection(call: &Call<'_>, body: Inbound) -> Result<Response<Body>, Status> {
    let (mut options, _) = options(call, body).await?;
    let page = list::read(call).await?;
    // A name's precondition makes no sense for many.
    options.preconditions = Preconditions::default();
    let deletes = page.objects.iter().map(|object| async {
        let deleted = call.api.registry.delete(call.kind, &object.key, &options, call).await;
        match deleted {
            Ok(Deleted::Gone(object) | Deleted::Going(object)) => Ok(Some(object)),
            // Somebody else was faster.
            Err(status) if status.code == 404 => Ok(None),
            Err(status) => Err(status),
        }
    });
    // Together, so that they share a commit; in parts, so that a large collection doesn't hold all tasks at once.
    let mut objects = Vec::with_capacity(page.objects.len());
    let mut deletes = deletes.collect::<Vec<_>>().into_iter();
    loop {
        let part: Vec<_> = deletes.by_ref().take(64).collect();
        if part.is_empty() {
            break;
        }
        for deleted in futures::future::join_all(part).await {
            objects.extend(deleted?);
        }
    }
    call.page(Page { objects, ..page })
}

fn answers_with_object(kind: &Kind) -> bool {
    kind.group.is_empty() && ANSWER_WITH_OBJECT.contains(&kind.kind)
}

/// From the body, else from the query; and whether the client asked for its dependents to go first.
async fn options(call: &Call<'_>, body: Inbound) -> Result<(DeleteOptions, bool), Status> {
    let bytes = body.read().await?;
    let wire = if bytes.is_empty() {
        Wire {
            grace_period_seconds: call.query.integer("gracePeriodSeconds")?,
            orphan_dependents: call.query.optional_flag("orphanDependents"),
            propagation_policy: call.query.get("propagationPolicy").map(str::to_owned),
            dry_run: call.query.all("dryRun").filter(|value| !value.is_empty()).map(str::to_owned).collect(),
            ..Wire::default()
        }
    } else {
        let options = call.options(&bytes)?;
        let wire: Wire = serde_json::from_value(options).map_err(|error| Status::bad_request(error.to_string()))?;
        wire
    };
    wire.checked()
}

impl Call<'_> {
    /// A body as options. Upstream words what is wrong with it in a way of its own.
    fn options(&self, bytes: &[u8]) -> Result<Value, Status> {
        let kind = &bodies::DELETE_OPTIONS;
        let strip = |status: Status| {
            let text = status.message.split_once("must be of type DeleteOptions): ").map(|(_, text)| text);
            match text.and_then(|text| text.rsplit_once(" (")) {
                Some((text, _)) => Status::bad_request(text),
                None => status,
            }
        };
        let encoding = negotiate::body_encoding(self.headers)?;
        let mut value = decode::parse(bytes, encoding, kind.kind).map_err(strip)?.value;
        let name = value["kind"].as_str().unwrap_or_default();
        if !matches!(name, "" | "DeleteOptions") {
            let version = value["apiVersion"].as_str().unwrap_or_default();
            return Err(Status::bad_request(format!(
                "no kind {name:?} is registered for version {version:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\""
            )));
        }
        match schema::check(kind, &mut value).type_error {
            Some(error) => Err(Status::bad_request(error)),
            None => Ok(value),
        }
    }
}

// === impl Wire ===

impl Wire {
    /// Upstream's `ValidateDeleteOptions`.
    ///
    /// # Errors
    /// 422 for what can't be.
    pub fn checked(self) -> Result<(DeleteOptions, bool), Status> {
        let mut errors = FieldErrors::new();
        let path = "propagationPolicy";
        if self.orphan_dependents.is_some() && self.propagation_policy.is_some() {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            let value = self.propagation_policy.clone().unwrap_or_default();
            errors.push(FieldError::invalid(path, &value.into(), detail));
        }
        let propagation = match self.propagation_policy.as_deref() {
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            None | Some("") => self.orphan_dependents.map(|orphan| match orphan {
                true => Propagation::Orphan,
                false => Propagation::Background,
            }),
            Some(other) => {
                let supported = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(FieldError::not_supported(path, &other.into(), &supported));
                None
            }
        };
        let dry_run = dry_run(self.dry_run.iter().map(String::as_str), &mut errors);
        if !errors.is_empty() {
            return Err(refused("DeleteOptions", errors));
        }
        let preconditions = self.preconditions.unwrap_or_default();
        let options = DeleteOptions {
            grace_period_seconds: self.grace_period_seconds,
            preconditions: Preconditions { uid: preconditions.uid, resource_version: preconditions.resource_version },
            propagation,
            dry_run,
        };
        Ok((options, self.orphan_dependents == Some(false)))
    }
}
