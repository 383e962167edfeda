//! Errors as Go's JSON decoder words them: upstream passes those on to its clients.

use std::fmt::Write;

use serde_json::Value;

/// What a value is called in `json: cannot unmarshal … into`.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The beginning of a body, as upstream shows it: objects as they are, all else in hexadecimal.
pub fn summary(bytes: &[u8]) -> String {
    const MOST: usize = 30;
    let Some(first) = bytes.first() else { return "<empty>".into() };
    let head = &bytes[..bytes.len().min(MOST)];
    let more = if bytes.len() > MOST { " ..." } else { "" };
    if *first == b'{' {
        return format!("{}{more}", String::from_utf8_lossy(head));
    }
    let mut hex = String::new();
    for byte in head {
        write!(hex, "{byte:02x}").expect("writing to a string");
    }
    format!("{hex}{more}")
}

/// Go's words for what `serde_json` stumbled over.
pub fn syntax_error(bytes: &[u8], error: &serde_json::Error) -> String {
    if error.is_eof() || bytes.iter().all(u8::is_ascii_whitespace) {
        return "unexpected end of JSON input".into();
    }
    let at = scan(bytes);
    match at {
        Some((index, context)) => {
            let text = String::from_utf8_lossy(&bytes[index..bytes.len().min(index + 4)]);
            let found = text.chars().next().unwrap_or('\u{fffd}');
            let shown = match found {
                '\'' => r"'\''".into(),
                '"' => "'\"'".into(),
                c if c.is_control() => format!("'{}'", c.escape_default()),
                c => format!("'{c}'"),
            };
            format!("invalid character {shown} {context}")
        }
        None => error.to_string(),
    }
}

/// Go's words for what is wrong with bytes that should be JSON of some type, if anything is: what `json.Unmarshal` into
/// `into` says. `fits` are the first bytes that such a value can have.
pub fn unmarshal_error(bytes: &[u8], fits: impl Fn(&Value) -> bool, into: &str) -> Option<String> {
    match serde_json::from_slice::<Value>(bytes) {
        Err(error) => Some(syntax_error(bytes, &error)),
        Ok(value) if fits(&value) => None,
        Ok(value) => Some(format!("json: cannot unmarshal {} into Go value of type {into}", type_name(&value))),
    }
}

/// The words of Go's YAML library for what ours stumbled over: the same but for where it says that.
pub fn yaml_error(error: &str) -> String {
    let Some((what, place)) = error.split_once(" at line ") else { return format!("yaml: {error}") };
    let line: usize = place.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(1);
    // Its parser counts lines from 0, its scanner from 1, and neither says 0.
    let line = if place.contains("while parsing") { line - 1 } else { line };
    if line == 0 { format!("yaml: {what}") } else { format!("yaml: line {line}: {what}") }
}

