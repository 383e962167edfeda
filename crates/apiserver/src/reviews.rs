//! Kinds that are questions: asked by a create, answered in `status`, stored nowhere.

use serde::Deserialize;
use serde_json::{Value, json};
use tug_api::{FieldError, FieldErrors, Kind};

use crate::auth::{Access, User};
use crate::rbac::{Attributes, Rule};
use crate::status::Status;

/// Answers a TokenReview, a SubjectAccessReview of any scope, a SelfSubjectRulesReview or a SelfSubjectReview.
///
/// # Errors
/// 400 or 422 when the question isn't well-formed.
pub async fn create(
    access: &Access,
    user: &User,
    kind: &'static Kind,
    namespace: Option<&str>,
    mut body: Value,
) -> Result<Value, Status> {
    if !body.is_object() {
        return Err(Status::bad_request(format!("a {} is an object", kind.kind)));
    }
    if !body["metadata"].is_object() {
        body["metadata"] = json!({});
    }
    body["metadata"]["creationTimestamp"] = Value::Null;
    body["status"] = match kind.kind {
        "TokenReview" => token(access, &body)?,
        "SelfSubjectReview" => json!({"userInfo": user_info(user)}),
        "SelfSubjectRulesReview" => subject_rules(access, user, &body)?,
        "SelfSubjectAccessReview" => {
            let spec = access_spec(&body)?;
            check(kind, &spec.errors())?;
            decide(access, user, &spec)
        }
        "SubjectAccessReview" | "LocalSubjectAccessReview" => subject_access(access, kind, namespace, &body)?,
        other => return Err(Status::internal(format!("{other} is not a review"))),
    };
    Ok(body)
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AccessSpec {
    resource_attributes: Option<ResourceAttributes>,
    non_resource_attributes: Option<NonResourceAttributes>,
    user: String,
    groups: Vec<String>,
    uid: String,
    extra: std::collections::BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ResourceAttributes {
    namespace: String,
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NonResourceAttributes {
    path: String,
    verb: String,
}

// === impl AccessSpec ===

impl AccessSpec {
    fn errors(&self) -> FieldErrors {
        let path = "spec.resourceAttributes";
        match (&self.resource_attributes, &self.non_resource_attributes) {
            (Some(_), Some(_)) => {
                let why = "cannot be specified in combination with resourceAttributes";
                vec![FieldError::invalid("spec.nonResourceAttributes", &json!("nonResourceAttributes"), why)]
            }
            (None, None) => {
                let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
                vec![FieldError::invalid(path, &Value::Null, why)]
            }
            _ => Vec::new(),
        }
    }
}

fn access_spec(body: &Value) -> Result<AccessSpec, Status> {
    AccessSpec::deserialize(&body["spec"]).map_err(|e| Status::bad_request(format!("spec: {e}")))
}

fn check(kind: &'static Kind, errors: &FieldErrors) -> Result<(), Status> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(kind, "", errors.clone())) }
}

fn subject_access(
    access: &Access,
    kind: &'static Kind,
    namespace: Option<&str>,
    body: &Value,
) -> Result<Value, Status> {
    let spec = access_spec(body)?;
    let mut errors = spec.errors();
    if spec.user.is_empty() && spec.groups.is_empty() {
        errors.push(FieldError::invalid("spec.user", &json!(""), "at least one of user or group must be specified"));
    }
    if kind.namespaced {
        match &spec.resource_attributes {
            None => errors.push(FieldError::invalid(
                "spec.nonResourceAttributes",
                &Value::Null,
                "disallowed on this kind of request",
            )),
            Some(attributes) if Some(attributes.namespace.as_str()) != namespace => errors.push(FieldError::invalid(
                "spec.resourceAttributes.namespace",
                &json!(attributes.namespace),
                "must match metadata.namespace",
            )),
            Some(_) => {}
        }
    }
    check(kind, &errors)?;
    let user =
        User { name: spec.user.clone(), uid: spec.uid.clone(), groups: spec.groups.clone(), extra: spec.extra.clone() };
    Ok(decide(access, &user, &spec))
}

fn decide(access: &Access, user: &User, spec: &AccessSpec) -> Value {
    let none = ResourceAttributes::default();
    let resource = spec.resource_attributes.as_ref().unwrap_or(&none);
    let path = spec.non_resource_attributes.as_ref();
    let decision = access.authorizer.authorize(&Attributes {
        user,
        verb: path.map_or(&resource.verb, |path| &path.verb),
        group: &resource.group,
        version: &resource.version,
        resource: &resource.resource,
        subresource: &resource.subresource,
        namespace: &resource.namespace,
        name: &resource.name,
        path: path.map_or("", |path| &path.path),
        is_resource: spec.resource_attributes.is_some(),
        fields: "",
    });
    let mut status = json!({"allowed": decision.allowed});
    if !decision.reason.is_empty() {
        status["reason"] = decision.reason.into();
    }
    status
}

fn token(access: &Access, body: &Value) -> Result<Value, Status> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Spec {
        token: String,
        audiences: Vec<String>,
    }
    let spec = Spec::deserialize(&body["spec"]).map_err(|e| Status::bad_request(format!("spec: {e}")))?;
    if spec.token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    Ok(match access.issuer.authenticate(&*access.objects, &spec.token, &spec.audiences) {
        Ok((user, audiences)) => {
            json!({"authenticated": true, "user": user_info(&user), "audiences": audiences})
        }
        // Of what isn't a token at all there is no more to say.
        Err(reason) if reason.is_empty() => json!({"user": {}, "error": "invalid bearer token"}),
        Err(reason) => json!({"user": {}, "error": format!("[invalid bearer token, {reason}]")}),
    })
}

fn subject_rules(access: &Access, user: &User, body: &Value) -> Result<Value, Status> {
    let namespace = body["spec"]["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let held = access.authorizer.rules_for(user, namespace);
    let (urls, resources): (Vec<Rule>, Vec<Rule>) =
        held.rules.into_iter().partition(|rule| !rule.non_resource_urls.is_empty());
    let mut status =
        json!({"resourceRules": resources, "nonResourceRules": urls, "incomplete": !held.errors.is_empty()});
    if !held.errors.is_empty() {
        status["evaluationError"] = held.errors.join(", ").into();
    }
    Ok(status)
}

fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name});
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    if !user.groups.is_empty() {
        info["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

#[cfg(test)]
mod tests {
    use tug_api::kinds::{authentication, authorization};

    use super::*;
    use crate::auth::fake::{Registry, access, namespace, service_account};
    use crate::rbac::policy;

    fn cluster() -> Access {
        let registry = Registry::with(&[namespace("ns"), service_account("ns", "robot")]);
        for value in policy::cluster_roles().into_iter().chain(policy::cluster_role_bindings()) {
            registry.put(value);
        }
        registry.put(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "viewers", "namespace": "ns"},
            "roleRef": {"kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "User", "name": "jane"}],
        }));
        access(&registry)
    }

    #[tokio::test]
    async fn access_reviews() {
        let access = cluster();
        let jane = User::system("jane", &[]);
        let pods = |namespace: &str| json!({"namespace": namespace, "verb": "list", "resource": "pods"});
        let own = &authorization::SELF_SUBJECT_ACCESS_REVIEW;
        let any = &authorization::SUBJECT_ACCESS_REVIEW;
        let local = &authorization::LOCAL_SUBJECT_ACCESS_REVIEW;
        let cases = [
            (own, json!({"resourceAttributes": pods("ns")}), Ok(true)),
            (own, json!({"resourceAttributes": pods("other")}), Ok(false)),
            (own, json!({"nonResourceAttributes": {"verb": "get", "path": "/version"}}), Ok(true)),
            (own, json!({"nonResourceAttributes": {"verb": "get", "path": "/metrics"}}), Ok(false)),
            (
                own,
                json!({}),
                Err(
                    "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified",
                ),
            ),
            (any, json!({"resourceAttributes": pods("ns"), "user": "jane"}), Ok(true)),
            (any, json!({"resourceAttributes": pods("ns"), "user": "bob"}), Ok(false)),
            (any, json!({"resourceAttributes": pods("ns"), "user": "bob", "groups": ["system:masters"]}), Ok(true)),
            (
                any,
                json!({"resourceAttributes": pods("ns")}),
                Err("spec.user: Invalid value: \"\": at least one of user or group must be specified"),
            ),
            (local, json!({"resourceAttributes": pods("ns"), "user": "jane"}), Ok(true)),
            (
                local,
                json!({"resourceAttributes": pods("other"), "user": "jane"}),
                Err("spec.resourceAttributes.namespace: Invalid value: \"other\": must match metadata.namespace"),
            ),
        ];
        for (kind, spec, expected) in cases {
            let namespace = kind.namespaced.then_some("ns");
            match (create(&access, &jane, kind, namespace, json!({"spec": spec})).await, expected) {
                (Ok(answer), Ok(allowed)) => assert_eq!(answer["status"]["allowed"], allowed, "{spec}"),
                (Err(status), Err(why)) => {
                    assert_eq!(status.code, 422);
                    assert!(status.message.ends_with(why), "{status}");
                }
                (result, _) => panic!("{spec}: {result:?}"),
            }
        }
    }

    #[tokio::test]
    async fn token_reviews() {
        let access = cluster();
        let kind = &authentication::TOKEN_REVIEW;
        let account = tug_api::ObjectKey::new("ns", "robot");
        let issued = access.issuer.request(&*access.objects, &account, json!({})).expect("a token");
        let token = issued["status"]["token"].as_str().expect("a token");
        let asking = User::anonymous();
        let review = |spec: Value| create(&access, &asking, kind, None, json!({"spec": spec}));
        let status = review(json!({"token": token})).await.expect("an answer")["status"].clone();
        assert_eq!(status["authenticated"], true);
        assert_eq!(status["user"]["username"], "system:serviceaccount:ns:robot");
        assert_eq!(status["audiences"], json!([crate::tokens::ISSUER]));
        for spec in [json!({"token": "x.y.z"}), json!({"token": token, "audiences": ["vault"]})] {
            let status = review(spec).await.expect("an answer")["status"].clone();
            assert!(status["authenticated"].is_null(), "{status}");
            let error = status["error"].as_str().expect("an error");
            assert!(error.contains("invalid bearer token") && !error.contains(token), "{error}");
        }
        let error = review(json!({"token": "x"})).await.expect("an answer")["status"]["error"].clone();
        assert_eq!(error, "invalid bearer token");
        let refused = review(json!({})).await.expect_err("no token");
        assert_eq!(
            (refused.code, refused.message.as_str()),
            (400, "token is required for TokenReview in authentication")
        );
    }

    #[tokio::test]
    async fn what_one_is_and_may() {
        let access = cluster();
        let jane = User::system("jane", &["dev"]);
        let body = json!({"spec": {"namespace": "ns"}});
        let kind = &authorization::SELF_SUBJECT_RULES_REVIEW;
        let answer = create(&access, &jane, kind, None, body).await.expect("an answer");
        let rules = answer["status"]["resourceRules"].as_array().expect("rules");
        assert!(
            rules
                .iter()
                .any(|rule| rule["resources"] == json!(["namespaces"])
                    && rule["verbs"] == json!(["get", "list", "watch"]))
        );
        assert_eq!(answer["status"]["incomplete"], false);
        let refused = create(&access, &jane, kind, None, json!({"spec": {}})).await.expect_err("no namespace");
        assert_eq!(refused.code, 400);

        let kind = &authentication::SELF_SUBJECT_REVIEW;
        let answer = create(&access, &jane, kind, None, json!({})).await.expect("an answer");
        assert_eq!(
            answer["status"]["userInfo"],
            json!({"username": "jane", "groups": ["dev", "system:authenticated"]})
        );
    }
}
