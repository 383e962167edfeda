//! OpenAPI documents. Made when asked for and not kept: the caller caches the bytes it serves.

use serde_json::Value;

/// `/openapi/v3`: a relative URL with a hash for each group version.
pub fn v3_index() -> Value {
    todo!()
}

/// `/openapi/v3/{path}`, `path` being `api/v1`, `apis/apps/v1` …
pub fn v3(path: &str) -> Option<Vec<u8>> {
    let _ = path;
    todo!()
}

/// `/openapi/v2` as JSON, for clients that know no other.
pub fn v2() -> Vec<u8> {
    todo!()
}
