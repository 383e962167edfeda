//! Registry credentials from a pod's imagePullSecrets, matched to an image by registry and path.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;

use crate::runtime::Auth;

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

/// Credentials of `secret` that are for `image`, the most particular first. Empty for a secret of another type.
pub fn credentials(secret: &Secret, image: &str) -> Vec<Auth> {
    let data = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
    let entries = if let Some(bytes) = data(".dockerconfigjson") {
        serde_json::from_slice::<DockerConfig>(bytes).map(|config| config.auths).unwrap_or_default()
    } else if let Some(bytes) = data(".dockercfg") {
        serde_json::from_slice(bytes).unwrap_or_default()
    } else {
        BTreeMap::new()
    };
    let (host, path) = image_place(image);
    let mut found: Vec<(usize, Auth)> =
        entries.iter().filter_map(|(key, entry)| Some((matched(key, &host, &path)?, auth(entry)?))).collect();
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    found.into_iter().map(|(_, auth)| auth).collect()
}

fn auth(entry: &Entry) -> Option<Auth> {
    if !entry.registrytoken.is_empty() {
        return Some(Auth::Bearer(entry.registrytoken.clone()));
    }
    if !entry.username.is_empty() {
        return Some(Auth::Basic { username: entry.username.clone(), password: entry.password.clone() });
    }
    let decoded = STANDARD.decode(entry.auth.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (username, password) = text.split_once(':')?;
    let password = if entry.identitytoken.is_empty() { password } else { &entry.identitytoken };
    Some(Auth::Basic { username: username.to_owned(), password: password.to_owned() })
}

/// Registry and repository of an image reference.
fn image_place(image: &str) -> (String, String) {
    match image.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (normal_host(host), path.to_owned()),
        _ => ("docker.io".into(), image.to_owned()),
    }
}

fn normal_host(host: &str) -> String {
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".into(),
        other => other.to_owned(),
    }
}

/// The length of the path by which a config file's key matches; `*` stands for one part of a host name.
fn matched(key: &str, host: &str, path: &str) -> Option<usize> {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let (key_host, key_path) = key.split_once('/').unwrap_or((key, ""));
    // The paths of registry APIs are not part of an image's name.
    let key_path = key_path.trim_end_matches('/');
    let key_path = if matches!(key_path, "v1" | "v2") { "" } else { key_path };
    let key_host = normal_host(key_host);
    let (wanted, given): (Vec<&str>, Vec<&str>) = (key_host.split('.').collect(), host.split('.').collect());
    let same_host = wanted.len() == given.len() && wanted.iter().zip(&given).all(|(wanted, given)| glob(wanted, given));
    (same_host && path.starts_with(key_path)).then_some(key_path.len())
}

/// `*` as in a shell, within one part of a name.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text
            .strip_prefix(head)
            .is_some_and(|rest| (0..=rest.len()).any(|at| rest.is_char_boundary(at) && glob(tail, &rest[at..]))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn matches_as_upstream() {
        let cases = [
            ("https://index.docker.io/v1/", "nginx", true),
            ("docker.io", "bitnami/redis:1", true),
            ("registry.example.com", "registry.example.com/a/b", true),
            ("registry.example.com/a", "registry.example.com/a/b", true),
            ("registry.example.com/c", "registry.example.com/a/b", false),
            ("*.example.com", "registry.example.com/a", true),
            ("*.example.com", "a.registry.example.com/a", false),
            ("localhost:5000", "localhost:5000/x", true),
            ("localhost:5001", "localhost:5000/x", false),
        ];
        for (key, image, expected) in cases {
            let config = json!({"auths": {key: {"auth": STANDARD.encode("me:pa:ss")}}}).to_string();
            let secret: Secret =
                serde_json::from_value(json!({"data": {".dockerconfigjson": STANDARD.encode(config)}})).unwrap();
            let expected = if expected {
                vec![Auth::Basic { username: "me".into(), password: "pa:ss".into() }]
            } else {
                Vec::new()
            };
            assert_eq!(credentials(&secret, image), expected, "{key} {image}");
        }
    }
}
