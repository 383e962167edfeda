//! Image references as docker reads them (`github.com/distribution/reference`): `nginx` is
//! `docker.io/library/nginx:latest`.

use std::fmt;

use crate::engine::{Error, Result};

pub const DEFAULT_REGISTRY: &str = "docker.io";
const MOST_NAME_BYTES: usize = 255;

/// A normalized name with a tag, a digest, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// `docker.io`, `host:5000`.
    pub registry: String,
    /// `library/nginx`.
    pub repository: String,
    /// [`Reference::parse`] sets it to `latest` when neither a tag nor a digest is given.
    pub tag: Option<String>,
    /// `sha256:…`.
    pub digest: Option<String>,
}

impl Reference {
    /// # Errors
    /// In docker's words when the text isn't a reference.
    pub fn parse(text: &str) -> Result<Self> {
        let mut reference = Self::parse_as_written(text)?;
        if reference.digest.is_none() {
            reference.tag.get_or_insert_with(|| "latest".into());
        }
        Ok(reference)
    }

    /// As [`Reference::parse`], but without a tag where none is written: a whole repository.
    ///
    /// # Errors
    /// As [`Reference::parse`].
    pub fn parse_as_written(text: &str) -> Result<Self> {
        let invalid = || Error::Invalid("invalid reference format".into());
        if text.len() == 64 && is_hex(text) {
            let words = format!("invalid repository name ({text}), cannot specify 64-byte hexadecimal strings");
            return Err(Error::Invalid(words));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) if is_digest(digest) => (rest, Some(digest.to_owned())),
            Some(_) => return Err(invalid()),
            None => (text, None),
        };
        // A colon behind the last slash begins a tag; one before it belongs to a port.
        let name_start = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[name_start..].find(':') {
            Some(colon) => {
                let colon = name_start + colon;
                (&rest[..colon], Some(rest[colon + 1..].to_owned()))
            }
            None => (rest, None),
        };
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid());
        }
        let (registry, repository) = match name.split_once('/') {
            // A namespace has no capitals: with one it must be a host.
            Some((first, rest))
                if first.contains(['.', ':']) || first == "localhost" || first.contains(char::is_uppercase) =>
            {
                (first, rest.to_owned())
            }
            _ => (DEFAULT_REGISTRY, name.to_owned()),
        };
        let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
        let repository = if registry == DEFAULT_REGISTRY && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository
        };
        if repository.contains(char::is_uppercase) {
            let words = format!("invalid reference format: repository name ({repository}) must be lowercase");
            return Err(Error::Invalid(words));
        }
        if !is_host(registry) || !repository.split('/').all(is_component) {
            return Err(invalid());
        }
        if repository.len() > MOST_NAME_BYTES {
            let words = format!("repository name must not be more than {MOST_NAME_BYTES} characters");
            return Err(Error::Invalid(words));
        }
        Ok(Self { registry: registry.into(), repository, tag, digest })
    }

    /// The same name with this tag, and without a digest.
    ///
    /// # Errors
    /// When it can't be a tag.
    pub fn with_tag(self, tag: &str) -> Result<Self> {
        if !is_tag(tag) {
            return Err(Error::Invalid("invalid tag format".into()));
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self })
    }

    /// `docker.io/library/nginx`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// `docker.io/library/nginx:latest`; nothing when a digest says which of the tag's images it is.
    pub fn tagged(&self) -> Option<String> {
        self.tag.as_ref().filter(|_| self.digest.is_none()).map(|tag| format!("{}:{tag}", self.name()))
    }

    /// As docker shows it: without `docker.io/library/`.
    pub fn familiar_name(&self) -> String {
        match (self.registry.as_str(), self.repository.strip_prefix("library/")) {
            (DEFAULT_REGISTRY, Some(short)) => short.into(),
            (DEFAULT_REGISTRY, None) => self.repository.clone(),
            _ => self.name(),
        }
    }

    /// As docker shows it, with what follows the name.
    pub fn familiar(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
        self.familiar_name() + &tag + &digest
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// `sha256:` and 64 hex digits: the only algorithm that registries use.
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && is_hex(hex))
}

