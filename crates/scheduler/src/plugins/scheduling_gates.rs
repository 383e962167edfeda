//! SchedulingGates: a pod with `schedulingGates` isn't tried before the last of them is gone.

use crate::change::{Change, Kinds, Subject};
use crate::framework::Plugin;
use crate::pod::PodInfo;

pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn pre_enqueue(&self, pod: &PodInfo) -> bool {
        pod.wishes().gates.is_empty()
    }

    fn events(&self) -> Kinds {
        Kinds::POD_GATES_GONE
    }

    fn helps(&self, pod: &PodInfo, change: &Change) -> bool {
        matches!(&change.subject, Subject::Pod { new: Some(new), .. } if new.uid == pod.uid)
    }
}
