//! What upstream checks of a pod's containers (`validateContainers` and what hangs below it).

use std::collections::BTreeSet;

use serde_json::Value;

use super::probes;
use crate::field::{FieldError, FieldErrors};
use crate::kinds::check::{invalid, one_of, one_of_if_set, port_number, quantity, required, required_name};
use crate::kinds::walk::{count, entries, flag, int, list, some, text};
use crate::names;

/// What a container's checks need to know of its pod.
pub struct Surroundings<'a> {
    /// Names of the pod's well-formed volumes.
    pub volumes: &'a BTreeSet<String>,
    pub grace_period: i64,
}

pub fn containers(errors: &mut FieldErrors, path: &str, containers: &[Value], pod: &Surroundings<'_>) {
    if containers.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let mut seen = BTreeSet::new();
    for (i, container) in containers.iter().enumerate() {
        let path = format!("{path}[{i}]");
        common(errors, &path, container, pod);
        unique_name(errors, &path, container, &mut seen);
        if let Some(lifecycle) = some(container, "/lifecycle") {
            probes::lifecycle(errors, &format!("{path}.lifecycle"), lifecycle, pod.grace_period);
        }
        probes::of_container(errors, &path, container, pod.grace_period);
    }
    host_port_conflicts(errors, path, containers);
}

pub fn init_containers(errors: &mut FieldErrors, path: &str, spec: &Value, pod: &Surroundings<'_>) {
    let mut seen: BTreeSet<&str> = list(spec, "/containers").iter().map(|container| text(container, "/name")).collect();
    let containers = list(spec, "/initContainers");
    for (i, container) in containers.iter().enumerate() {
        let path = format!("{path}[{i}]");
        common(errors, &path, container, pod);
        let restart = text(container, "/restartPolicy");
        one_of_if_set(errors, &format!("{path}.restartPolicy"), restart, &["Always"]);
        unique_name(errors, &path, container, &mut seen);
        host_port_conflicts(errors, &path, std::slice::from_ref(container));
        if restart == "Always" {
            if let Some(lifecycle) = some(container, "/lifecycle") {
                probes::lifecycle(errors, &format!("{path}.lifecycle"), lifecycle, pod.grace_period);
            }
            probes::of_container(errors, &path, container, pod.grace_period);
            continue;
        }
        for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if some(container, &format!("/{key}")).is_some() {
                errors.push(FieldError::forbidden(
                    format!("{path}.{key}"),
                    "may not be set for init containers without restartPolicy=Always",
                ));
            }
        }
    }
}

pub fn unique_name<'a>(errors: &mut FieldErrors, path: &str, container: &'a Value, seen: &mut BTreeSet<&'a str>) {
    let name = text(container, "/name");
    if !name.is_empty() && !seen.insert(name) {
        errors.push(FieldError::duplicate(format!("{path}.name"), &name.into()));
    }
}

/// `validateContainerCommon`: what holds for containers of every sort.
pub fn common(errors: &mut FieldErrors, path: &str, container: &Value, pod: &Surroundings<'_>) {
    required_name(errors, &format!("{path}.name"), text(container, "/name"), names::dns1123_label);
    let image = text(container, "/image");
    required(errors, &format!("{path}.image"), image);
    if image.trim() != image {
        invalid(errors, &format!("{path}.image"), image, vec!["must not have leading or trailing whitespace".into()]);
    }
    one_of(
        errors,
        &format!("{path}.terminationMessagePolicy"),
        text(container, "/terminationMessagePolicy"),
        &["File", "FallbackToLogsOnError"],
    );
    ports(errors, &format!("{path}.ports"), list(container, "/ports"));
    environment(errors, &format!("{path}.env"), list(container, "/env"));
    environment_sources(errors, &format!("{path}.envFrom"), list(container, "/envFrom"));
    mounts(errors, &format!("{path}.volumeMounts"), container, pod);
    one_of(
        errors,
        &format!("{path}.imagePullPolicy"),
        text(container, "/imagePullPolicy"),
        &["Always", "IfNotPresent", "Never"],
    );
    if let Some(wanted) = some(container, "/resources") {
        resources(errors, &format!("{path}.resources"), wanted);
    }
    if let Some(context) = some(container, "/securityContext") {
        security_context(errors, &format!("{path}.securityContext"), context);
    }
}