/// Where the state machine of Go's scanner would stop, and what it was after.
fn scan(bytes: &[u8]) -> Option<(usize, &'static str)> {
    let mut scanner = Scanner { bytes, at: 0 };
    let stopped = scanner.value(0).err().or_else(|| {
        scanner.space();
        (scanner.at < bytes.len()).then_some("after top-level value")
    });
    stopped.filter(|_| scanner.at < bytes.len()).map(|context| (scanner.at, context))
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

type Step = Result<(), &'static str>;

impl Scanner<'_> {
    fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\r' | b'\n') {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Step {
        // Deeper ones are refused before they come here.
        if depth > 200 {
            return Err("exceeded max depth");
        }
        self.space();
        match self.peek() {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string(),
            b't' => self.literal(
                "true",
                [
                    "in literal true (expecting 'r')",
                    "in literal true (expecting 'u')",
                    "in literal true (expecting 'e')",
                    "",
                ],
            ),
            b'f' => self.literal(
                "false",
                [
                    "in literal false (expecting 'a')",
                    "in literal false (expecting 'l')",
                    "in literal false (expecting 's')",
                    "in literal false (expecting 'e')",
                ],
            ),
            b'n' => self.literal(
                "null",
                [
                    "in literal null (expecting 'u')",
                    "in literal null (expecting 'l')",
                    "in literal null (expecting 'l')",
                    "",
                ],
            ),
            b'-' | b'0'..=b'9' => self.number(),
            _ => Err("looking for beginning of value"),
        }
    }

    fn object(&mut self, depth: usize) -> Step {
        self.at += 1;
        self.space();
        if self.peek() == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            if self.peek() != b'"' {
                return Err("looking for beginning of object key string");
            }
            self.string()?;
            self.space();
            if self.peek() != b':' {
                return Err("after object key");
            }
            self.at += 1;
            self.value(depth + 1)?;
            self.space();
            match self.peek() {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err("after object key:value pair"),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Step {
        self.at += 1;
        self.space();
        if self.peek() == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            self.space();
            match self.peek() {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err("after array element"),
            }
        }
    }

    fn string(&mut self) -> Step {
        self.at += 1;
        while self.at < self.bytes.len() {
            match self.peek() {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => {
                    self.at += 1;
                    match self.peek() {
                        b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => self.at += 1,
                        b'u' => {
                            self.at += 1;
                            for _ in 0..4 {
                                if !self.peek().is_ascii_hexdigit() {
                                    return Err(r"in \u hexadecimal character escape");
                                }
                                self.at += 1;
                            }
                        }
                        _ => return Err("in string escape code"),
                    }
                }
                byte if byte < 0x20 => return Err("in string literal"),
                _ => self.at += 1,
            }
        }
        Ok(())
    }

    fn literal(&mut self, word: &str, contexts: [&'static str; 4]) -> Step {
        self.at += 1;
        for (expected, context) in word.bytes().skip(1).zip(contexts) {
            if self.peek() != expected {
                return Err(context);
            }
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Step {
        if self.peek() == b'-' {
            self.at += 1;
            if !self.peek().is_ascii_digit() {
                return Err("in numeric literal");
            }
        }
        let zero = self.peek() == b'0';
        self.at += 1;
        while !zero && self.peek().is_ascii_digit() {
            self.at += 1;
        }
        if self.peek() == b'.' {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(())
    }

    fn digits(&mut self, context: &'static str) -> Step {
        if !self.peek().is_ascii_digit() {
            return Err(context);
        }
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        Ok(())
    }
}

/// A value as Go prints a decoded map with `%+v`: `map[spec:map[replicas:3]]`.
pub fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(printed).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let mut pairs: Vec<String> =
                fields.iter().map(|(key, value)| format!("{key}:{}", printed(value))).collect();
            pairs.sort();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected texts are what Go's encoding/json says.
    #[test]
    fn syntax_errors_are_worded_as_go_words_them() {
        let cases = [
            ("", "unexpected end of JSON input"),
            ("{", "unexpected end of JSON input"),
            ("{x", "invalid character 'x' looking for beginning of object key string"),
            ("hello", "invalid character 'h' looking for beginning of value"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 \"b\"}", "invalid character '\"' after object key:value pair"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("[1 2]", "invalid character '2' after array element"),
            ("{} x", "invalid character 'x' after top-level value"),
            ("{\"a\":tru}", "invalid character '}' in literal true (expecting 'e')"),
            ("{\"a\":1.}", "invalid character '}' after decimal point in numeric literal"),
            ("{\"a\":\"\\q\"}", "invalid character 'q' in string escape code"),
        ];
        for (text, expected) in cases {
            let error = serde_json::from_str::<Value>(text).expect_err("malformed");
            assert_eq!(syntax_error(text.as_bytes(), &error), expected, "{text}");
        }
    }

    #[test]
    fn yaml_errors_say_their_line_first() {
        let cases = [
            (
                "did not find expected ',' or '}' at line 2 column 1, while parsing a flow mapping",
                "yaml: line 1: did not find expected ',' or '}'",
            ),
            (
                "found character that cannot start any token at line 3 column 4, while scanning for the next token",
                "yaml: line 3: found character that cannot start any token",
            ),
            ("something", "yaml: something"),
        ];
        for (ours, theirs) in cases {
            assert_eq!(yaml_error(ours), theirs);
        }
    }

    #[test]
    fn bodies_are_shown_by_their_beginning() {
        assert_eq!(summary(b""), "<empty>");
        assert_eq!(summary(b"{\"kind\": 1}"), "{\"kind\": 1}");
        assert_eq!(summary(b"{\"kind\": \"0123456789012345678901234\"}"), "{\"kind\": \"01234567890123456789 ...");
        assert_eq!(summary(b"hi"), "6869");
    }
}
