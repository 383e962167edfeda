//! Cells of tables that several kinds print, as `pkg/printers/internalversion` has them.

use serde_json::Value;

use crate::kinds::walk::{entries, list, text};

pub const NONE: &str = "<none>";
pub const UNKNOWN: &str = "<unknown>";
pub const UNSET: &str = "<unset>";

/// The Name column's cell.
pub fn name(object: &Value) -> Value {
    object.pointer("/metadata/name").cloned().unwrap_or_default()
}

/// A text, or `otherwise` when it's empty.
pub fn or(text: &str, otherwise: &str) -> Value {
    if text.is_empty() { otherwise.into() } else { text.into() }
}

/// `a=b,c=d`, sorted by key; `<none>` without entries.
pub fn labels(object: &Value, pointer: &str) -> Value {
    let mut pairs: Vec<String> =
        entries(object, pointer).map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    pairs.sort();
    or(&pairs.join(","), NONE)
}

/// A LabelSelector in its one-line form; `<none>` when it's absent or selects everything.
pub fn selector(object: &Value, pointer: &str) -> Value {
    let Some(selector) = object.pointer(pointer) else { return NONE.into() };
    // Upstream sorts the requirements by key, whatever form they were written in.
    let mut parts: Vec<(String, String)> = entries(selector, "/matchLabels")
        .map(|(key, value)| (key.to_owned(), format!("{key}={}", value.as_str().unwrap_or_default())))
        .collect();
    for expression in list(selector, "/matchExpressions") {
        let key = text(expression, "/key");
        let mut values: Vec<&str> = list(expression, "/values").iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let part = match text(expression, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        };
        parts.push((key.to_owned(), part));
    }
    parts.sort();
    let parts: Vec<String> = parts.into_iter().map(|(_, part)| part).collect();
    or(&parts.join(","), NONE)
}

/// Names and images of a pod template's containers, each joined by commas.
pub fn containers(object: &Value, pointer: &str) -> [Value; 2] {
    let containers = list(object, pointer);
    let joined = |field: &str| {
        let texts: Vec<&str> = containers.iter().map(|container| text(container, field)).collect();
        Value::from(texts.join(","))
    };
    [joined("/name"), joined("/image")]
}

/// At most so many of `items`, then how many more there are.
pub fn first_few(items: &[String], most: usize) -> Value {
    if items.is_empty() {
        return NONE.into();
    }
    let shown = items.iter().take(most).map(String::as_str).collect::<Vec<_>>().join(",");
    match items.len().saturating_sub(most) {
        0 => shown.into(),
        more => format!("{shown} + {more} more...").into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_print_on_one_line() {
        let cases = [
            (json!({}), "<none>"),
            (json!({"matchLabels": {"b": "2", "a": "1"}}), "a=1,b=2"),
            (
                json!({"matchLabels": {"z": "1"}, "matchExpressions": [
                    {"key": "tier", "operator": "In", "values": ["web", "cache"]},
                    {"key": "env", "operator": "NotIn", "values": ["dev"]},
                    {"key": "old", "operator": "DoesNotExist"},
                    {"key": "new", "operator": "Exists"},
                ]}),
                "env notin (dev),new,!old,tier in (cache,web),z=1",
            ),
        ];
        for (given, expected) in cases {
            assert_eq!(selector(&json!({"s": given}), "/s"), expected, "{given}");
        }
    }

    #[test]
    fn long_lists_are_cut() {
        let items: Vec<String> = (1..=5).map(|n| n.to_string()).collect();
        assert_eq!(first_few(&items, 3), "1,2,3 + 2 more...");
        assert_eq!(first_few(&items[..2], 3), "1,2");
        assert_eq!(first_few(&[], 3), "<none>");
    }
}
