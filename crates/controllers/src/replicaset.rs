//! ReplicaSets: the pods of one revision of a Deployment, or of somebody who wants no more than a number of them.

use futures::FutureExt;
use tug_api::kinds::apps::REPLICA_SET;

use crate::controller::Controller;
use crate::replicas;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "replicaset-controller",
    account: "replicaset-controller",
    run: |context| replicas::run(context, &REPLICA_SET, "replicaset-controller").boxed(),
};
