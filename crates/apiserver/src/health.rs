//! `/healthz`, `/livez` and `/readyz`, whole or check by check. Monitors ask for some checks by their upstream names.

use std::fmt::Write;

use http::{Response, StatusCode};

use crate::api::Api;
use crate::body::Body;
use crate::endpoints::plain;
use crate::request::Query;
use crate::status::Status;

/// Names, and whether each passed.
type Checks = [(&'static str, bool)];

/// Answers `/{path}` or, of `check`, `/{path}/{check}`.
///
/// # Errors
/// 404 for a check that there is none of.
pub async fn answer(api: &Api, path: &str, check: &[&str], query: &Query) -> Result<Response<Body>, Status> {
    let ready = api.is_ready();
    let store = api.registry.store().get("/registry/health").await.is_ok();
    let mut checks = vec![("ping", true), ("log", true), ("etcd", store)];
    if path == "readyz" {
        checks.extend([("etcd-readiness", store), ("informer-sync", ready)]);
    }
    checks.push(("poststarthook/rbac/bootstrap-roles", ready));
    if path == "readyz" {
        checks.push(("shutdown", !api.stop.is_cancelled()));
    }
    let (code, text) = if check.is_empty() {
        report(path, &checks, query)
    } else {
        let name = check.join("/");
        let found = checks.iter().find(|(held, _)| *held == name).ok_or_else(Status::no_such_path)?;
        match found {
            (_, true) => (StatusCode::OK, "ok".into()),
            (_, false) => (StatusCode::INTERNAL_SERVER_ERROR, "internal server error: not ready\n".into()),
        }
    };
    Ok(plain(code, "text/plain; charset=utf-8", text))
}

/// Upstream's `handleRootHealth`.
fn report(path: &str, checks: &Checks, query: &Query) -> (StatusCode, String) {
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut lines = String::new();
    let mut failed = Vec::new();
    for (name, passed) in checks {
        let outcome = match (excluded.contains(name), passed) {
            (true, _) => format!("[+]{name} excluded: ok"),
            (false, true) => format!("[+]{name} ok"),
            (false, false) => {
                failed.push(*name);
                format!("[-]{name} failed: reason withheld")
            }
        };
        writeln!(lines, "{outcome}").expect("writing to a string");
    }
    let mut unknown: Vec<_> =
        excluded.into_iter().filter(|name| !checks.iter().any(|(held, _)| held == name)).collect();
    if !unknown.is_empty() {
        unknown.sort_unstable();
        let list: Vec<_> = unknown.iter().map(|name| format!("{name:?}")).collect();
        writeln!(lines, "warn: some health checks cannot be excluded: no matches for {}", list.join(","))
            .expect("writing to a string");
    }
    if !failed.is_empty() {
        tracing::info!(path, failed = failed.join(","), "a health check failed");
        return (StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{path} check failed\n"));
    }
    let text = if query.has("verbose") { format!("{lines}{path} check passed\n") } else { "ok".into() };
    (StatusCode::OK, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `TestMultipleChecks` and `TestCheckExclude` of upstream's healthz have it.
    #[test]
    fn reports_are_upstreams() {
        let (good, bad): (&Checks, &Checks) = (&[("ping", true), ("a", true)], &[("ping", true), ("a", false)]);
        let cases: [(&Checks, &str, u16, &str); 5] = [
            (good, "", 200, "ok"),
            (good, "verbose", 200, "[+]ping ok\n[+]a ok\nlivez check passed\n"),
            (bad, "", 500, "[+]ping ok\n[-]a failed: reason withheld\nlivez check failed\n"),
            (bad, "verbose&exclude=a", 200, "[+]ping ok\n[+]a excluded: ok\nlivez check passed\n"),
            (
                good,
                "verbose&exclude=y&exclude=x",
                200,
                "[+]ping ok\n[+]a ok\nwarn: some health checks cannot be excluded: no matches for \"x\",\"y\"\nlivez check passed\n",
            ),
        ];
        for (checks, query, code, text) in cases {
            assert_eq!(report("livez", checks, &Query::parse(query)), (code.try_into().expect("a code"), text.into()));
        }
    }
}