pub fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_tag(tag: &str) -> bool {
    let mut bytes = tag.bytes();
    tag.len() <= 128
        && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// A name of letters, digits and inner hyphens between dots, or an IPv6 address in brackets, and a port perhaps.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let label = |label: &str| {
        let ends = |end: Option<u8>| end.is_some_and(|b| b.is_ascii_alphanumeric());
        ends(label.bytes().next())
            && ends(label.bytes().next_back())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let named = match address {
        Some(address) => !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'),
        None => name.split('.').all(label),
    };
    named && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// Lower-case letters and digits, with single separators (`.`, `_`, `__`, any number of `-`) between them.
fn is_component(part: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = part.bytes().next().is_some_and(plain) && part.bytes().next_back().is_some_and(plain);
    ends && part.bytes().all(|b| plain(b) || matches!(b, b'.' | b'_' | b'-'))
        && part
            .split(|c: char| c.is_ascii_alphanumeric())
            .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_normalized_as_docker_does() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let cases = [
            ("nginx", "docker.io/library/nginx:latest".to_owned()),
            ("nginx:1.25-alpine", "docker.io/library/nginx:1.25-alpine".to_owned()),
            ("bitnami/redis", "docker.io/bitnami/redis:latest".to_owned()),
            ("index.docker.io/library/nginx", "docker.io/library/nginx:latest".to_owned()),
            ("localhost/a", "localhost/a:latest".to_owned()),
            ("host:5000/a/b:v1", "host:5000/a/b:v1".to_owned()),
            ("ghcr.io/a__b/c-d.e", "ghcr.io/a__b/c-d.e:latest".to_owned()),
            ("Foo/bar", "Foo/bar:latest".to_owned()),
            ("[2001:db8::1]:5000/a", "[2001:db8::1]:5000/a:latest".to_owned()),
            ("[::1]/a", "[::1]/a:latest".to_owned()),
            (&format!("nginx@{digest}"), format!("docker.io/library/nginx@{digest}")),
            (&format!("nginx:1@{digest}"), format!("docker.io/library/nginx:1@{digest}")),
        ];
        for (text, expected) in cases {
            assert_eq!(Reference::parse(text).expect(text).to_string(), expected);
        }
        let shown = [
            ("docker.io/library/a", "a:latest"),
            ("docker.io/a/b:1", "a/b:1"),
            ("h:5/library/a", "h:5/library/a:latest"),
        ];
        for (text, familiar) in shown {
            assert_eq!(Reference::parse(text).expect(text).familiar(), familiar);
        }
        assert_eq!(Reference::parse_as_written("a/b").expect("a repository").familiar(), "a/b");
    }

    #[test]
    fn what_docker_refuses_is_refused() {
        let refusal = |text: &str| Reference::parse(text).expect_err(text).to_string();
        for text in [
            "",
            ":tag",
            "a:",
            "a@sha256:abc",
            "-a",
            "a//b",
            "a b",
            "a:-x",
            "a_-b",
            "a___b",
            "ab/",
            "-h.x/a",
            "a..b/c",
            "h:x/a",
            "h:/a",
            "[::1/a",
        ] {
            assert_eq!(refusal(text), "invalid reference format", "{text:?}");
        }
        let capitals = [
            ("Uppercase:tag", "library/Uppercase"),
            ("Not An Image", "library/Not An Image"),
            ("foo/Bar", "foo/Bar"),
            ("Foo/Bar", "Bar"),
            ("test:5000/Uppercase/lowercase:tag", "Uppercase/lowercase"),
        ];
        for (text, named) in capitals {
            let expected = format!("invalid reference format: repository name ({named}) must be lowercase");
            assert_eq!(refusal(text), expected);
        }
        let hex = "0f".repeat(32);
        let words = format!("invalid repository name ({hex}), cannot specify 64-byte hexadecimal strings");
        assert_eq!(refusal(hex.as_str()), words);
        let long = "a".repeat(256);
        assert_eq!(refusal(format!("h.x/{long}").as_str()), "repository name must not be more than 255 characters");
    }
}
