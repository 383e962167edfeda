//! Changes to an image's configuration as `docker commit --change` and `docker import --change` give them: the
//! instructions of a Dockerfile that need no build.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::words::{split, with_variables};

/// Applies instructions to a configuration with the fields of Docker's `Config`.
///
/// # Errors
/// In Docker's words when one of them can't be a change, or can't be read.
pub fn apply(config: &mut Value, changes: &[String]) -> Result<(), String> {
    if config.is_null() {
        *config = json!({});
    }
    let fields = config.as_object_mut().ok_or("the configuration isn't one")?;
    let joined = changes.join("\n").replace("\\\n", "");
    let lines = joined.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut cmd_set = false;
    for line in lines {
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        change(fields, name, rest.trim(), &mut cmd_set)?;
    }
    Ok(())
}

fn change(fields: &mut Map<String, Value>, name: &str, rest: &str, cmd_set: &mut bool) -> Result<(), String> {
    let upper = name.to_ascii_uppercase();
    let known = [
        "CMD",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "HEALTHCHECK",
        "LABEL",
        "ONBUILD",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    ];
    if !known.contains(&upper.as_str()) {
        return Err(format!("{name} is not a valid change command"));
    }
    if rest.is_empty() && upper != "CMD" && upper != "ENTRYPOINT" {
        let number = if ["ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "VOLUME"].contains(&upper.as_str()) {
            "at least one argument"
        } else {
            "exactly one argument"
        };
        return Err(format!("{upper} requires {number}"));
    }
    let environment = variables(fields);
    let expanded = |text: &str| with_variables(text, &environment);
    match upper.as_str() {
        "CMD" => {
            *cmd_set = !rest.is_empty();
            fields.insert("Cmd".into(), command(fields, rest));
        }
        "ENTRYPOINT" => {
            fields.insert("Entrypoint".into(), command(fields, rest));
            if !*cmd_set {
                fields.insert("Cmd".into(), Value::Null);
            }
        }
        "ENV" => set_env(fields, &pairs("ENV", rest, &environment)?),
        "LABEL" => object(fields, "Labels")
            .extend(pairs("LABEL", rest, &environment)?.into_iter().map(|(name, value)| (name, value.into()))),
        "EXPOSE" => {
            for port in split(&expanded(rest))? {
                for port in ports(&port)? {
                    object(fields, "ExposedPorts").insert(port, json!({}));
                }
            }
        }
        "VOLUME" => {
            let volumes = match strings(rest) {
                Some(volumes) => volumes,
                None => split(rest)?,
            };
            for volume in volumes.iter().map(|volume| expanded(volume)) {
                if volume.is_empty() {
                    return Err("VOLUME specified can not be an empty string".into());
                }
                object(fields, "Volumes").insert(volume, json!({}));
            }
        }
        "USER" => _ = fields.insert("User".into(), one("USER", &expanded(rest))?.into()),
        "STOPSIGNAL" => _ = fields.insert("StopSignal".into(), one("STOPSIGNAL", &expanded(rest))?.into()),
        "WORKDIR" => {
            let below = fields.get("WorkingDir").and_then(Value::as_str).unwrap_or("/").to_owned();
            fields.insert("WorkingDir".into(), joined(&below, &one("WORKDIR", &expanded(rest))?).into());
        }
        "ONBUILD" => {
            let list = fields.entry("OnBuild").or_insert(Value::Null);
            let mut all = list.as_array().cloned().unwrap_or_default();
            all.push(rest.into());
            *list = all.into();
        }
        _ => _ = fields.insert("Healthcheck".into(), health_check(rest)?),
    }
    Ok(())
}

fn one(name: &str, rest: &str) -> Result<String, String> {
    match split(rest)?.as_slice() {
        [one] => Ok(one.clone()),
        _ => Err(format!("{name} requires exactly one argument")),
    }
}

