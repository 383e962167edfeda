//! NodeResourcesBalancedAllocation: rather where processor and memory get used up evenly.

use crate::cache::Slot;
use crate::framework::{Cycle, MAX_SCORE, Plugin, Score};
use crate::node::NodeInfo;
use crate::resources::Resources;

pub struct NodeResourcesBalancedAllocation;

struct Balanced<'a>(&'a Resources);

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    /// Pods that ask for nothing change no balance.
    fn pre_score<'a>(&self, cycle: Cycle<'a>, _feasible: &[Slot]) -> Result<Option<Box<dyn Score + 'a>>, String> {
        let wanted = &cycle.pod.requests.resources;
        if wanted.milli_cpu == 0 && wanted.memory == 0 {
            return Ok(None);
        }
        Ok(Some(Box::new(Balanced(wanted))))
    }
}

impl Score for Balanced<'_> {
    /// 75 if the pod leaves the balance as it is, up to 100 where it betters it, down to 50 where it makes it worse.
    fn score(&self, node: &NodeInfo) -> i64 {
        let all = &node.node().allocatable;
        let with = balance(
            (node.requested.milli_cpu + self.0.milli_cpu, all.milli_cpu),
            (node.requested.memory + self.0.memory, all.memory),
        );
        let without = balance((node.requested.milli_cpu, all.milli_cpu), (node.requested.memory, all.memory));
        MAX_SCORE / 2 + (MAX_SCORE / 2 + with - without) / 2
    }
}

/// [`MAX_SCORE`] when both are used to the same part, less by the standard deviation otherwise.
fn balance(cpu: (i64, i64), memory: (i64, i64)) -> i64 {
    if cpu.1 == 0 || memory.1 == 0 {
        return MAX_SCORE;
    }
    let part = |(used, all): (i64, i64)| (used as f64 / all as f64).min(1.0);
    let deviation = ((part(cpu) - part(memory)) / 2.0).abs();
    ((1.0 - deviation) * MAX_SCORE as f64) as i64
}
