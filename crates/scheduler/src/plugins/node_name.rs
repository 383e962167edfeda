//! NodeName: the node that `spec.nodeName` names. A pod that names one never gets here, for naming it is binding: the
//! plugin stands for the wait for any node at all.

use crate::change::Kinds;
use crate::framework::Plugin;

pub struct NodeName;

/// Its place in events that concern pods which found no node to be tried on.
pub const NAME: &str = "NodeName";

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> Kinds {
        Kinds::NODE_ADD
    }
}
