//! Platforms, as `linux/arm64/v8` (github.com/containerd/platforms).

use std::fmt;

use oci_spec::image::{ImageConfiguration, ImageIndex};

use crate::engine::{Error, Result};

/// What an image is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    pub variant: Option<String>,
}

const SYSTEMS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];
const ARCHITECTURES: &[&str] = &[
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "loong64",
    "mips",
    "mipsle",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

impl Platform {
    /// This host's.
    pub fn host() -> Self {
        Self { os: "linux".into(), architecture: oci_spec::image::Arch::default().to_string(), variant: None }
    }

    /// As an image's configuration says.
    pub fn of_image(config: &ImageConfiguration) -> Self {
        let variant = config.variant().clone().unwrap_or_default();
        Self::of(&config.os().to_string(), &config.architecture().to_string(), &variant)
    }

    /// One part is a system or an architecture, the host's being the other; a third is a variant.
    ///
    /// # Errors
    /// In containerd's words.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = |what: &str| Error::Invalid(format!("{text:?}: {what}: invalid argument"));
        let parts: Vec<&str> = text.split('/').collect();
        let plain =
            |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if let Some(part) = parts.iter().find(|part| !plain(part)) {
            return Err(Error::Invalid(format!(
                "{part:?} is an invalid component of {text:?}: platform specifier component \
                 must match \"^[A-Za-z0-9_.-]+$\": invalid argument"
            )));
        }
        match parts.as_slice() {
            [one] => {
                let os = normal_os(one);
                if SYSTEMS.contains(&os.as_str()) {
                    return Ok(Self { os, ..Self::host() });
                }
                let (architecture, variant) = normal_architecture(one, "");
                if ARCHITECTURES.contains(&architecture.as_str()) {
                    return Ok(Self { architecture, variant, ..Self::host() });
                }
                Err(invalid("unknown operating system or architecture"))
            }
            [os, architecture] => Ok(Self::of(os, architecture, "")),
            [os, architecture, variant] => Ok(Self::of(os, architecture, variant)),
            _ => Err(invalid("cannot parse platform specifier")),
        }
    }

    fn of(os: &str, architecture: &str, variant: &str) -> Self {
        let (architecture, variant) = normal_architecture(architecture, variant);
        Self { os: normal_os(os), architecture, variant }
    }

    /// Whether an image for `other` runs on this.
    pub fn runs(&self, other: &Platform) -> bool {
        self.rank(other).is_some()
    }

    /// The lower the better: a processor also runs what is made for earlier ones of its kind.
    fn rank(&self, other: &Platform) -> Option<usize> {
        let fits = |(architecture, variant): &(&str, Option<String>)| {
            *architecture == other.architecture && *variant == other.variant
        };
        self.processors().iter().position(fits).filter(|_| self.os == other.os)
    }

    fn processors(&self) -> Vec<(&str, Option<String>)> {
        let number = self.variant.as_ref().and_then(|variant| variant.strip_prefix('v')?.parse::<u32>().ok());
        let down_to = |from: u32, to: u32| (to..=from).rev().map(|number| Some(format!("v{number}")));
        match (self.architecture.as_str(), number) {
            ("amd64", number) => {
                let variants = number.into_iter().flat_map(|number| down_to(number, 2)).chain([None]);
                variants.map(|variant| ("amd64", variant)).chain([("386", None)]).collect()
            }
            ("arm", Some(number)) => down_to(number, 5).map(|variant| ("arm", variant)).collect(),
            ("arm64", _) => {
                let own = [self.variant.clone(), None].map(|variant| ("arm64", variant));
                own.into_iter().chain(down_to(8, 5).map(|variant| ("arm", variant))).collect()
            }
            (other, _) => vec![(other, self.variant.clone())],
        }
    }

    /// The digest of the manifest that fits best.
    pub fn choose(&self, index: &ImageIndex) -> Option<String> {
        let rank = |entry: &&oci_spec::image::Descriptor| {
            let platform = entry.platform().as_ref()?;
            let variant = platform.variant().clone().unwrap_or_default();
            self.rank(&Self::of(&platform.os().to_string(), &platform.architecture().to_string(), &variant))
        };
        let fitting = index.manifests().iter().filter_map(|entry| Some((rank(&entry)?, entry)));
        fitting.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry.digest().to_string())
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

fn normal_os(os: &str) -> String {
    match os.to_ascii_lowercase().as_str() {
        "macos" => "darwin".into(),
        other => other.into(),
    }
}

fn normal_architecture(architecture: &str, variant: &str) -> (String, Option<String>) {
    let (architecture, variant) = (architecture.to_ascii_lowercase(), variant.to_ascii_lowercase());
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
        ("aarch64" | "arm64", variant) => ("arm64", variant),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        (architecture, variant) => (architecture, variant),
    };
    (architecture.to_owned(), Some(variant.to_owned()).filter(|variant| !variant.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_normalized_as_containerd_does() {
        let host = Platform::host().architecture;
        let cases = [
            ("linux/amd64", "linux/amd64"),
            ("Linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/arm64/v8", "linux/arm64"),
            ("arm64", "linux/arm64"),
            ("aarch64", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("armel", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
            ("macos/arm64", "darwin/arm64"),
            ("linux", &format!("linux/{host}")),
        ];
        for (text, expected) in cases {
            assert_eq!(Platform::parse(text).expect(text).to_string(), expected, "{text}");
        }
        let refused = [
            ("foobar", "unknown operating system or architecture"),
            ("a/b/c/d", "cannot parse platform specifier"),
            ("linux/", "invalid component"),
            ("", "invalid component"),
        ];
        for (text, words) in refused {
            let error = Platform::parse(text).expect_err(text).to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn the_nearest_variant_is_chosen() {
        let index = |platforms: &[&str]| -> ImageIndex {
            let manifests: Vec<_> = platforms
                .iter()
                .enumerate()
                .map(|(number, text)| {
                    let parts: Vec<&str> = text.split('/').collect();
                    serde_json::json!({
                        "mediaType": "application/vnd.oci.image.manifest.v1+json",
                        "digest": format!("sha256:{number:064}"),
                        "size": 1,
                        "platform": { "os": parts[0], "architecture": parts[1], "variant": parts.get(2) },
                    })
                })
                .collect();
            serde_json::from_value(serde_json::json!({ "schemaVersion": 2, "manifests": manifests })).expect("an index")
        };
        let cases: [(&str, &[&str], Option<usize>); 8] = [
            ("linux/amd64", &["linux/arm64", "linux/amd64"], Some(1)),
            ("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6", "linux/amd64"], Some(1)),
            ("linux/arm/v6", &["linux/arm/v7", "linux/arm/v6"], Some(1)),
            ("linux/arm/v6", &["linux/arm/v7"], None),
            ("linux/arm64", &["linux/amd64", "linux/arm64/v8"], Some(1)),
            ("linux/amd64", &["windows/amd64"], None),
            ("linux/s390x", &["linux/amd64"], None),
            ("linux/amd64", &["linux/386", "linux/amd64/v1"], Some(1)),
        ];
        for (wanted, offered, expected) in cases {
            let chosen = Platform::parse(wanted).expect(wanted).choose(&index(offered));
            assert_eq!(chosen, expected.map(|number| format!("sha256:{number:064}")), "{wanted} of {offered:?}");
        }
    }
}
