//! Lists: from the cache as it is now, page by page from the store as it was then.

use std::sync::Arc;

use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use base64::{DecodeError, Engine};
use bytes::{BufMut, Bytes, BytesMut};
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tug_api::field::FieldError;
use tug_api::{FieldErrors, Object, golang, table};
use tug_store::{Error, Range};

use super::Call;
use super::decode::group_version;
use super::options::refused;
use super::read::revision;
use crate::body::Body;
use crate::cache::{Select, path_key, store_prefix};
use crate::codec;
use crate::negotiate::{Encoding, Shape};
use crate::registry::{served, store_status};
use crate::request::Query;
use crate::respond;
use crate::status::Status;

/// A page of a list.
pub struct Page {
    pub objects: Vec<Arc<Object>>,
    pub revision: u64,
    /// Where the next page starts, unless this is the last.
    pub next: Option<String>,
    /// How many are left; unknown where a selector decides.
    pub remaining: Option<usize>,
}

/// What is behind a `continue` token.
#[derive(Serialize, Deserialize)]
struct Token {
    #[serde(rename = "v")]
    version: String,
    #[serde(rename = "rv")]
    revision: u64,
    /// The last key of the page before.
    #[serde(rename = "start")]
    after: String,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";

pub async fn list(call: &Call<'_>) -> Result<Response<Body>, Status> {
    let page = read(call).await?;
    call.page(page)
}

/// What the request's options take.
///
/// # Errors
/// 400 or 422 for options that can't be, 410 for a list that is too old to go on.
pub async fn read(call: &Call<'_>) -> Result<Page, Status> {
    let namespace = if call.kind.namespaced { call.info.namespace.as_str() } else { "" };
    let select = Select::parse(call.kind, namespace, call.query)?;
    let limit = call.query.integer("limit")?.unwrap_or(0);
    // As upstream, a negative limit is none.
    let limit = usize::try_from(limit).unwrap_or(0);
    check_options(call)?;
    let asked = revision(call.query.get("resourceVersion"))
        .map_err(|status| Status::bad_request(format!("invalid resource version: {status}")))?;
    let exactly = call.query.get("resourceVersionMatch") == Some("Exact");
    match (call.query.get("continue"), asked) {
        (Some(token), _) => {
            let token = Token::parse(token)?;
            from_store(call, &select, token.revision, Some(token.after), limit).await
        }
        (None, Some(at)) if exactly => from_store(call, &select, at, None, limit).await,
        (None, at) => {
            if let Some(at) = at {
                call.api.registry.cache.wait_for(at).await?;
            }
            from_cache(call, &select, limit)
        }
    }
}

/// Combinations that upstream refuses (`ValidateListOptions`).
fn check_options(call: &Call<'_>) -> Result<(), Status> {
    let query = call.query;
    let (has_revision, continues) = (query.get("resourceVersion"), query.get("continue"));
    let mut errors = FieldErrors::new();
    if let Some(how) = query.get("resourceVersionMatch") {
        let path = "resourceVersionMatch";
        if has_revision.is_none() {
            let detail = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.push(FieldError::forbidden(path, detail));
        }
        if continues.is_some() {
            errors.push(FieldError::forbidden(path, "resourceVersionMatch is forbidden when continue is provided"));
        }
        if !matches!(how, "Exact" | "NotOlderThan") {
            errors.push(FieldError::not_supported(path, &how.into(), &["Exact", "NotOlderThan", ""]));
        }
        if how == "Exact" && has_revision == Some("0") {
            let detail = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(FieldError::forbidden(path, detail));
        }
    }
    if query.has("sendInitialEvents") {
        errors.push(FieldError::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    errors.extend(not_honoured(query));
    if !errors.is_empty() {
        return Err(refused("ListOptions", errors));
    }
    if continues.is_some() && has_revision.is_some_and(|revision| revision != "0") {
        return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
    }
    Ok(())
}

/// What would change the answer and isn't served yet.
pub fn not_honoured(query: &Query) -> Option<FieldError> {
    let detail = "shardSelector is forbidden unless the ShardedListAndWatch feature gate is enabled";
    query.get("shardSelector").map(|_| FieldError::forbidden("shardSelector", detail))
}

fn from_cache(call: &Call<'_>, select: &Select, limit: usize) -> Result<Page, Status> {
    let snapshot = call.api.registry.cache.list(call.kind, select, None, limit);
    let more = snapshot.remaining > 0;
    let next = snapshot.objects.last().filter(|_| more).map(|object| path_key(&object.key));
    let objects: Result<_, _> = snapshot.objects.into_iter().map(|object| served(call.kind, object)).collect();
    let remaining = (more && select.takes_all()).then_some(snapshot.remaining);
    Ok(Page { objects: objects?, revision: snapshot.revision, next, remaining })
}

async fn from_store(
    call: &Call<'_>,
    select: &Select,
    at: u64,
    after: Option<String>,
    limit: usize,
) -> Result<Page, Status> {
    let prefix = store_prefix(call.kind.storage());
    let scope = if select.namespace.is_empty() { prefix.clone() } else { format!("{prefix}{}/", select.namespace) };
    let mut page = Page { objects: Vec::new(), revision: at, next: None, remaining: None };
    let mut after = after.map(|key| format!("{prefix}{key}"));
    loop {
        let range = Range { at: Some(at), after: after.clone(), limit };
        let read = call.api.registry.store().list(&scope, range).await.map_err(|error| match error {
            Error::Compacted { .. } => expired(after.is_some(), at),
            other => store_status(&other),
        })?;
        after = read.entries.last().map(|entry| entry.key.clone());
        let mut behind = read.entries.len();
        for entry in read.entries {
            behind -= 1;
            let json = codec::stamp(&entry.value, entry.revision);
            let json = json.ok_or_else(|| Status::internal("a stored value isn't an object"))?;
            let object = Arc::new(Object::decode(json).map_err(Status::internal)?);
            if !select.matches(call.kind.storage(), &object) {
                continue;
            }
            page.objects.push(served(call.kind, object)?);
            if page.objects.len() == limit && (behind > 0 || read.remaining > 0) {
                page.next = Some(entry.key[prefix.len()..].to_owned());
                let left = usize::try_from(read.remaining).unwrap_or(usize::MAX).saturating_add(behind);
                page.remaining = select.takes_all().then_some(left);
                return Ok(page);
            }
        }
        if read.remaining == 0 {
            return Ok(page);
        }
    }
}

fn expired(continues: bool, at: u64) -> Status {
    if continues {
        return Status::expired(
            "The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter.",
        );
    }
    Status::expired(format!("The resourceVersion for the provided list is too old: {at}"))
}

// === impl Call ===

impl Call<'_> {
    pub fn page(&self, page: Page) -> Result<Response<Body>, Status> {
        let mut metadata = json!({ "resourceVersion": page.revision.to_string() });
        if let Some(after) = page.next {
            metadata["continue"] =
                Token { version: TOKEN_VERSION.into(), revision: page.revision, after }.text().into();
        }
        if let Some(remaining) = page.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
        if self.accept.shape == Shape::Object && self.accept.encoding == Encoding::Json {
            return Ok(respond::bytes(StatusCode::OK, "application/json", self.joined(&metadata, &page.objects)));
        }
        let values: Result<Vec<Value>, _> = page.objects.iter().map(|object| object.value()).collect();
        let values = values.map_err(Status::internal)?;
        let value = match self.accept.shape {
            Shape::Object => json!({
                "kind": format!("{}List", self.kind.kind),
                "apiVersion": group_version(self.kind),
                "metadata": metadata,
                "items": values,
            }),
            Shape::Metadata => json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
                "items": values.iter().map(table::partial_metadata).collect::<Vec<_>>(),
            }),
            Shape::Table => table::table(self.kind, &values, metadata, self.include()?, Timestamp::now()),
        };
        self.encoded(StatusCode::OK, &value)
    }

