//! ReplicationControllers: what ReplicaSets were called before they had set-based selectors.

use futures::FutureExt;
use tug_api::kinds::core::REPLICATION_CONTROLLER;

use crate::controller::Controller;
use crate::replicas;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "replicationcontroller-controller",
    account: "replication-controller",
    run: |context| replicas::run(context, &REPLICATION_CONTROLLER, "replication-controller").boxed(),
};
