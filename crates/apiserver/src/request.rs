//! What a request asks for, read from its method, path and query as upstream's `RequestInfo` does.

use std::time::Duration;

use http::Method;
use percent_encoding::percent_decode_str;

use crate::status::Status;

/// The attributes that authorization and dispatch go by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// False for paths such as `/healthz` or `/apis/apps`.
    pub is_resource: bool,
    pub path: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; the method in lower case for
    /// paths that aren't resources.
    pub verb: String,
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// What follows the subresource, for proxies.
    pub rest: Vec<String>,
    /// `fieldSelector` of a request about a collection.
    pub fields: String,
}

/// The query of a request; a parameter may come several times.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl RequestInfo {
    /// # Errors
    /// If the path isn't percent-encoded UTF-8.
    pub fn parse(method: &Method, path: &str, query: &Query) -> Result<Self, Status> {
        let mut info = Self { path: path.into(), verb: method.as_str().to_ascii_lowercase(), ..Self::default() };
        let mut parts: Vec<String> = Vec::new();
        for segment in path.trim_matches('/').split('/') {
            let decoded = percent_decode_str(segment).decode_utf8();
            parts.push(decoded.map_err(|_| Status::bad_request("the path isn't UTF-8"))?.into_owned());
        }
        let mut parts = parts.into_iter().peekable();
        match parts.next().as_deref() {
            Some("api") => {}
            Some("apis") => match parts.next() {
                Some(group) => info.group = group,
                None => return Ok(info),
            },
            _ => return Ok(info),
        }
        let Some(version) = parts.next() else { return Ok(info) };
        info.version = version;
        if parts.peek().is_none() {
            return Ok(info);
        }
        info.is_resource = true;
        info.verb = match *method {
            Method::POST => "create",
            Method::GET | Method::HEAD => "get",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        }
        .into();
        // `/api/v1/watch/...` is the old spelling of `?watch=true`.
        let old_watch = parts.peek().is_some_and(|p| p == "watch");
        if old_watch {
            parts.next();
        }
        let mut rest: Vec<String> = parts.collect();
        if rest.first().is_some_and(|p| p == "namespaces") && rest.len() > 1 {
            info.namespace = rest[1].clone();
            // `/namespaces/x`, `/namespaces/x/status` and `/namespaces/x/finalize` are about the namespace itself.
            let itself = rest.len() == 2 || matches!(rest[2].as_str(), "status" | "finalize");
            if !itself {
                rest.drain(..2);
            }
        }
        let mut rest = rest.into_iter();
        info.resource = rest.next().unwrap_or_default();
        info.name = rest.next().unwrap_or_default();
        info.subresource = rest.next().unwrap_or_default();
        info.rest = rest.collect();
        if info.name.is_empty() {
            info.verb = match info.verb.as_str() {
                "get" if old_watch || query.flag("watch") => "watch".into(),
                "get" => "list".into(),
                "delete" => "deletecollection".into(),
                _ => info.verb,
            };
            // A list of one name is authorized as if it named it in the path.
            if matches!(info.verb.as_str(), "list" | "watch" | "deletecollection") {
                info.fields = query.get("fieldSelector").unwrap_or_default().to_owned();
                info.name = single_name(&info.fields).unwrap_or_default();
            }
        } else if old_watch && info.verb == "get" {
            info.verb = "watch".into();
        }
        Ok(info)
    }

    /// Requests that may last for hours and don't count against the bound on requests in flight.
    pub fn is_long_running(&self) -> bool {
        self.verb == "watch" || matches!(self.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy")
    }
}

/// The name that a field selector pins down, if it does.
pub fn single_name(selector: &str) -> Option<String> {
    let term = selector.split(',').find_map(|t| t.strip_prefix("metadata.name="))?;
    let name = term.strip_prefix('=').unwrap_or(term);
    (!name.is_empty()).then(|| name.to_owned())
}

// === impl Query ===

