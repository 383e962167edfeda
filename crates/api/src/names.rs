//! Names, labels and other short strings, checked as `k8s.io/apimachinery/pkg/util/validation` does and in its words.
//!
//! Each function gives the messages of what is wrong, none when all is well; the caller puts each behind a field's path.

const DNS1123_LABEL_FORMAT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS1123_LABEL_MESSAGE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
const DNS1123_SUBDOMAIN_FORMAT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const DNS1123_SUBDOMAIN_MESSAGE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
const QUALIFIED_NAME_FORMAT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const QUALIFIED_NAME_MESSAGE: &str =
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/// Longest label (RFC 1123 and label values).
pub const LABEL_MAX: usize = 63;
/// Longest subdomain.
pub const SUBDOMAIN_MAX: usize = 253;

/// `IsDNS1123Label`.
pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if value.len() > LABEL_MAX {
        wrong.push(max_length(LABEL_MAX));
    }
    if !is_dns1123_label(value) {
        if is_dns1123_subdomain(value) {
            // It was a valid subdomain and not a valid label: must be the dots.
            wrong.push("must not contain dots".into());
        } else {
            wrong.push(regex_error(DNS1123_LABEL_MESSAGE, DNS1123_LABEL_FORMAT, &["my-name", "123-abc"]));
        }
    }
    wrong
}

/// `IsDNS1123Subdomain`.
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        wrong.push(max_length(SUBDOMAIN_MAX));
    }
    if !is_dns1123_subdomain(value) {
        wrong.push(regex_error(DNS1123_SUBDOMAIN_MESSAGE, DNS1123_SUBDOMAIN_FORMAT, &["example.com"]));
    }
    wrong
}

/// `IsDNS1035Label`: names of Services before 1.34's relaxation.
pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if value.len() > LABEL_MAX {
        wrong.push(max_length(LABEL_MAX));
    }
    let shaped = value.starts_with(|c: char| c.is_ascii_lowercase()) && is_dns1123_label(value);
    if !shaped {
        wrong.push(regex_error(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    wrong
}

/// `IsWildcardDNS1123Subdomain`: hosts of an Ingress.
pub fn wildcard_dns1123_subdomain(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        wrong.push(max_length(SUBDOMAIN_MAX));
    }
    if !value.strip_prefix("*.").is_some_and(is_dns1123_subdomain) {
        let format = format!("\\*\\.{DNS1123_SUBDOMAIN_FORMAT}");
        wrong.push(regex_error(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            &format,
            &["*.example.com"],
        ));
    }
    wrong
}

/// `IsQualifiedName`: label and annotation keys, resource names.
pub fn qualified_name(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let parts: Vec<&str> = value.split('/').collect();
    let name = match parts[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                wrong.push("prefix part must be non-empty".into());
            } else {
                let messages = dns1123_subdomain(prefix).into_iter();
                let in_bytes =
                    messages.map(|m| if m == max_length(SUBDOMAIN_MAX) { max_bytes(SUBDOMAIN_MAX) } else { m });
                wrong.extend(in_bytes.map(|message| format!("prefix part {message}")));
            }
            name
        }
        _ => {
            let shape = regex_error(QUALIFIED_NAME_MESSAGE, QUALIFIED_NAME_FORMAT, &["MyName", "my.name", "123-abc"]);
            wrong.push(format!(
                "a valid label key {shape} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
            return wrong;
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".into());
    } else if name.len() > LABEL_MAX {
        wrong.push(format!("name part {}", max_bytes(LABEL_MAX)));
    }
    if !is_qualified_part(name) {
        let shape = regex_error(QUALIFIED_NAME_MESSAGE, QUALIFIED_NAME_FORMAT, &["MyName", "my.name", "123-abc"]);
        wrong.push(format!("name part {shape}"));
    }
    wrong
}

/// `IsValidLabelValue`.
pub fn label_value(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if value.len() > LABEL_MAX {
        wrong.push(max_bytes(LABEL_MAX));
    }
    if !value.is_empty() && !is_qualified_part(value) {
        wrong.push(regex_error(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    wrong
}

/// `IsEnvVarName`, relaxed as 1.34 made it: any printable ASCII but `=`.
pub fn env_var_name(value: &str) -> Vec<String> {
    if value.is_empty() {
        return vec!["environment variable name must be non-empty".into()];
    }
    if value.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        return Vec::new();
    }
    vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".into()]
}

/// `IsConfigMapKey`: keys of ConfigMaps and Secrets.
pub fn config_map_key(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        wrong.push(max_length(SUBDOMAIN_MAX));
    }
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        wrong.push(regex_error(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    if value == "." {
        wrong.push("must not be '.'".into());
    } else if value == ".." {
        wrong.push("must not be '..'".into());
    } else if value.starts_with("..") {
        wrong.push("must not start with '..'".into());
    }
    wrong
}

/// `IsValidPortNum`.
pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) { Vec::new() } else { vec!["must be between 1 and 65535, inclusive".into()] }
}

/// `IsValidPortName`: names of container ports, and what a `targetPort` may say.
pub fn port_name(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if value.len() > 15 {
        wrong.push(max_length(15));
    }
    if !value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        wrong.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !value.bytes().any(|b| b.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".into());
    }
    if value.contains("--") {
        wrong.push("must not contain consecutive hyphens".into());
    }
    if value.starts_with('-') || value.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".into());
    }
    wrong
}

/// `IsValidPathSegmentName`: names of RBAC objects.
pub fn path_segment(value: &str) -> Vec<String> {
    if value == "." || value == ".." {
        return vec![format!("may not be '{value}'")];
    }
    ["/", "%"].iter().filter(|c| value.contains(**c)).map(|c| format!("may not contain '{c}'")).collect()
}

/// `IsHTTPHeaderName`.
pub fn http_header_name(value: &str) -> Vec<String> {
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Vec::new();
    }
    vec![regex_error(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )]
}

/// `IsValidIP`.
pub fn ip(value: &str) -> Vec<String> {
    if value.parse::<std::net::IpAddr>().is_ok() {
        return Vec::new();
    }
    vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into()]
}

