//! Requests for resources, once they are authorized.

mod apply;
mod decode;
mod delete;
mod list;
mod options;
mod read;
mod scale;
mod subresources;
mod watch;
mod write;

use http::request::Parts;
use http::{HeaderMap, Response, StatusCode, header};
use parking_lot::Mutex;
use serde_json::Value;
use tug_api::{Kind, ObjectKey, kinds};

use self::options::WriteOptions;
use crate::admission::{self, Operation};
use crate::api::{Api, Inbound, attributes};
use crate::auth::User;
use crate::body::Body;
use crate::negotiate::{self, Accept};
use crate::rbac::Attributes;
use crate::registry::{Admit, Writing};
use crate::request::{Query, RequestInfo};
use crate::respond;
use crate::reviews;
use crate::status::Status;

/// All that a handler needs to know of its request.
pub struct Call<'a> {
    pub api: &'a Api,
    pub user: &'a User,
    pub info: &'a RequestInfo,
    pub kind: &'static Kind,
    pub query: &'a Query,
    pub headers: &'a HeaderMap,
    pub accept: Accept,
    warnings: Mutex<Vec<String>>,
}

/// Answers a request for a resource.
///
/// # Errors
/// Whatever keeps it from being answered.
pub async fn answer(
    api: &Api,
    user: &User,
    info: &RequestInfo,
    query: &Query,
    parts: &Parts,
    body: Inbound,
) -> Result<Response<Body>, Status> {
    let kind = kinds::by_resource(&info.group, &info.version, &info.resource).ok_or_else(Status::no_such_path)?;
    let accept = negotiate::accept(&parts.headers)?;
    let call = Call { api, user, info, kind, query, headers: &parts.headers, accept, warnings: Mutex::default() };
    call.check_path()?;
    if !kind.deprecated.is_empty() {
        call.warn(format!("{} {} is {}", decode::group_version(kind), kind.kind, kind.deprecated));
    }
    let mut response = match (info.verb.as_str(), info.subresource.as_str()) {
        (_, subresource) if !subresource.is_empty() => subresources::answer(&call, body).await?,
        ("get", _) => read::get(&call).await?,
        ("list", _) => list::list(&call).await?,
        ("watch", _) => watch::watch(&call).await?,
        ("create", _) if is_review(kind) => {
            let value = call.decode(body).await?;
            let namespace = Some(info.namespace.as_str()).filter(|namespace| !namespace.is_empty());
            let answer = reviews::create(&api.access, user, kind, namespace, value).await?;
            call.shown(StatusCode::CREATED, answer)?
        }
        ("create", _) if kind.kind == "Binding" => subresources::bind(&call, body).await?,
        ("create", _) => write::create(&call, body).await?,
        ("update", _) => write::update(&call, body).await?,
        ("patch", _) => write::patch(&call, body).await?,
        ("delete", _) => delete::delete(&call, body).await?,
        ("deletecollection", _) => delete::delete_collection(&call, body).await?,
        _ => return Err(Status::method_not_allowed_here()),
    };
    respond::warn(&mut response, &call.warnings.lock());
    if call.wants_pretty() && response.status() != StatusCode::SWITCHING_PROTOCOLS && info.verb != "watch" {
        response = respond::pretty(response).await;
    }
    Ok(respond::compressed(response, &parts.headers).await)
}

/// Kinds that are asked and not stored.
fn is_review(kind: &Kind) -> bool {
    matches!(kind.group, "authentication.k8s.io" | "authorization.k8s.io")
}

// === impl Call ===

impl Call<'_> {
    /// A path that doesn't fit its kind isn't served, and a verb that the kind doesn't have isn't allowed.
    fn check_path(&self) -> Result<(), Status> {
        let (info, kind) = (self.info, self.kind);
        if !info.rest.is_empty() {
            return Err(Status::no_such_path());
        }
        let in_namespace = !info.namespace.is_empty();
        if in_namespace && !kind.namespaced && kind.kind != "Namespace" {
            return Err(Status::no_such_path());
        }
        let verbs = if info.subresource.is_empty() {
            kind.verbs
        } else {
            let found = kind.subresources.iter().find(|sub| sub.name == info.subresource);
            found.ok_or_else(Status::no_such_path)?.verbs
        };
        let collection = matches!(info.verb.as_str(), "list" | "watch");
        if kind.namespaced && !in_namespace && !collection {
            // Across all namespaces there are only lists.
            let missing = info.name.is_empty();
            return Err(if missing { Status::method_not_allowed_here() } else { Status::no_such_path() });
        }
        if is_review(kind) && !info.name.is_empty() {
            return Err(Status::no_such_path());
        }
        let takes_name = match info.verb.as_str() {
            "create" => !info.subresource.is_empty(),
            "update" | "patch" => true,
            _ => !info.name.is_empty(),
        };
        if !verbs.contains(&info.verb.as_str()) || takes_name == info.name.is_empty() {
            return Err(Status::method_not_allowed_here());
        }
        Ok(())
    }

    pub fn key(&self) -> ObjectKey {
        let namespace = if self.kind.namespaced { self.info.namespace.as_str() } else { "" };
        ObjectKey::new(namespace, self.info.name.as_str())
    }

    /// Shows up as a `Warning` header.
    pub fn warn(&self, text: impl Into<String>) {
        self.warnings.lock().push(text.into());
    }

    pub fn attributes(&self) -> Attributes<'_> {
        attributes(self.user, self.info)
    }

    /// An update or apply that makes its object is authorized as the create that it is.
    fn may_create(&self) -> Result<(), Status> {
        let mut attributes = self.attributes();
        attributes.verb = "create";
        let decision = self.api.access.authorizer.authorize(&attributes);
        if decision.allowed { Ok(()) } else { Err(attributes.forbidden(&decision)) }
    }

    /// How the request's write is done.
    fn writing(&self, options: &WriteOptions) -> Writing<'_> {
        // As upstream: who doesn't say is known by the program's name.
        let agent = self.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let program = agent.split('/').next().filter(|name| !name.is_empty()).unwrap_or("unknown");
        Writing {
            admission: self,
            dry_run: options.dry_run,
            manager: self.query.get("fieldManager").unwrap_or(program),
            subresource: &self.info.subresource,
            applies: options.applies,
        }
    }

    fn wants_pretty(&self) -> bool {
        self.query.optional_flag("pretty").unwrap_or_else(|| {
            // As upstream: for those who look at answers with their own eyes.
            let agent = self.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
            ["curl", "Wget", "Mozilla/5.0"].iter().any(|eyes| agent.starts_with(eyes))
        })
    }
}

impl Admit for Call<'_> {
    fn admit(&self, operation: Operation, new: Option<&mut Value>, old: Option<&Value>) -> Result<(), Status> {
        admission::admit(&self.api.access, &self.attributes(), operation, new, old)
    }
}
