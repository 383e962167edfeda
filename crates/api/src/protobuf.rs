//! Kubernetes' protobuf encoding of requests, turned into JSON: what kubectl's own commands and most Go clients send.
//!
//! `protobuf/fields.txt` says for every message which number, JSON name and type its fields have, one message a line. It is
//! searched when a body comes and costs no memory until then. Types: `s`tring, `b`ool, `i`nteger, `f`loat, b`y`tes,
//! `t`ime, `m`icrotime, `q`uantity, int-or-string (`x`), `r`aw JSON, `[]` and `{}` before what lists and maps hold, else a
//! message. A `*` marks fields whose zero is kept: upstream's encoder writes all others whether they are set or not. The
//! name `.` stands for fields that are their message's own in JSON.

use std::collections::HashMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

const FIELDS: &str = include_str!("protobuf/fields.txt");
/// Before every body (`k8s.io/apimachinery/pkg/runtime/serializer/protobuf`).
const MAGIC: &[u8] = b"k8s\0";
/// Messages within messages; upstream's deepest is far less.
const MOST_DEEP: usize = 64;

/// Why a body can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Prefix,
    /// Ends within a field, or has a field of another type than it should.
    #[error("proto: malformed message")]
    Malformed,
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind { api_version: String, kind: String },
}

type Result<T> = std::result::Result<T, ProtobufError>;