/// `MaxLenError`, which calls them characters though it counts bytes.
pub fn max_length(bytes: usize) -> String {
    format!("must be no more than {bytes} characters")
}

/// The same of label keys and values, whose newer checks say what they count.
fn max_bytes(bytes: usize) -> String {
    format!("must be no more than {bytes} bytes")
}

/// `RegexError`.
pub fn regex_error(message: &str, format: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{format}')");
    }
    let listed: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!("{message} (e.g. {}regex used for validation is '{format}')", listed.join(" or "))
}

fn is_dns1123_label(value: &str) -> bool {
    let bytes = value.as_bytes();
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|b| alphanumeric(b) || *b == b'-')
}

fn is_dns1123_subdomain(value: &str) -> bool {
    value.split('.').all(is_dns1123_label)
}

fn is_qualified_part(value: &str) -> bool {
    let bytes = value.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Check = fn(&str) -> Vec<String>;

    /// Cases of k8s.io/apimachinery/pkg/util/validation/validation_test.go; `N*x` stands for x N times.
    const GOOD: &[(Check, &str)] = &[
        (dns1123_label, "a ab a1 a-1 a--1--2--b 0 01 1a 1-a 63*a"),
        (dns1035_label, "a ab abc a1 a-1 a--1--2--b 63*a"),
        (dns1123_subdomain, "a a-1 a.a a--1--2--b.a 0.1 a.b.c.d.e 11.22.33.44.55 253*a"),
        (wildcard_dns1123_subdomain, "*.example.com *.bar.com *.foo.bar.com"),
        (qualified_name, "simple now-with-dashes 1234 simple/simple 1.2.3.4/5678 example.com/Uppercase_Is_OK_123 63*a"),
        (label_value, "simple end-with-num-1 1234 63*a"),
        (config_map_key, "a good-good still.good .so.is.this THIS_IS_GOOD so_is_this_17"),
        (port_name, "telnet re-mail-ck pop3 a a-1 1-a a-1-b-2-c 1-a-2-b-3"),
        (env_var_name, "this_is_fine MY.NAME 1BAD -x a:b"),
        (http_header_name, "Accept-Encoding Host If-Match X-1"),
        (path_segment, "a system:node A.b"),
        (ip, "::1 10.9.8.7 2001:db8::ffff"),
    ];

    const BAD: &[(Check, &str)] = &[
        (dns1123_label, " A aBc - a- -a _ a_b . a. .a a.b 1.2 64*a"),
        (dns1035_label, " 0 01 1a A - a- -a _ a_b . a.b 64*a"),
        (dns1123_subdomain, " A - a- -a a_b . a. .a a..b A.a a@b a,b a:b 254*a"),
        (wildcard_dns1123_subdomain, " *.*.bar.com *.foo.*.com *bar.com f*.bar.com *"),
        (
            qualified_name,
            "nospecialchars%^=@ cantendwithadash- -x only/one/slash Example.com/abc example.com/ /simple 64*a",
        ),
        (label_value, "nospecialchars%^=@ Māori -x x- .x x. 64*a"),
        (config_map_key, " . .. ..bad b*d bad!&bad"),
        (port_name, " longerthan15characters 12345 1-2-3-4 -begin end- two--hyphens whois++"),
        (env_var_name, " a=b ä"),
        (http_header_name, " Host: a_b"),
        (path_segment, ". .. a/b a%b"),
        (ip, " 1.2.3 10.0.0.256 a"),
    ];

    fn spelled(word: &str) -> String {
        match word.split_once('*').and_then(|(count, text)| Some((count.parse().ok()?, text))) {
            Some((count, text)) => text.repeat(count),
            None => word.to_owned(),
        }
    }

    #[test]
    fn accepts_and_refuses_what_upstream_does() {
        for (check, words) in GOOD {
            for word in words.split(' ').map(spelled) {
                assert_eq!(check(&word), Vec::<String>::new(), "{word:?}");
            }
        }
        for (check, words) in BAD {
            for word in words.split(' ').map(spelled) {
                assert!(!check(&word).is_empty(), "{word:?}");
            }
        }
    }

    #[test]
    fn says_it_in_upstreams_words() {
        let label = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
                     and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation \
                     is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
        let key = "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
                   with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
                   validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and \
                   '/' (e.g. 'example.com/MyName')";
        let cases: [(Check, String, &[&str]); 7] = [
            (dns1123_label, "A".into(), &[label]),
            (dns1123_label, "a.b".into(), &["must not contain dots"]),
            (dns1123_label, "a".repeat(64), &["must be no more than 63 characters"]),
            (label_value, "a".repeat(64), &["must be no more than 63 bytes"]),
            (qualified_name, "a/b/c".into(), &[key]),
            (port_name, "1-2".into(), &["must contain at least one letter (a-z)"]),
            (path_segment, "a/b%".into(), &["may not contain '/'", "may not contain '%'"]),
        ];
        for (check, text, expected) in cases {
            assert_eq!(check(&text), expected, "{text}");
        }
    }
}