impl Query {
    pub fn parse(query: &str) -> Self {
        Self(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// The first value, where it isn't empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|v| !v.is_empty())
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// As upstream converts query values to booleans: present and neither `false` nor `0`.
    pub fn flag(&self, name: &str) -> bool {
        self.optional_flag(name).unwrap_or(false)
    }

    pub fn optional_flag(&self, name: &str) -> Option<bool> {
        self.all(name).next().map(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    /// How long the client will wait for an answer; `None` if it doesn't say, or says zero.
    ///
    /// # Errors
    /// 400 if the value isn't one of Go's durations.
    pub fn timeout(&self) -> Result<Option<Duration>, Status> {
        let Some(text) = self.get("timeout") else { return Ok(None) };
        let seconds = go_duration(text).ok_or_else(|| {
            let why = format!("time: invalid duration {text:?}");
            Status::bad_request(format!("invalid timeout specified in the request URL - {why}"))
        })?;
        Ok(Duration::try_from_secs_f64(seconds).ok().filter(|timeout| !timeout.is_zero()))
    }

    /// # Errors
    /// If the value isn't a whole number.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, Status> {
        let Some(text) = self.get(name) else { return Ok(None) };
        text.parse()
            .map(Some)
            .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
    }
}

/// Seconds of a text like `1h15m30.918s`.
fn go_duration(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    if unsigned == "0" {
        return Some(0.0);
    }
    let mut seconds = 0.0;
    let mut rest = unsigned;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let unit = rest[number..].find(|c: char| c.is_ascii_digit() || c == '.').map_or(rest.len(), |at| number + at);
        let scale = match &rest[number..unit] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += rest[..number].parse::<f64>().ok()? * scale;
        rest = &rest[unit..];
    }
    (!unsigned.is_empty()).then_some(sign * seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(method: Method, uri: &str) -> RequestInfo {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        RequestInfo::parse(&method, path, &Query::parse(query)).expect("a path")
    }

    /// Cases of upstream's `TestGetAPIRequestInfo`.
    #[test]
    fn requests_are_read_as_upstream_reads_them() {
        // method, uri, verb, group, namespace, resource, subresource, name
        let cases = [
            (Method::GET, "/api/v1/namespaces", "list", "", "", "namespaces", "", ""),
            (Method::GET, "/api/v1/namespaces/other", "get", "", "other", "namespaces", "", "other"),
            (
                Method::PUT,
                "/api/v1/namespaces/other/finalize",
                "update",
                "",
                "other",
                "namespaces",
                "finalize",
                "other",
            ),
            (Method::GET, "/api/v1/namespaces/other/pods", "list", "", "other", "pods", "", ""),
            (Method::GET, "/api/v1/namespaces/other/pods/foo", "get", "", "other", "pods", "", "foo"),
            (Method::HEAD, "/api/v1/namespaces/other/pods/foo", "get", "", "other", "pods", "", "foo"),
            (Method::GET, "/api/v1/pods", "list", "", "", "pods", "", ""),
            (Method::GET, "/api/v1/pods?watch=1", "watch", "", "", "pods", "", ""),
            (Method::GET, "/api/v1/pods?watch=false", "list", "", "", "pods", "", ""),
            (Method::GET, "/api/v1/watch/namespaces/other/pods", "watch", "", "other", "pods", "", ""),
            (Method::GET, "/api/v1/namespaces/other/pods/foo/status", "get", "", "other", "pods", "status", "foo"),
            (Method::DELETE, "/api/v1/namespaces/other/pods", "deletecollection", "", "other", "pods", "", ""),
            (Method::POST, "/apis/apps/v1/namespaces/a/deployments", "create", "apps", "a", "deployments", "", ""),
            (
                Method::PATCH,
                "/apis/apps/v1/namespaces/a/deployments/b/scale",
                "patch",
                "apps",
                "a",
                "deployments",
                "scale",
                "b",
            ),
            (Method::GET, "/api/v1/pods?fieldSelector=metadata.name=x", "list", "", "", "pods", "", "x"),
        ];
        for (method, uri, verb, group, namespace, resource, subresource, name) in cases {
            let got = info(method, uri);
            assert!(got.is_resource, "{uri}");
            let shown = [&got.verb, &got.group, &got.namespace, &got.resource, &got.subresource, &got.name];
            assert_eq!(shown, [verb, group, namespace, resource, subresource, name], "{uri}");
        }
    }

    /// As Go's `time.ParseDuration`.
    #[test]
    fn durations_are_gos() {
        let cases = [
            ("30s", Some(30.0)),
            ("1h15m30.5s", Some(4530.5)),
            ("100ms", Some(0.1)),
            ("0", Some(0.0)),
            ("-1s", Some(-1.0)),
            ("", None),
            ("3", None),
            ("soon", None),
            ("1x", None),
        ];
        for (text, expected) in cases {
            assert_eq!(go_duration(text), expected, "{text}");
        }
    }

    #[test]
    fn paths_that_name_no_resource() {
        for uri in
            ["/", "/healthz", "/api", "/apis", "/api/v1", "/apis/apps", "/apis/apps/v1", "/openapi/v3/apis/apps/v1"]
        {
            let got = info(Method::GET, uri);
            assert!(!got.is_resource, "{uri}");
            assert_eq!(got.verb, "get", "{uri}");
        }
    }
}