fn ports(errors: &mut FieldErrors, path: &str, ports: &[Value]) {
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let name = text(port, "/name");
        if !name.is_empty() {
            let wrong = names::port_name(name);
            if !wrong.is_empty() {
                invalid(errors, &format!("{path}.name"), name, wrong);
            } else if !seen.insert(name) {
                errors.push(FieldError::duplicate(format!("{path}.name"), &name.into()));
            }
        }
        match count(port, "/containerPort") {
            0 => errors.push(FieldError::required(format!("{path}.containerPort"), "")),
            number => port_number(errors, &format!("{path}.containerPort"), number),
        }
        let host = count(port, "/hostPort");
        if host != 0 {
            port_number(errors, &format!("{path}.hostPort"), host);
        }
        one_of(errors, &format!("{path}.protocol"), text(port, "/protocol"), &["SCTP", "TCP", "UDP"]);
    }
}

fn host_port_conflicts(errors: &mut FieldErrors, path: &str, containers: &[Value]) {
    let mut taken = BTreeSet::new();
    for (i, container) in containers.iter().enumerate() {
        for (n, port) in list(container, "/ports").iter().enumerate() {
            let number = count(port, "/hostPort");
            if number == 0 {
                continue;
            }
            let what = format!("{}/{}/{number}", text(port, "/protocol"), text(port, "/hostIP"));
            if !taken.insert(what.clone()) {
                errors.push(FieldError::duplicate(format!("{path}[{i}].ports[{n}].hostPort"), &what.into()));
            }
        }
    }
}

fn environment(errors: &mut FieldErrors, path: &str, variables: &[Value]) {
    for (i, variable) in variables.iter().enumerate() {
        let path = format!("{path}[{i}]");
        required_name(errors, &format!("{path}.name"), text(variable, "/name"), names::env_var_name);
        if let Some(from) = some(variable, "/valueFrom") {
            let valued = !text(variable, "/value").is_empty();
            value_from(errors, &format!("{path}.valueFrom"), from, valued);
        }
    }
}

fn value_from(errors: &mut FieldErrors, path: &str, from: &Value, valued: bool) {
    let mut sources = 0;
    if let Some(field) = some(from, "/fieldRef") {
        sources += 1;
        field_ref(errors, &format!("{path}.fieldRef"), field, ENV_FIELDS);
    }
    if let Some(resource) = some(from, "/resourceFieldRef") {
        sources += 1;
        let name = text(resource, "/resource");
        required(errors, &format!("{path}.resourceFieldRef.resource"), name);
        if !name.is_empty() && !RESOURCE_FIELDS.contains(&name) && !name.contains(".hugepages-") {
            errors.push(FieldError::not_supported(
                format!("{path}.resourceFieldRef.resource"),
                &name.into(),
                RESOURCE_FIELDS,
            ));
        }
    }
    for key in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(reference) = some(from, &format!("/{key}")) {
            sources += 1;
            let path = format!("{path}.{key}");
            invalid(
                errors,
                &format!("{path}.name"),
                text(reference, "/name"),
                names::dns1123_subdomain(text(reference, "/name")),
            );
            required_name(errors, &format!("{path}.key"), text(reference, "/key"), names::config_map_key);
        }
    }
    if some(from, "/fileKeyRef").is_some() {
        sources += 1;
    }
    let wrong = match sources {
        0 => "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        _ if valued => "may not be specified when `value` is not empty",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    errors.push(FieldError::invalid(path, &"".into(), wrong));
}

const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// What upstream knows of at all, whether or not it's for variables and files.
const POD_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.host",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.phase",
    "status.podIP",
    "status.podIPs",
];

