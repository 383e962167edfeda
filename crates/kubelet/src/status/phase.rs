//! A pod's phase (upstream's `getPhase`).

use k8s_openapi::api::core::v1::{Container, ContainerStateTerminated, ContainerStatus, PodSpec};

use super::Observed;
use crate::pod::{self, init_containers, is_sidecar};

#[derive(Default)]
struct Counts {
    pending_init: usize,
    pending_sidecars: usize,
    init_failed: bool,
    running: usize,
    waiting: usize,
    stopped: usize,
    stopped_for_good: usize,
    succeeded: usize,
}

pub fn of(
    spec: &PodSpec,
    inits: &[ContainerStatus],
    regular: &[ContainerStatus],
    observed: &Observed<'_>,
) -> &'static str {
    if observed.failure.is_some() {
        return "Failed";
    }
    let mut counts = Counts::default();
    for (container, status) in init_containers(spec).iter().zip(inits) {
        if is_sidecar(container) { counts.sidecar(status) } else { counts.init(spec, container, status) }
    }
    for container in &spec.containers {
        if let Some(status) = regular.iter().find(|status| status.name == container.name) {
            counts.regular(spec, container, status);
        }
    }
    let passed = spec.containers.iter().any(|container| super::latest(observed.records, &container.name).0.is_some());
    let phase = counts.phase(passed, observed.ended);
    // Whatever was stopped for good has come to an end, and to a bad one if nothing says otherwise.
    if observed.ended && !matches!(phase, "Succeeded" | "Failed") { "Failed" } else { phase }
}

impl Counts {
    fn init(&mut self, spec: &PodSpec, container: &Container, status: &ContainerStatus) {
        let state = status.state.clone().unwrap_or_default();
        let ended = state.terminated.or_else(|| state.waiting.and_then(|_| last(status)));
        match ended {
            Some(ended) if ended.exit_code != 0 => {
                self.init_failed |= !pod::restarts(spec, container, ended.exit_code);
            }
            Some(_) => {}
            None => self.pending_init += 1,
        }
    }

    fn sidecar(&mut self, status: &ContainerStatus) {
        let state = status.state.clone().unwrap_or_default();
        if state.running.is_some() {
            self.running += 1;
            self.pending_sidecars += usize::from(status.started != Some(true));
        } else if state.terminated.is_none() && last(status).is_none() {
            self.pending_sidecars += 1;
            self.waiting += 1;
        }
    }

    fn regular(&mut self, spec: &PodSpec, container: &Container, status: &ContainerStatus) {
        let state = status.state.clone().unwrap_or_default();
        if state.running.is_some() {
            self.running += 1;
        } else if let Some(ended) = state.terminated {
            self.stopped += 1;
            self.stopped_for_good += usize::from(!pod::restarts(spec, container, ended.exit_code));
            self.succeeded += usize::from(ended.exit_code == 0);
        } else if let Some(ended) = last(status) {
            self.stopped += 1;
            self.stopped_for_good += usize::from(!pod::restarts(spec, container, ended.exit_code));
        } else {
            self.waiting += 1;
        }
    }

    fn phase(&self, passed: bool, ended: bool) -> &'static str {
        if self.init_failed {
            return "Failed";
        }
        if self.pending_init > 0 || (self.pending_sidecars > 0 && !passed) || self.waiting > 0 {
            return "Pending";
        }
        if self.running > 0 {
            return "Running";
        }
        if self.stopped == 0 {
            return "Pending";
        }
        if !ended && self.stopped != self.stopped_for_good {
            return "Running";
        }
        if self.stopped == self.succeeded { "Succeeded" } else { "Failed" }
    }
}

fn last(status: &ContainerStatus) -> Option<ContainerStateTerminated> {
    status.last_state.as_ref()?.terminated.clone()
}
