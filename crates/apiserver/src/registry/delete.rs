//! Objects on their way out: preconditions, finalizers, and the grace that pods are given.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tug_api::{Kind, Object, ObjectKey};
use tug_store::Condition;

use super::{ATTEMPTS, Admit, CommitError, Registry, decode_stamped, metadata, served, unstored};
use crate::admission::Operation;
use crate::codec;
use crate::status::Status;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What becomes of an object's dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

/// What must hold of the object for it to be deleted.
#[derive(Clone, Debug, Default)]
pub struct Preconditions {
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub preconditions: Preconditions,
    pub propagation: Option<Propagation>,
    pub dry_run: bool,
}

/// What a delete left.
pub enum Deleted {
    /// Its last state.
    Gone(Arc<Object>),
    /// It stays until finalizers or the kubelet are done with it.
    Going(Arc<Object>),
}

/// What one attempt decided.
enum Step {
    Remove(Value),
    Mark(Value),
    /// Nothing to do: it is being deleted already.
    Wait,
}

impl Registry {
    /// Deletes an object, or begins to.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when a precondition fails; what admission stands against.
    pub async fn delete(
        &self,
        kind: &'static Kind,
        key: &ObjectKey,
        options: &DeleteOptions,
        admission: &dyn Admit,
    ) -> Result<Deleted, Status> {
        let stored = kind.storage();
        for _ in 0..ATTEMPTS {
            let current = self.cache.get(kind, key).ok_or_else(|| Status::not_found(kind, &key.name))?;
            options.preconditions.check(kind, &current)?;
            let old = current.value().map_err(Status::internal)?;
            admission.admit(Operation::Delete, None, Some(&old))?;
            let lost = match decide(stored, &old, options) {
                Step::Wait => return Ok(Deleted::Going(served(kind, current)?)),
                Step::Remove(last) if options.dry_run => return Ok(Deleted::Gone(served(kind, unstored(&last)?)?)),
                Step::Mark(marked) if options.dry_run => return Ok(Deleted::Going(served(kind, unstored(&marked)?)?)),
                Step::Remove(last) => match self.remove(stored, key, &current).await {
                    Ok(revision) => {
                        let object = decode_stamped(&codec::encode(&last), revision)?;
                        return Ok(Deleted::Gone(served(kind, object)?));
                    }
                    Err(error) => error,
                },
                Step::Mark(marked) => {
                    match self.commit(stored, key, &marked, Condition::Revision(current.revision)).await {
                        Ok(object) => return Ok(Deleted::Going(served(kind, object)?)),
                        Err(error) => error,
                    }
                }
            };
            match lost {
                CommitError::Failed(status) => return Err(status),
                CommitError::Conflict(winner) => self.caught_up(winner).await,
            }
        }
        Err(Status::modified(kind, &key.name))
    }
}

// === impl Preconditions ===

impl Preconditions {
    fn check(&self, kind: &Kind, object: &Object) -> Result<(), Status> {
        let compare = |what: &str, asked: &Option<String>, held: &str, happened: &str| match asked {
            Some(asked) if asked != held => {
                let why = format!(
                    "the {what} in the precondition ({asked}) does not match the {what} in record ({held}). \
                     The object might have been {happened}"
                );
                // Upstream names the kind where it names the resource elsewhere.
                Err(Status::conflict(kind, &object.key.name, &why).of(kind.group, kind.kind))
            }
            _ => Ok(()),
        };
        compare("UID", &self.uid, &object.meta.uid, "deleted and then recreated")?;
        compare("ResourceVersion", &self.resource_version, &object.meta.resource_version, "modified")
    }
}

/// Upstream's `BeforeDelete` and `deletionFinalizersForGarbageCollection`.
fn decide(kind: &Kind, old: &Value, options: &DeleteOptions) -> Step {
    let mut new = old.clone();
    let before = metadata::finalizers(old);
    let mut finalizers = before.clone();
    if let Some(propagation) = options.propagation.or_else(|| default_propagation(kind, &before)) {
        finalizers.retain(|f| f != ORPHAN && f != FOREGROUND);
        match propagation {
            Propagation::Orphan => finalizers.push(ORPHAN.into()),
            Propagation::Foreground => finalizers.push(FOREGROUND.into()),
            Propagation::Background => {}
        }
    }
    let grace = grace_seconds(kind, old, options);
    let deleting = metadata::is_deleting(old);
    let pending = old.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64);
    // A second delete may shorten the wait, never lengthen it.
    let shortens = !deleting || pending.is_some_and(|pending| grace < pending);
    if deleting && !shortens && finalizers == before && (!finalizers.is_empty() || pending.unwrap_or(0) > 0) {
        return Step::Wait;
    }
    let held = kind.kind == "Namespace"
        && old.pointer("/spec/finalizers").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    if finalizers.is_empty() && grace == 0 && !held {
        if kind.kind == "Pod" {
            // Its last state says that it was deleted, and with how much time.
            mark(&mut new, 0, deleting);
        }
        return Step::Remove(new);
    }
    if held && deleting && finalizers == before {
        return Step::Wait;
    }
    metadata::set_finalizers(&mut new, finalizers);
    if shortens {
        mark(&mut new, grace, deleting);
    }
    if kind.kind == "Namespace" {
        new["status"]["phase"] = "Terminating".into();
        // It has no time of its own: it goes when it is empty.
        metadata::of(&mut new).remove("deletionGracePeriodSeconds");
    }
    Step::Mark(new)
}

