//! `Impersonate-User` and its like: acting as somebody else, by those who may (`kubectl --as`).

use http::HeaderMap;
use percent_encoding::percent_decode_str;

use super::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User};
use crate::rbac::{Attributes, Authorizer};
use crate::status::Status;

const EXTRA: &str = "impersonate-extra-";

/// `user`, or whom the headers name if `user` may impersonate each part of that identity.
pub(super) fn acting_as(authorizer: &Authorizer, user: User, headers: &HeaderMap) -> Result<User, Status> {
    let text = |value: &http::HeaderValue| value.to_str().map(str::to_owned).unwrap_or_default();
    let first = |name: &str| headers.get(name).map(text).unwrap_or_default();
    let (name, uid) = (first("impersonate-user"), first("impersonate-uid"));
    let groups: Vec<String> = headers.get_all("impersonate-group").iter().map(text).collect();
    let mut wanted = User { name, uid, groups, ..User::default() };
    for header in headers.keys() {
        let Some(key) = header.as_str().strip_prefix(EXTRA) else { continue };
        let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
        wanted.extra.insert(key, headers.get_all(header).iter().map(text).collect());
    }
    if wanted == User::default() {
        return Ok(user);
    }
    if wanted.name.is_empty() {
        return Err(Status::bad_request("requested an impersonation without impersonating a user"));
    }

    let may = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        let asked = Attributes {
            user: &user,
            verb: "impersonate",
            group,
            version: "v1",
            resource,
            subresource,
            namespace,
            name,
            path: "",
            is_resource: true,
            fields: "",
        };
        let decision = authorizer.authorize(&asked);
        if decision.allowed { Ok(()) } else { Err(asked.forbidden(&decision)) }
    };
    let mut granted = match wanted.as_service_account() {
        Some((namespace, name)) => {
            may("", "serviceaccounts", "", namespace, name)?;
            let account = User::service_account(namespace, name, "");
            if wanted.groups.is_empty() { account.groups } else { Vec::new() }
        }
        None => {
            may("", "users", "", "", &wanted.name)?;
            Vec::new()
        }
    };
    for group in &wanted.groups {
        may("", "groups", "", "", group)?;
    }
    if !wanted.uid.is_empty() {
        may("authentication.k8s.io", "uids", "", "", &wanted.uid)?;
    }
    for (key, values) in &wanted.extra {
        for value in values {
            may("authentication.k8s.io", "userextras", key, "", value)?;
        }
    }
    granted.append(&mut wanted.groups);
    let everyone = if wanted.name == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
    if !granted.iter().any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED) {
        granted.push(everyone.into());
    }
    tracing::debug!(user = user.name, acting_as = wanted.name, "impersonation");
    Ok(User { groups: granted, ..wanted })
}