const RESOURCE_FIELDS: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// A field that the downward API may show, also `metadata.labels['key']`.
pub fn field_ref(errors: &mut FieldErrors, path: &str, field: &Value, allowed: &[&str]) {
    required(errors, &format!("{path}.apiVersion"), text(field, "/apiVersion"));
    let path = format!("{path}.fieldPath");
    let name = text(field, "/fieldPath");
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let subscript = ["metadata.labels['", "metadata.annotations['"]
        .iter()
        .find_map(|head| name.strip_prefix(head).and_then(|rest| rest.strip_suffix("']")));
    match subscript {
        Some(key) => invalid(errors, &path, key, names::qualified_name(key)),
        None if !POD_FIELDS.contains(&name) => {
            let detail = format!("error converting fieldPath: field label not supported: {name}");
            errors.push(FieldError::invalid(path, &name.into(), &detail));
        }
        None if !allowed.contains(&name) => errors.push(FieldError::not_supported(path, &name.into(), allowed)),
        None => {}
    }
}

fn environment_sources(errors: &mut FieldErrors, all: &str, sources: &[Value]) {
    for (i, source) in sources.iter().enumerate() {
        let path = format!("{all}[{i}]");
        let prefix = text(source, "/prefix");
        if !prefix.is_empty() {
            invalid(errors, &format!("{path}.prefix"), prefix, names::env_var_name(prefix));
        }
        let mut count = 0;
        for key in ["configMapRef", "secretRef"] {
            if let Some(reference) = some(source, &format!("/{key}")) {
                count += 1;
                required(errors, &format!("{path}.{key}.name"), text(reference, "/name"));
            }
        }
        let wrong = match count {
            0 => "must specify one of: `configMapRef` or `secretRef`",
            1 => continue,
            _ => "may not have more than one field specified at a time",
        };
        // Upstream doesn't say which.
        errors.push(FieldError::invalid(all, &"".into(), wrong));
    }
}

fn mounts(errors: &mut FieldErrors, path: &str, container: &Value, pod: &Surroundings<'_>) {
    let mut places = BTreeSet::new();
    for (i, mount) in list(container, "/volumeMounts").iter().enumerate() {
        let at = format!("{path}[{i}]");
        let name = text(mount, "/name");
        required(errors, &format!("{at}.name"), name);
        if !pod.volumes.contains(name) {
            errors.push(FieldError::not_found(format!("{at}.name"), &name.into()));
        }
        let place = text(mount, "/mountPath");
        required(errors, &format!("{at}.mountPath"), place);
        if !places.insert(place) {
            errors.push(FieldError::invalid(format!("{at}.mountPath"), &place.into(), "must be unique"));
        }
        // Upstream puts these three below the list, not below its member.
        let sub_path = text(mount, "/subPath");
        descending(errors, &format!("{path}.subPath"), sub_path);
        let expression = text(mount, "/subPathExpr");
        if !expression.is_empty() && !sub_path.is_empty() {
            errors.push(FieldError::invalid(
                format!("{at}.subPathExpr"),
                &expression.into(),
                "subPathExpr and subPath are mutually exclusive",
            ));
        }
        descending(errors, &format!("{path}.subPathExpr"), expression);
        let propagation = text(mount, "/mountPropagation");
        let at = format!("{path}.mountPropagation");
        one_of_if_set(errors, &at, propagation, &["Bidirectional", "HostToContainer", "None"]);
        if propagation == "Bidirectional" && !flag(container, "/securityContext/privileged") {
            errors.push(FieldError::forbidden(
                at,
                "Bidirectional mount propagation is available only to privileged containers",
            ));
        }
    }
}

/// `validateLocalDescendingPath`.
pub fn descending(errors: &mut FieldErrors, path: &str, given: &str) {
    if given.starts_with('/') {
        errors.push(FieldError::invalid(path, &given.into(), "must be a relative path"));
    }
    no_backsteps(errors, path, given);
}

pub fn no_backsteps(errors: &mut FieldErrors, path: &str, given: &str) {
    if given.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path, &given.into(), "must not contain '..'"));
    }
}

