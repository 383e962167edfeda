//! Which encoding a body is in, and which encoding and shape an answer is wanted in.

use http::{HeaderMap, header};
use serde_json::Value;

use crate::status::Status;

/// What answers can be encoded as. Protobuf is offered by clients with JSON behind it, which they then get.
const PRODUCED: &[&str] = &["application/json", "application/yaml"];
/// What bodies may be encoded as.
const CONSUMED: &[&str] = &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    #[default]
    Json,
    Yaml,
    /// Of requests only.
    Protobuf,
}

/// How much of an object is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    #[default]
    Object,
    Table,
    /// `PartialObjectMetadata`, or `PartialObjectMetadataList`.
    Metadata,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accept {
    pub encoding: Encoding,
    pub shape: Shape,
}

/// One clause of an `Accept` header.
pub struct Clause<'a> {
    pub media_type: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl Clause<'_> {
    /// Empty when absent.
    pub fn parameter(&self, name: &str) -> &str {
        self.parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }
}

/// The clauses of `Accept`, those with the highest `q` first.
pub fn clauses(headers: &HeaderMap) -> Vec<Clause<'_>> {
    let texts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut clauses: Vec<Clause<'_>> = texts
        .flat_map(|text| text.split(','))
        .filter(|text| !text.trim().is_empty())
        .map(|text| {
            let mut parts = text.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default();
            let parameters = parts.filter_map(|part| part.split_once('=')).map(|(k, v)| (k.trim(), v.trim())).collect();
            Clause { media_type, parameters }
        })
        .collect();
    let quality = |clause: &Clause<'_>| clause.parameter("q").parse::<f32>().unwrap_or(1.0);
    clauses.sort_by(|a, b| quality(b).total_cmp(&quality(a)));
    clauses
}

/// What an answer is to look like.
///
/// # Errors
/// 406 when the client takes nothing that we have.
pub fn accept(headers: &HeaderMap) -> Result<Accept, Status> {
    let clauses = clauses(headers);
    if clauses.is_empty() {
        return Ok(Accept::default());
    }
    for clause in &clauses {
        let encoding = match clause.media_type.to_ascii_lowercase().as_str() {
            "application/json" | "application/*" | "*/*" => Encoding::Json,
            "application/yaml" => Encoding::Yaml,
            _ => continue,
        };
        let (group, version) = (clause.parameter("g"), clause.parameter("v"));
        let of_meta = group == "meta.k8s.io" && matches!(version, "v1" | "v1beta1");
        let shape = match clause.parameter("as") {
            "" => Shape::Object,
            "Table" if of_meta => Shape::Table,
            "PartialObjectMetadata" | "PartialObjectMetadataList" if of_meta => Shape::Metadata,
            _ => continue,
        };
        return Ok(Accept { encoding, shape });
    }
    Err(Status::not_acceptable(PRODUCED))
}

/// The encoding of a request's body.
///
/// # Errors
/// 415 for one that we can't read.
pub fn body_encoding(headers: &HeaderMap) -> Result<Encoding, Status> {
    match media_type(headers).as_str() {
        "" | "application/json" => Ok(Encoding::Json),
        "application/yaml" => Ok(Encoding::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Encoding::Protobuf),
        _ => Err(Status::unsupported_media_type(CONSUMED)),
    }
}

/// `Content-Type` without its parameters, in lower case; empty when absent.
pub fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

pub fn takes_gzip(headers: &HeaderMap) -> bool {
    let texts = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|part| {
        let mut parts = part.split(';').map(str::trim);
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip")) && !parts.any(|p| p == "q=0")
    })
}

/// A value as YAML text.
///
/// # Errors
/// Never for values that came from JSON.
pub fn to_yaml(value: &Value) -> Result<String, Status> {
    serde_norway::to_string(value).map_err(Status::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_the_best_that_they_take() {
        let json = |shape| Ok(Accept { encoding: Encoding::Json, shape });
        let cases = [
            (None, json(Shape::Object)),
            (Some("*/*"), json(Shape::Object)),
            (Some("application/json;as=Table;v=v1;g=meta.k8s.io,application/json"), json(Shape::Table)),
            (Some("application/json;as=Nonsense;v=v1;g=meta.k8s.io,application/json"), json(Shape::Object)),
            (Some("application/vnd.kubernetes.protobuf, application/json"), json(Shape::Object)),
            (
                Some("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1, application/json"),
                json(Shape::Metadata),
            ),
            (Some("application/yaml"), Ok(Accept { encoding: Encoding::Yaml, shape: Shape::Object })),
            (Some("application/yaml;q=0.5,application/json"), json(Shape::Object)),
            (Some("application/vnd.kubernetes.protobuf"), Err(406)),
            (Some("text/html"), Err(406)),
        ];
        for (header, expected) in cases {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert(header::ACCEPT, header.parse().expect("a header"));
            }
            assert_eq!(accept(&headers).map_err(|status| status.code), expected, "{header:?}");
        }
    }
}