/// A body as the JSON that it means, `apiVersion` and `kind` included where it has them.
///
/// # Errors
/// If it isn't an object of a kind that the table knows.
pub fn decode(body: &[u8]) -> Result<Value> {
    let body = body.strip_prefix(MAGIC).ok_or(ProtobufError::Prefix)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Fields(body) {
        match field? {
            (1, Wire::Bytes(type_meta)) => {
                for field in Fields(type_meta) {
                    match field? {
                        (1, Wire::Bytes(text)) => api_version = utf8(text)?,
                        (2, Wire::Bytes(text)) => kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let unknown = || ProtobufError::UnknownKind { api_version: api_version.clone(), kind: kind.clone() };
    let name = message_name(&api_version, &kind);
    let mut decoder = Decoder::default();
    if decoder.message(&name).is_none() {
        return Err(unknown());
    }
    let mut value = decoder.decode(&name, raw, 0)?;
    let fields = value.as_object_mut().ok_or_else(unknown)?;
    fields.insert("apiVersion".into(), api_version.into());
    fields.insert("kind".into(), kind.into());
    Ok(value)
}

/// `core.v1.Pod`. Options have their request's version, but are of the meta group.
fn message_name(api_version: &str, kind: &str) -> String {
    if kind == "DeleteOptions" {
        return "meta.v1.DeleteOptions".into();
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
    let group = group.split('.').next().unwrap_or_default();
    format!("{group}.{version}.{kind}")
}

/// A line of the table.
struct Field {
    number: u64,
    name: &'static str,
    r#type: &'static str,
    keeps_zero: bool,
}

/// The messages met so far.
#[derive(Default)]
struct Decoder {
    messages: HashMap<&'static str, &'static str>,
}

impl Decoder {
    /// The fields of a message, as the table's line has them.
    fn message(&mut self, name: &str) -> Option<&'static str> {
        if let Some(line) = self.messages.get(name) {
            return Some(line);
        }
        let (name, line) = FIELDS.lines().filter_map(|line| line.split_once(' ')).find(|(found, _)| *found == name)?;
        self.messages.insert(name, line);
        Some(line)
    }

    fn decode(&mut self, name: &str, bytes: &[u8], depth: usize) -> Result<Value> {
        if depth > MOST_DEEP {
            return Err(ProtobufError::Malformed);
        }
        let Some(line) = self.message(name) else { return Ok(Value::Object(Map::new())) };
        let known: Vec<Field> = line.split(' ').filter_map(Field::parse).collect();
        // A list with a name of its own.
        if let [Field { name: ".", r#type, .. }] = known[..]
            && let Some(element) = r#type.strip_prefix("[]")
        {
            let items: Result<Vec<Value>> = Fields(bytes).map(|field| self.value(element, field?.1, depth)).collect();
            return items.map(Value::Array);
        }
        let mut object = Map::new();
        for field in Fields(bytes) {
            let (number, wire) = field?;
            let Some(field) = known.iter().find(|field| field.number == number) else { continue };
            if let Some(element) = field.r#type.strip_prefix("[]") {
                let item = self.value(element, wire, depth)?;
                match object.entry(field.name).or_insert_with(|| Value::Array(Vec::new())) {
                    Value::Array(list) => list.push(item),
                    _ => return Err(ProtobufError::Malformed),
                }
            } else if let Some(element) = field.r#type.strip_prefix("{}") {
                let (key, value) = self.entry(element, wire, depth)?;
                match object.entry(field.name).or_insert_with(|| Value::Object(Map::new())) {
                    Value::Object(map) => map.insert(key, value),
                    _ => return Err(ProtobufError::Malformed),
                };
            } else if field.name == "." {
                if let Value::Object(own) = self.value(field.r#type, wire, depth)? {
                    object.extend(own);
                }
            } else {
                let value = self.value(field.r#type, wire, depth)?;
                if !value.is_null() && (field.keeps_zero || !is_zero(&value)) {
                    object.insert(field.name.into(), value);
                }
            }
        }
        Ok(Value::Object(object))
    }

    fn entry(&mut self, element: &str, wire: Wire<'_>, depth: usize) -> Result<(String, Value)> {
        let Wire::Bytes(bytes) = wire else { return Err(ProtobufError::Malformed) };
        let (mut key, mut value) = (String::new(), None);
        for field in Fields(bytes) {
            match field? {
                (1, Wire::Bytes(text)) => key = utf8(text)?,
                (2, wire) => value = Some(self.value(element, wire, depth)?),
                _ => {}
            }
        }
        let empty = || match element {
            "s" | "y" => Value::String(String::new()),
            "i" => 0.into(),
            "b" => false.into(),
            _ => Value::Object(Map::new()),
        };
        Ok((key, value.unwrap_or_else(empty)))
    }

    fn value(&mut self, r#type: &str, wire: Wire<'_>, depth: usize) -> Result<Value> {
        Ok(match (r#type, wire) {
            ("s", Wire::Bytes(text)) => utf8(text)?.into(),
            ("b", Wire::Number(number)) => (number != 0).into(),
            // Negative numbers come as their two's complement in 64 bits.
            ("i", Wire::Number(number)) => number.cast_signed().into(),
            ("f", Wire::Number(bits)) => f64::from_bits(bits).into(),
            ("y", Wire::Bytes(bytes)) => BASE64_STANDARD.encode(bytes).into(),
            ("t" | "m", Wire::Bytes(bytes)) => time(bytes, r#type == "m")?,
            ("q", Wire::Bytes(bytes)) => match first_bytes(bytes)? {
                Some(text) => utf8(text)?.into(),
                None => "0".into(),
            },
            ("x", Wire::Bytes(bytes)) => int_or_string(bytes)?,
            ("r", Wire::Bytes(bytes)) => match first_bytes(bytes)? {
                Some(json) => serde_json::from_slice(json).map_err(|_| ProtobufError::Malformed)?,
                None => Value::Null,
            },
            (name, Wire::Bytes(bytes)) if name.len() > 1 => self.decode(name, bytes, depth + 1)?,
            _ => return Err(ProtobufError::Malformed),
        })
    }
}

impl Field {
    /// From `3:replicas=i*`.
    fn parse(text: &'static str) -> Option<Self> {
        let (number, rest) = text.split_once(':')?;
        let (name, r#type) = rest.split_once('=')?;
        let number = number.parse().ok()?;
        let plain = r#type.strip_suffix('*');
        Some(Self { number, name, r#type: plain.unwrap_or(r#type), keeps_zero: plain.is_some() })
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// `null` for the zero time, which JSON leaves out.
fn time(bytes: &[u8], micro: bool) -> Result<Value> {
    let (mut seconds, mut nanos, mut any) = (0, 0, false);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Number(number)) => (seconds, any) = (number.cast_signed(), true),
            (2, Wire::Number(number)) => nanos = i32::try_from(number).map_err(|_| ProtobufError::Malformed)?,
            _ => {}
        }
    }
    // Go's zero time is in the year one.
    if !any || seconds == -62_135_596_800 {
        return Ok(Value::Null);
    }
    let at = Timestamp::new(seconds, nanos).map_err(|_| ProtobufError::Malformed)?;
    let format = if micro { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(at.strftime(format).to_string().into())
}

fn int_or_string(bytes: &[u8]) -> Result<Value> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Number(kind)) => is_text = kind == 1,
            (2, Wire::Number(value)) => number = value.cast_signed(),
            (3, Wire::Bytes(value)) => text = utf8(value)?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

/// Field 1 of a message that has only that.
fn first_bytes(bytes: &[u8]) -> Result<Option<&[u8]>> {
    for field in Fields(bytes) {
        if let (1, Wire::Bytes(bytes)) = field? {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

fn utf8(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| ProtobufError::Malformed)
}

/// A field's value on the wire.
#[derive(Clone, Copy, Debug)]
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, in order.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Wire<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read().ok_or(ProtobufError::Malformed);
        if field.is_err() {
            // What follows can't be made sense of.
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn read(&mut self) -> Option<(u64, Wire<'a>)> {
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Number(self.varint()?),
            1 => Wire::Number(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Number(u32::from_le_bytes(self.take(4)?.try_into().ok()?).into()),
            _ => return None,
        };
        Some((tag >> 3, wire))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What `kubectl create deployment web --image=nginx --replicas=2` sends, byte for byte.
    const DEPLOYMENT: &str = "6b38730 00a150a07617070732f7631120a4465706c6f796d656e7412ab010a1f\
        0a0377656212001a0022002a00320038 0042005a0a0a03617070120377656212\
        7a0802120c0a0a0a036170701203776562 1a600a1c0a0012001a0022002a0032\
        00380042005a0a0a036170701203776562 124012220a056e67696e7812056e67\
        696e782a0042006a0072008001008801 009001 00a201001a00320042004a0052\
        005800600068008201008a01009a0100 c2010022020a00280038001a0c080010\
        001800200028003800 1a002200";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
        digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).expect("a byte")).collect()
    }

    #[test]
    fn kubectls_deployment_is_what_its_json_would_be() {
        let expected = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": "web", "labels": { "app": "web" } },
            "spec": {
                "replicas": 2,
                "selector": { "matchLabels": { "app": "web" } },
                "template": {
                    "metadata": { "labels": { "app": "web" } },
                    "spec": { "containers": [{ "name": "nginx", "image": "nginx" }] },
                },
            },
        });
        assert_eq!(decode(&bytes(DEPLOYMENT)), Ok(expected));
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        let whole = bytes(DEPLOYMENT);
        assert_eq!(decode(&[]), Err(ProtobufError::Prefix));
        assert_eq!(decode(b"{}"), Err(ProtobufError::Prefix));
        // No part of it panics, whatever it means.
        for length in 0..whole.len() {
            let _ = decode(&whole[..length]);
        }
        assert_eq!(decode(&whole[..whole.len() - 6]), Err(ProtobufError::Malformed));
    }

    /// Every type that the table mentions is one that the decoder knows, and every kind of ours is in it.
    #[test]
    fn the_table_is_whole() {
        let mut decoder = Decoder::default();
        for line in FIELDS.lines() {
            let (name, fields) = line.split_once(' ').expect("a name and fields");
            for text in fields.split(' ') {
                let field = Field::parse(text).unwrap_or_else(|| panic!("{name}: {text}"));
                let element = field.r#type.trim_start_matches("[]").trim_start_matches("{}");
                let known = "sbifytmqxr".contains(element) || decoder.message(element).is_some();
                assert!(known, "{name}: {text}");
            }
        }
        for kind in crate::kinds::all() {
            // Their types are of other modules, and their clients send JSON.
            if matches!(kind.group, "apiextensions.k8s.io" | "apiregistration.k8s.io") {
                continue;
            }
            let group = if kind.group.is_empty() { "v1".into() } else { format!("{}/{}", kind.group, kind.version) };
            let name = message_name(&group, kind.kind);
            assert!(decoder.message(&name).is_some(), "{name}");
        }
    }
}