fn object<'a>(fields: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let value = fields.entry(name).or_insert(Value::Null);
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("it was just made one")
}

/// A JSON list of strings, or a line for the shell.
fn command(fields: &Map<String, Value>, rest: &str) -> Value {
    if let Some(words) = strings(rest) {
        return words.into();
    }
    let shell = fields.get("Shell").and_then(Value::as_array).filter(|shell| !shell.is_empty()).cloned();
    let mut words = shell.unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
    words.push(rest.into());
    words.into()
}

fn strings(rest: &str) -> Option<Vec<String>> {
    serde_json::from_str(rest).ok()
}

fn variables(fields: &Map<String, Value>) -> BTreeMap<String, String> {
    let set = fields.get("Env").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    set.filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn set_env(fields: &mut Map<String, Value>, pairs: &[(String, String)]) {
    let list = fields.entry("Env").or_insert(Value::Null);
    let mut all = list.as_array().cloned().unwrap_or_default();
    for (name, value) in pairs {
        let pair = Value::from(format!("{name}={value}"));
        let of_it = |set: &&mut Value| set.as_str().is_some_and(|set| set.split('=').next() == Some(name));
        match all.iter_mut().find(of_it) {
            Some(set) => *set = pair,
            None => all.push(pair),
        }
    }
    *list = all.into();
}

/// `a=1 b="2 3"`, or in the old form `a 1 and the rest`.
fn pairs(name: &str, rest: &str, environment: &BTreeMap<String, String>) -> Result<Vec<(String, String)>, String> {
    let first = rest.split(char::is_whitespace).next().unwrap_or_default();
    if !first.contains('=') {
        let (key, value) = rest.split_once(char::is_whitespace).ok_or(format!("{name} must have two arguments"))?;
        return Ok(vec![(key.to_owned(), with_variables(value.trim(), environment))]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some(("", _)) => Err(format!("{name} names can not be blank")),
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(format!("Syntax error - can't find = in {word:?}. Must be of the form: name=value")),
    };
    split(&with_variables(rest, environment))?.into_iter().map(pair).collect()
}

/// `80`, `80/udp`, `8000-8010/tcp`, with whatever is before the last colon left out.
fn ports(text: &str) -> Result<Vec<String>, String> {
    let inside = text.rsplit(':').next().unwrap_or(text);
    let (range, protocol) = inside.split_once('/').unwrap_or((inside, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(format!("invalid proto: {protocol}"));
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) if first <= last => Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect()),
        _ => Err(format!("invalid containerPort: {range}")),
    }
}

fn joined(below: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{below}/{path}") };
    let mut parts = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            other => parts.push(other),
        }
    }
    format!("/{}", parts.join("/"))
}