/// Sets when an object ends; the first time counts as a change.
fn mark(object: &mut Value, grace: i64, again: bool) {
    let ends = Timestamp::now() + Duration::from_secs(grace.unsigned_abs());
    let generation = object.pointer("/metadata/generation").and_then(Value::as_i64).filter(|g| *g > 0 && !again);
    let fields = metadata::of(object);
    fields.insert("deletionTimestamp".into(), metadata::seconds(ends).into());
    fields.insert("deletionGracePeriodSeconds".into(), grace.into());
    if let Some(generation) = generation {
        fields.insert("generation".into(), (generation + 1).into());
    }
}

/// What a delete that doesn't say means: what an earlier one said, else the kind's own way.
fn default_propagation(kind: &Kind, finalizers: &[String]) -> Option<Propagation> {
    if finalizers.iter().any(|f| f == ORPHAN || f == FOREGROUND) {
        return None;
    }
    match (kind.group, kind.kind) {
        // Upstream's oldest controllers keep their dependents by default.
        ("", "ReplicationController") | ("batch", "Job") => Some(Propagation::Orphan),
        _ => None,
    }
}

/// Only pods are given time: until their containers have stopped.
fn grace_seconds(kind: &Kind, pod: &Value, options: &DeleteOptions) -> i64 {
    if kind.kind != "Pod" {
        return 0;
    }
    let field = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    // Nothing runs that would need it.
    if field("/spec/nodeName").is_empty() || matches!(field("/status/phase"), "Failed" | "Succeeded") {
        return 0;
    }
    let own = || pod.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(30);
    match options.grace_period_seconds.unwrap_or_else(own) {
        negative if negative < 0 => 1,
        seconds => seconds,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tug_api::kinds;

    use super::*;

    fn shown(step: Step) -> String {
        match step {
            Step::Remove(_) => "remove".into(),
            Step::Wait => "wait".into(),
            Step::Mark(value) => {
                let grace = &value["metadata"]["deletionGracePeriodSeconds"];
                format!("mark {grace} {}", metadata::finalizers(&value).join(","))
            }
        }
    }

    #[test]
    fn pods_are_given_time_and_finalizers_hold() {
        let pod =
            |spec: Value, metadata: Value| json!({"metadata": metadata, "spec": spec, "status": {"phase": "Running"}});
        let bound = json!({"nodeName": "n", "terminationGracePeriodSeconds": 30});
        let deleting = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30});
        let held = json!({"finalizers": ["a/b"]});
        let cases = [
            (pod(json!({}), json!({})), None, None, "remove"),
            (pod(bound.clone(), json!({})), None, None, "mark 30 "),
            (pod(bound.clone(), json!({})), Some(5), None, "mark 5 "),
            (pod(bound.clone(), json!({})), Some(0), None, "remove"),
            (pod(bound.clone(), json!({})), Some(-1), None, "mark 1 "),
            (pod(bound.clone(), deleting.clone()), None, None, "wait"),
            (pod(bound.clone(), deleting.clone()), Some(60), None, "wait"),
            (pod(bound.clone(), deleting.clone()), Some(2), None, "mark 2 "),
            (pod(bound.clone(), deleting), Some(0), None, "remove"),
            (pod(json!({}), held.clone()), None, None, "mark 0 a/b"),
            (pod(json!({}), held), None, Some(Propagation::Foreground), "mark 0 a/b,foregroundDeletion"),
            (pod(json!({}), json!({})), None, Some(Propagation::Orphan), "mark 0 orphan"),
        ];
        let kind = kinds::by_resource("", "v1", "pods").expect("pods are served");
        for (pod, grace_period_seconds, propagation, expected) in cases {
            let options = DeleteOptions { grace_period_seconds, propagation, ..DeleteOptions::default() };
            assert_eq!(shown(decide(kind, &pod, &options)).trim(), expected.trim(), "{pod} {options:?}");
        }
    }
}
