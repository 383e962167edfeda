//! One object, in the shape that the client asked for.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use tug_api::table::{self, IncludeObject};
use tug_api::{FieldError, Kind, Object};

use super::Call;
use crate::body::Body;
use crate::negotiate::{self, Encoding, Shape};
use crate::respond;
use crate::status::Status;

pub async fn get(call: &Call<'_>) -> Result<Response<Body>, Status> {
    // Any state that is new enough will do; ours is as new as all that was acknowledged.
    if let Some(revision) = revision(call.query.get("resourceVersion"))? {
        call.api.registry.cache.wait_for(revision).await?;
    }
    let object = call.api.registry.read(call.kind, &call.key())?;
    call.object(StatusCode::OK, &object)
}

/// A `resourceVersion` of a query.
///
/// # Errors
/// 400 if it isn't a number.
pub fn revision(text: Option<&str>) -> Result<Option<u64>, Status> {
    let Some(text) = text else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        let detail = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
        Status::bad_request(FieldError::invalid("resourceVersion", &text.into(), &detail).to_string())
    })
}

// === impl Call ===

impl Call<'_> {
    /// Answers with an object.
    ///
    /// # Errors
    /// If it can't be encoded.
    pub fn object(&self, code: StatusCode, object: &Arc<Object>) -> Result<Response<Body>, Status> {
        if self.accept.shape == Shape::Object && self.accept.encoding == Encoding::Json {
            return Ok(respond::bytes(code, "application/json", object.json().clone()));
        }
        let value = object.value().map_err(Status::internal)?;
        let shaped = shaped(self.kind, self.accept.shape, value, self.include()?);
        self.encoded(code, &shaped)
    }

    /// Answers with an object that isn't of the table of kinds.
    ///
    /// # Errors
    /// If it can't be encoded.
    pub fn shown(&self, code: StatusCode, value: Value) -> Result<Response<Body>, Status> {
        self.encoded(code, &value)
    }

    pub fn encoded(&self, code: StatusCode, value: &Value) -> Result<Response<Body>, Status> {
        match self.accept.encoding {
            Encoding::Json | Encoding::Protobuf => Ok(respond::json(code, value)),
            Encoding::Yaml => {
                let text: Bytes = negotiate::to_yaml(value)?.into();
                Ok(respond::bytes(code, "application/yaml", text))
            }
        }
    }

    /// Which objects a table's rows carry.
    pub fn include(&self) -> Result<IncludeObject, Status> {
        let text = self.query.get("includeObject").unwrap_or_default();
        IncludeObject::parse(text).ok_or_else(|| {
            let detail = "must be 'Metadata', 'Object', 'None', or empty";
            let error = FieldError::invalid("includeObject", &text.into(), detail);
            Status::bad_request(format!("Unable to convert to Table as requested: {error}"))
        })
    }
}

/// One object in some shape.
pub fn shaped(kind: &Kind, shape: Shape, value: Value, include: IncludeObject) -> Value {
    match shape {
        Shape::Object => value,
        Shape::Metadata => table::partial_metadata(&value),
        Shape::Table => {
            let metadata = json!({ "resourceVersion": value["metadata"]["resourceVersion"] });
            table::table(kind, std::slice::from_ref(&value), metadata, include, Timestamp::now())
        }
    }
}