fn health_check(rest: &str) -> Result<Value, String> {
    let mut health = Map::new();
    let mut rest = rest;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, behind) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        let (name, value) = flag.split_once('=').ok_or(format!("Missing a value on flag: {flag}"))?;
        rest = behind.trim_start();
        if name == "retries" {
            let retries = value.parse::<u32>().map_err(|error| format!("--retries: {error}"))?;
            health.insert("Retries".into(), retries.into());
            continue;
        }
        let field = match name {
            "interval" => "Interval",
            "timeout" => "Timeout",
            "start-period" => "StartPeriod",
            "start-interval" => "StartInterval",
            _ => return Err(format!("unknown flag: {name}")),
        };
        let duration = crate::timestamp::duration(value).ok_or(format!("time: invalid duration {value:?}"))?;
        health.insert(field.into(), duration.as_nanos().min(i64::MAX as u128).try_into().unwrap_or(i64::MAX).into());
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let command = command.trim();
    let test = match (kind.to_ascii_uppercase().as_str(), strings(command)) {
        ("NONE", _) if command.is_empty() => json!(["NONE"]),
        ("NONE", _) => return Err("HEALTHCHECK NONE takes no arguments".into()),
        ("CMD", Some(words)) if !words.is_empty() => {
            json!(["CMD"].into_iter().map(str::to_owned).chain(words).collect::<Vec<_>>())
        }
        ("CMD", None) if !command.is_empty() => json!(["CMD-SHELL", command]),
        ("CMD", _) => return Err("Missing command after HEALTHCHECK CMD".into()),
        (other, _) => return Err(format!("Unknown type {other:?} in HEALTHCHECK (try CMD)")),
    };
    health.insert("Test".into(), test);
    Ok(health.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_change_the_configuration() {
        // docs.docker.com, Dockerfile reference.
        let cases: [(&[&str], Value); 17] = [
            (&["CMD [\"bash\"]"], json!({ "Cmd": ["bash"] })),
            (&["cmd echo hi"], json!({ "Cmd": ["/bin/sh", "-c", "echo hi"] })),
            (&["ENTRYPOINT [\"a\", \"b\"]"], json!({ "Entrypoint": ["a", "b"], "Cmd": null })),
            (&["CMD a", "ENTRYPOINT [\"b\"]"], json!({ "Entrypoint": ["b"], "Cmd": ["/bin/sh", "-c", "a"] })),
            (&["EXPOSE 8000"], json!({ "ExposedPorts": { "8000/tcp": {} } })),
            (&["EXPOSE 53/UDP 1-2"], json!({ "ExposedPorts": { "53/udp": {}, "1/tcp": {}, "2/tcp": {} } })),
            (&["ENV A=1 B=\"2 3\" C=4\\ 5"], json!({ "Env": ["A=1", "B=2 3", "C=4 5"] })),
            (&["ENV A one and two"], json!({ "Env": ["A=one and two"] })),
            (&["ENV A=1", "ENV A=2 B=$A", "ENV C=${D:-x}"], json!({ "Env": ["A=2", "B=1", "C=x"] })),
            (&["LABEL a=b 'c d'=\"e\""], json!({ "Labels": { "a": "b", "c d": "e" } })),
            (&["USER foobar"], json!({ "User": "foobar" })),
            (&["WORKDIR /a", "WORKDIR b/../c"], json!({ "WorkingDir": "/a/c" })),
            (&["VOLUME [\"/a\", \"/b\"]", "VOLUME /c"], json!({ "Volumes": { "/a": {}, "/b": {}, "/c": {} } })),
            (&["STOPSIGNAL SIGINT"], json!({ "StopSignal": "SIGINT" })),
            (&["ONBUILD RUN x", "# a comment"], json!({ "OnBuild": ["RUN x"] })),
            (&["HEALTHCHECK NONE"], json!({ "Healthcheck": { "Test": ["NONE"] } })),
            (
                &["HEALTHCHECK --interval=1m30s --retries=3 \\", "CMD curl -f localhost"],
                json!({ "Healthcheck": {
                    "Test": ["CMD-SHELL", "curl -f localhost"], "Interval": 90_000_000_000_i64, "Retries": 3,
                } }),
            ),
        ];
        for (changes, expected) in cases {
            let mut config = Value::Null;
            let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
            apply(&mut config, &changes).unwrap_or_else(|error| panic!("{changes:?}: {error}"));
            assert_eq!(config, expected, "{changes:?}");
        }
        let refused = [
            ("RUN x", "RUN is not a valid change command"),
            ("USER", "USER requires exactly one argument"),
            ("ENV A", "ENV must have two arguments"),
            ("EXPOSE x", "invalid containerPort: x"),
            ("EXPOSE 1/icmp", "invalid proto: icmp"),
            ("HEALTHCHECK ONCE x", "Unknown type \"ONCE\" in HEALTHCHECK (try CMD)"),
        ];
        for (change, words) in refused {
            assert_eq!(apply(&mut Value::Null, &[change.to_owned()]), Err(words.to_owned()), "{change}");
        }
    }
}
