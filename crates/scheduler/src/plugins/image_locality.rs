//! ImageLocality: rather where the pod's images are already, weighted by how many nodes have them so that one node
//! doesn't draw everything to itself.

use crate::cache::Slot;
use crate::framework::{Cycle, MAX_SCORE, Plugin, Score};
use crate::node::NodeInfo;

const MEGABYTE: i64 = 1024 * 1024;
/// What is smaller is pulled in no time.
const LEAST: i64 = 23 * MEGABYTE;
/// A container counts for no more.
const MOST_PER_CONTAINER: i64 = 1000 * MEGABYTE;

pub struct ImageLocality;

/// Images that some node has, with what each counts there.
struct Local<'a> {
    images: Vec<(&'a str, i64)>,
    most: i64,
}

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn pre_score<'a>(&self, cycle: Cycle<'a>, _feasible: &[Slot]) -> Result<Option<Box<dyn Score + 'a>>, String> {
        let wishes = cycle.pod.wishes();
        let nodes = cycle.cache.ordered().len();
        let known = |name: &'a String| {
            let image = cycle.cache.image(name)?;
            let spread = image.nodes as f64 / nodes as f64;
            Some((name.as_str(), (image.bytes as f64 * spread) as i64))
        };
        let images: Vec<_> = wishes.images.iter().filter_map(known).collect();
        if images.is_empty() {
            return Ok(None);
        }
        let containers = i64::try_from(wishes.containers).unwrap_or(i64::MAX);
        Ok(Some(Box::new(Local { images, most: MOST_PER_CONTAINER.saturating_mul(containers) })))
    }
}

impl Score for Local<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let here = |image: &&(&str, i64)| node.node().images.contains_key(image.0);
        let bytes: i64 = self.images.iter().filter(here).map(|(_, bytes)| bytes).sum();
        MAX_SCORE * (bytes.clamp(LEAST, self.most) - LEAST) / (self.most - LEAST)
    }
}