/// `ValidateContainerResourceRequirements`, for pods' own resources too.
pub fn resources(errors: &mut FieldErrors, path: &str, resources: &Value) {
    for (name, value) in entries(resources, "/limits") {
        resource(errors, &format!("{path}.limits[{name}]"), name, value);
    }
    for (name, value) in entries(resources, "/requests") {
        resource(errors, &format!("{path}.requests[{name}]"), name, value);
        let overcommit = matches!(name, "cpu" | "memory" | "ephemeral-storage");
        let limit = resources.get("limits").and_then(|limits| limits.get(name));
        let (Some(request), Some(limit)) = (quantity(value), limit.and_then(quantity)) else {
            if !overcommit && limit.is_none() {
                errors.push(FieldError::required(
                    format!("{path}.limits"),
                    "Limit must be set for non overcommitable resources",
                ));
            }
            continue;
        };
        let relation = if !overcommit && request != limit {
            "must be equal to"
        } else if request > limit {
            "must be less than or equal to"
        } else {
            continue;
        };
        let message = format!("{relation} {name} limit of {limit}");
        errors.push(FieldError::invalid(format!("{path}.requests"), &request.to_string().into(), &message));
    }
}

fn resource(errors: &mut FieldErrors, path: &str, name: &str, value: &Value) {
    let known = matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    invalid(errors, path, name, names::qualified_name(name));
    if !name.contains('/') && !known {
        for message in
            ["must be a standard resource type or fully qualified", "must be a standard resource for containers"]
        {
            errors.push(FieldError::invalid(path, &name.into(), message));
        }
    }
    if let Some(amount) = quantity(value)
        && amount.sign() < 0
    {
        errors.push(FieldError::invalid(path, &amount.to_string().into(), crate::kinds::check::NOT_NEGATIVE));
    }
    // Devices and the like come whole.
    let extended = name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.");
    if let Some(amount) = quantity(value)
        && extended
        && !amount.is_whole()
    {
        errors.push(FieldError::invalid(path, &amount.to_string().into(), "must be an integer"));
    }
}

fn security_context(errors: &mut FieldErrors, path: &str, context: &Value) {
    user_ids(errors, path, context, &["runAsUser", "runAsGroup"]);
    if let Some(profile) = some(context, "/seccompProfile") {
        profile_of(errors, &format!("{path}.seccompProfile"), profile, "seccomp", "seccompProfile");
    }
    if let Some(profile) = some(context, "/appArmorProfile") {
        profile_of(errors, &format!("{path}.appArmorProfile"), profile, "AppArmor", "appArmorProfile");
    }
    if some(context, "/allowPrivilegeEscalation").is_some_and(|allowed| *allowed == Value::Bool(false)) {
        if flag(context, "/privileged") {
            errors.push(FieldError::invalid(
                path,
                context,
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            ));
        }
        if list(context, "/capabilities/add").iter().any(|capability| capability == "CAP_SYS_ADMIN") {
            errors.push(FieldError::invalid(
                path,
                context,
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            ));
        }
    }
}

/// Users and groups have to fit a signed 32-bit number.
pub fn user_ids(errors: &mut FieldErrors, path: &str, context: &Value, keys: &[&str]) {
    for key in keys {
        if let Some(id) = int(context, &format!("/{key}"))
            && !(0..=i64::from(i32::MAX)).contains(&id)
        {
            errors.push(FieldError::invalid(
                format!("{path}.{key}"),
                &id.into(),
                "must be between 0 and 2147483647, inclusive",
            ));
        }
    }
}

/// A seccomp or AppArmor profile.
pub fn profile_of(errors: &mut FieldErrors, path: &str, profile: &Value, what: &str, field: &str) {
    let r#type = text(profile, "/type");
    match r#type {
        "" => {
            errors.push(FieldError::required(format!("{path}.type"), &format!("type is required when {field} is set")))
        }
        _ => one_of(errors, &format!("{path}.type"), r#type, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
    let file = format!("{path}.localhostProfile");
    let local = text(profile, "/localhostProfile");
    match r#type {
        "Localhost" if local.is_empty() => {
            errors.push(FieldError::required(file, &format!("must be set when {what} type is Localhost")))
        }
        "Localhost" => descending(errors, &file, local),
        _ if !local.is_empty() => errors.push(FieldError::invalid(
            file,
            &local.into(),
            &format!("can only be set when {what} type is Localhost"),
        )),
        _ => {}
    }
}
