//! `fieldRef` paths of the downward API, for environments and volumes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

/// Addresses that aren't in the pod's spec.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    pub host: String,
    pub pod: Vec<String>,
}

/// The value of `path`, or why there is none, in upstream's words.
pub fn value(pod: &Pod, path: &str, addresses: &Addresses) -> Result<String, String> {
    let meta = &pod.metadata;
    if let Some((map, key)) = subscript(path) {
        return match map {
            "metadata.labels" => Ok(entry(meta.labels.as_ref(), key)),
            "metadata.annotations" => Ok(entry(meta.annotations.as_ref(), key)),
            _ => Err(format!("fieldPath {path:?} does not support subscript")),
        };
    }
    let spec = pod.spec.as_ref();
    Ok(match path {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default(),
        "status.hostIP" | "status.hostIPs" => addresses.host.clone(),
        "status.podIP" => addresses.pod.first().cloned().unwrap_or_default(),
        "status.podIPs" => addresses.pod.join(","),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

/// `metadata.labels['key']` in two.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

fn entry(map: Option<&BTreeMap<String, String>>, key: &str) -> String {
    map.and_then(|map| map.get(key)).cloned().unwrap_or_default()
}

/// A line `key="value"` for each entry, sorted, quoted as Go's `%q` does.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quoted(value))).collect();
    lines.join("\n")
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u-1",
                "labels": {"b": "2", "a": "1"}, "annotations": {"note": "say \"hi\"\n"}},
            "spec": {"containers": [], "nodeName": "n1", "serviceAccountName": "sa"}
        }))
        .unwrap();
        let addresses = Addresses { host: "10.0.0.1".into(), pod: vec!["10.244.0.2".into()] };
        let cases = [
            ("metadata.name", Ok("web")),
            ("metadata.labels['a']", Ok("1")),
            ("metadata.labels['missing']", Ok("")),
            ("metadata.labels", Ok("a=\"1\"\nb=\"2\"")),
            ("metadata.annotations", Ok("note=\"say \\\"hi\\\"\\n\"")),
            ("spec.nodeName", Ok("n1")),
            ("spec.serviceAccountName", Ok("sa")),
            ("status.hostIP", Ok("10.0.0.1")),
            ("status.podIP", Ok("10.244.0.2")),
            ("status.phase", Err("unsupported fieldPath: status.phase")),
        ];
        for (path, expected) in cases {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(value(&pod, path, &addresses), expected, "{path}");
        }
    }
}
