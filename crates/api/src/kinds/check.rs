//! Checks that many kinds' validation shares, in upstream's words
//! (`k8s.io/apimachinery/pkg/api/validation` and `pkg/apis/core/validation`).

use serde_json::Value;

use crate::field::{FieldError, FieldErrors};
use crate::kinds::walk::{entries, list, text};
use crate::{Quantity, names};

pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
pub const POSITIVE: &str = "must be greater than 0";
pub const IMMUTABLE: &str = "field is immutable";

/// One `Invalid` for each message about a text.
pub fn invalid(errors: &mut FieldErrors, path: &str, given: &str, messages: Vec<String>) {
    errors.extend(messages.iter().map(|message| FieldError::invalid(path, &given.into(), message)));
}

/// A text that has to be there and, when it is, has to pass `rule`.
pub fn required_name(errors: &mut FieldErrors, path: &str, given: &str, rule: fn(&str) -> Vec<String>) {
    if given.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else {
        invalid(errors, path, given, rule(given));
    }
}

/// A text that has to pass `rule` unless it's empty.
pub fn optional_name(errors: &mut FieldErrors, path: &str, given: &str, rule: fn(&str) -> Vec<String>) {
    if !given.is_empty() {
        invalid(errors, path, given, rule(given));
    }
}

pub fn required(errors: &mut FieldErrors, path: &str, given: &str) {
    if given.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
}

/// A text that has to be one of `supported`, which is in the order to print.
pub fn one_of(errors: &mut FieldErrors, path: &str, given: &str, supported: &[&str]) {
    if given.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else {
        one_of_if_set(errors, path, given, supported);
    }
}

pub fn one_of_if_set(errors: &mut FieldErrors, path: &str, given: &str, supported: &[&str]) {
    if !given.is_empty() && !supported.contains(&given) {
        errors.push(FieldError::not_supported(path, &given.into(), supported));
    }
}

/// The number at `pointer`, if any, has to be 0 or more; the error's path ends in the pointer's last field.
pub fn not_negative(errors: &mut FieldErrors, path: &str, object: &Value, key: &str) {
    at_least(errors, path, object, key, 0, NOT_NEGATIVE);
}

pub fn positive(errors: &mut FieldErrors, path: &str, object: &Value, key: &str) {
    at_least(errors, path, object, key, 1, POSITIVE);
}

fn at_least(errors: &mut FieldErrors, path: &str, object: &Value, key: &str, least: i64, message: &str) {
    if let Some(number) = object.get(key).and_then(Value::as_i64)
        && number < least
    {
        errors.push(FieldError::invalid(format!("{path}.{key}"), &number.into(), message));
    }
}

/// `IsInRange` for a number that may be absent.
pub fn in_range(errors: &mut FieldErrors, path: &str, object: &Value, key: &str, least: i64, most: i64) {
    if let Some(number) = object.get(key).and_then(Value::as_i64)
        && !(least..=most).contains(&number)
    {
        let message = format!("must be between {least} and {most}, inclusive");
        errors.push(FieldError::invalid(format!("{path}.{key}"), &number.into(), &message));
    }
}

/// A port by number or by name.
pub fn port(errors: &mut FieldErrors, path: &str, given: Option<&Value>) {
    match given {
        Some(Value::String(name)) => invalid(errors, path, name, names::port_name(name)),
        other => {
            let number = other.and_then(Value::as_i64).unwrap_or_default();
            port_number(errors, path, number);
        }
    }
}

pub fn port_number(errors: &mut FieldErrors, path: &str, number: i64) {
    for message in names::port_number(number) {
        errors.push(FieldError::invalid(path, &number.into(), &message));
    }
}

/// `ValidateLabels`.
pub fn labels(errors: &mut FieldErrors, path: &str, object: &Value, pointer: &str) {
    for (key, value) in entries(object, pointer) {
        invalid(errors, path, key, names::qualified_name(key));
        let value = value.as_str().unwrap_or_default();
        invalid(errors, path, value, names::label_value(value));
    }
}

/// `ValidateLabelSelector`.
pub fn label_selector(errors: &mut FieldErrors, path: &str, selector: &Value) {
    labels(errors, &format!("{path}.matchLabels"), selector, "/matchLabels");
    for (i, expression) in list(selector, "/matchExpressions").iter().enumerate() {
        let path = format!("{path}.matchExpressions[{i}]");
        let values = list(expression, "/values");
        let operator = text(expression, "/operator");
        match operator {
            "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                format!("{path}.values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
                format!("{path}.values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "Exists" | "DoesNotExist" => {}
            _ => errors.push(FieldError::invalid(
                format!("{path}.operator"),
                &operator.into(),
                "not a valid selector operator",
            )),
        }
        let key = text(expression, "/key");
        invalid(errors, &format!("{path}.key"), key, names::qualified_name(key));
        for (n, value) in values.iter().enumerate() {
            let value = value.as_str().unwrap_or_default();
            invalid(errors, &format!("{path}.values[{n}]"), value, names::label_value(value));
        }
    }
}

/// True of a selector that selects everything.
pub fn selects_all(selector: &Value) -> bool {
    entries(selector, "/matchLabels").next().is_none() && list(selector, "/matchExpressions").is_empty()
}

/// The field at `pointer` has to be as it was.
pub fn unchanged(errors: &mut FieldErrors, path: &str, object: &Value, old: &Value, pointer: &str) {
    let (now, was) = (object.pointer(pointer), old.pointer(pointer));
    if now.unwrap_or(&Value::Null) != was.unwrap_or(&Value::Null) {
        errors.push(FieldError::invalid(path, now.unwrap_or(&Value::Null), IMMUTABLE));
    }
}

/// A quantity as it's written, when it is one: the schema's check has refused what isn't.
pub fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        _ => None,
    }
}

/// A whole number or a percentage, as in `maxUnavailable`.
pub enum IntOrPercent {
    Int(i64),
    Percent(i64),
}

impl IntOrPercent {
    pub fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) => number.as_i64().map(Self::Int),
            Value::String(text) => text.strip_suffix('%')?.parse().ok().map(Self::Percent),
            _ => None,
        }
    }

    /// Zero of either sort.
    pub fn is_zero(&self) -> bool {
        matches!(self, Self::Int(0) | Self::Percent(0))
    }
}

/// `ValidatePositiveIntOrPercent`, then `IsNotMoreThan100Percent` if `capped`.
pub fn int_or_percent(errors: &mut FieldErrors, path: &str, value: &Value) {
    match (IntOrPercent::of(value), value) {
        (Some(IntOrPercent::Int(number)), _) if number < 0 => {
            errors.push(FieldError::invalid(path, value, NOT_NEGATIVE));
        }
        (Some(_), _) => {}
        (None, _) => errors.push(FieldError::invalid(
            path,
            value,
            "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
        )),
    }
}

/// `IsNotMoreThan100Percent`.
pub fn at_most_all(errors: &mut FieldErrors, path: &str, value: &Value) {
    if let Some(IntOrPercent::Percent(percent)) = IntOrPercent::of(value)
        && percent > 100
    {
        errors.push(FieldError::invalid(path, value, "must not be greater than 100%"));
    }
}
