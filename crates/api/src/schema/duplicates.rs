//! Fields that a JSON text names twice. A decoded value can't tell: the text is read once more, keeping only keys.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::field::quoted;

/// Upstream reports no more strict errors than this.
const MOST: usize = 100;

/// `duplicate field "spec.replicas"` for each object key that appears twice in `json`.
/// Text that isn't JSON has none: whoever decodes it says what is wrong.
pub fn duplicate_fields(json: &[u8]) -> Vec<String> {
    let mut found = Found { path: String::new(), duplicates: Vec::new() };
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    match found.deserialize_value(&mut deserializer) {
        Ok(()) => found.duplicates,
        Err(_) => Vec::new(),
    }
}

struct Found {
    /// Of the value being read: `spec.containers[0].name`.
    path: String,
    duplicates: Vec<String>,
}

impl Found {
    fn deserialize_value<'de, D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error> {
        Walk(self).deserialize(deserializer)
    }
}

struct Walk<'a>(&'a mut Found);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let length = self.0.path.len();
        for index in 0.. {
            self.0.path.push_str(&format!("[{index}]"));
            let more = items.next_element_seed(Walk(self.0))?;
            self.0.path.truncate(length);
            if more.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let length = self.0.path.len();
        let mut seen = HashSet::new();
        while let Some(key) = fields.next_key::<String>()? {
            if length > 0 {
                self.0.path.push('.');
            }
            self.0.path.push_str(&key);
            if !seen.insert(key) && self.0.duplicates.len() < MOST {
                let message = format!("duplicate field {}", quoted(&self.0.path));
                if !self.0.duplicates.contains(&message) {
                    self.0.duplicates.push(message);
                }
            }
            fields.next_value_seed(Walk(self.0))?;
            self.0.path.truncate(length);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_appear_twice_are_named_with_their_path() {
        let cases: [(&str, &[&str]); 5] = [
            (r#"{"a":1,"b":{"a":2}}"#, &[]),
            (r#"{"spec":{"replicas":1,"replicas":2,"replicas":3}}"#, &[r#"duplicate field "spec.replicas""#]),
            (
                r#"{"spec":{"containers":[{"name":"a"},{"name":"b","name":"c"}]}}"#,
                &[r#"duplicate field "spec.containers[1].name""#],
            ),
            (r#"{"a":{},"a":{"b":1,"b":2}}"#, &[r#"duplicate field "a""#, r#"duplicate field "a.b""#]),
            ("{", &[]),
        ];
        for (json, expected) in cases {
            assert_eq!(duplicate_fields(json.as_bytes()), expected, "{json}");
        }
    }
}