    /// The objects' own bytes, one behind the other.
    fn joined(&self, metadata: &Value, objects: &[Arc<Object>]) -> Bytes {
        let head = format!(
            "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
            self.kind.kind,
            group_version(self.kind)
        );
        let length = head.len() + objects.iter().map(|object| object.json().len() + 1).sum::<usize>() + 2;
        let mut out = BytesMut::with_capacity(length);
        out.put_slice(head.as_bytes());
        for (index, object) in objects.iter().enumerate() {
            if index > 0 {
                out.put_u8(b',');
            }
            out.put_slice(object.json());
        }
        out.put_slice(b"]}");
        out.freeze()
    }
}

// === impl Token ===

impl Token {
    fn parse(text: &str) -> Result<Self, Status> {
        let bad = |why: &str| Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|error| {
            let at = match error {
                DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => at,
                DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => text.len(),
            };
            bad(&format!("illegal base64 data at input byte {at}"))
        })?;
        let token: Self = serde_json::from_slice(&bytes).map_err(|error| bad(&golang::syntax_error(&bytes, &error)))?;
        if token.version != TOKEN_VERSION {
            return Err(bad(&format!("server does not recognize this encoded version {}", token.version)));
        }
        if token.revision == 0 {
            return Err(bad("incorrect encoded start resourceVersion (version meta.k8s.io/v1)"));
        }
        Ok(token)
    }

    fn text(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).expect("a token encodes"))
    }
}
