//! The rules of upstream's default roles (`plugin/pkg/auth/authorizer/rbac/bootstrappolicy`) as tables. Their notation is
//! that of `parse_rule` in [`super::policy`].

pub(super) const CLUSTER_ROLES: &str = "
role cluster-admin
* * *
* @ *

role system:discovery
get @ /api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/

role system:public-info-viewer
get @ /healthz /livez /readyz /version /version/

role system:monitoring
get @ /healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*

role system:service-account-issuer-discovery
get @ /.well-known/openid-configuration /openid/v1/jwks

role system:basic-user
create authorization.k8s.io selfsubjectaccessreviews selfsubjectrulesreviews
create authentication.k8s.io selfsubjectreviews

role system:auth-delegator
create authentication.k8s.io tokenreviews
create authorization.k8s.io subjectaccessreviews

role system:aggregate-to-admin
create authorization.k8s.io localsubjectaccessreviews
read,write rbac.authorization.k8s.io rolebindings roles

role system:aggregate-to-edit
read core pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy
impersonate core serviceaccounts
write core pods pods/attach pods/exec pods/portforward pods/proxy pods/resize
create core pods/eviction
write core configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets serviceaccounts services services/proxy
create core serviceaccounts/token
write apps daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale
write autoscaling horizontalpodautoscalers
write batch cronjobs jobs
write extensions daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies replicasets replicasets/scale replicationcontrollers/scale
write policy poddisruptionbudgets
write networking.k8s.io ingresses networkpolicies
read,write coordination.k8s.io leases
write resource.k8s.io resourceclaims resourceclaimtemplates

role system:aggregate-to-view
read core configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status
read core bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status resourcequotas resourcequotas/status
read core namespaces
read discovery.k8s.io endpointslices
read apps controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status
read autoscaling horizontalpodautoscalers horizontalpodautoscalers/status
read batch cronjobs cronjobs/status jobs jobs/status
read extensions daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses ingresses/status networkpolicies replicasets replicasets/scale replicasets/status replicationcontrollers/scale
read policy poddisruptionbudgets poddisruptionbudgets/status
read networking.k8s.io ingresses ingresses/status networkpolicies
read resource.k8s.io resourceclaims resourceclaims/status resourceclaimtemplates

role system:heapster
read core events namespaces nodes pods
read extensions deployments

role system:kube-aggregator
read core endpoints services

role system:kube-dns
list,watch core endpoints services

role system:coredns
list,watch core endpoints services pods namespaces
get core nodes
list,watch discovery.k8s.io endpointslices

role system:kubelet-api-admin
read core nodes
proxy core nodes
* core nodes/configz nodes/healthz nodes/log nodes/metrics nodes/pods nodes/proxy nodes/stats

role system:node
create authentication.k8s.io tokenreviews
create authorization.k8s.io localsubjectaccessreviews subjectaccessreviews
read core services
create,read core nodes
patch,update core nodes/status
patch,update core nodes
create,patch,update core events
read core pods
create,delete core pods
patch,update core pods/status
create core pods/eviction
read core configmaps secrets
get core persistentvolumeclaims persistentvolumes
get core endpoints
create,read certificates.k8s.io certificatesigningrequests
create,delete,get,patch,update coordination.k8s.io leases
get storage.k8s.io volumeattachments
create core serviceaccounts/token
get,patch,update core persistentvolumeclaims/status
read storage.k8s.io csidrivers
create,delete,get,patch,update storage.k8s.io csinodes
read node.k8s.io runtimeclasses
get resource.k8s.io resourceclaims
create,delete,deletecollection,get,list,patch,update,watch resource.k8s.io resourceslices

role system:node-bootstrapper
create,read certificates.k8s.io certificatesigningrequests

role system:node-problem-detector
get core nodes
patch core nodes/status
create,patch,update core,events.k8s.io events

role system:node-proxier
list,watch core endpoints services
read core nodes
create,patch,update core,events.k8s.io events
list,watch discovery.k8s.io endpointslices
list,watch networking.k8s.io servicecidrs

role system:kube-controller-manager
create,patch,update core,events.k8s.io events
create coordination.k8s.io leases
get,update coordination.k8s.io leases = kube-controller-manager
create core secrets serviceaccounts
delete core secrets
get core configmaps namespaces secrets serviceaccounts
update core secrets serviceaccounts
create authentication.k8s.io tokenreviews
create authorization.k8s.io subjectaccessreviews
list,watch * *
create core serviceaccounts/token

role system:kube-scheduler
create,patch,update core,events.k8s.io events
create coordination.k8s.io leases
get,list,update,watch coordination.k8s.io leases = kube-scheduler
read core nodes
delete,get,list,watch core pods
create core bindings pods/binding
patch,update core pods/status
read core replicationcontrollers services
read apps,extensions replicasets
read apps statefulsets
read policy poddisruptionbudgets
read core persistentvolumeclaims persistentvolumes
create authentication.k8s.io tokenreviews
create authorization.k8s.io subjectaccessreviews
read storage.k8s.io csinodes
read core namespaces
read storage.k8s.io csidrivers
read storage.k8s.io csistoragecapacities
read resource.k8s.io deviceclasses resourceslices
patch,read,update resource.k8s.io resourceclaims
patch,update resource.k8s.io resourceclaims/binding resourceclaims/status
update core pods/finalizers

role system:volume-scheduler
patch,read,update core persistentvolumes
read storage.k8s.io storageclasses
patch,read,update core persistentvolumeclaims

role system:persistent-volume-provisioner
create,delete,read core persistentvolumes
read,update core persistentvolumeclaims
read storage.k8s.io storageclasses
watch core events
create,patch,update core,events.k8s.io events

role system:certificates.k8s.io:certificatesigningrequests:nodeclient
create certificates.k8s.io certificatesigningrequests/nodeclient

role system:certificates.k8s.io:certificatesigningrequests:selfnodeclient
create certificates.k8s.io certificatesigningrequests/selfnodeclient

role system:certificates.k8s.io:kube-apiserver-client-approver
approve certificates.k8s.io signers = kubernetes.io/kube-apiserver-client

role system:certificates.k8s.io:kube-apiserver-client-kubelet-approver
approve certificates.k8s.io signers = kubernetes.io/kube-apiserver-client-kubelet

role system:certificates.k8s.io:kubelet-serving-approver
approve certificates.k8s.io signers = kubernetes.io/kubelet-serving

role system:certificates.k8s.io:legacy-unknown-approver
approve certificates.k8s.io signers = kubernetes.io/legacy-unknown
";

/// Roles of controllers, without their prefix `system:controller:` and without the right to record events.
pub(super) const CONTROLLER_ROLES: &str = "
role attachdetach-controller
list,watch core persistentvolumeclaims persistentvolumes
read core nodes
patch,update core nodes/status
list,watch core pods
create,delete,read storage.k8s.io volumeattachments
read storage.k8s.io csidrivers
read storage.k8s.io csinodes

role certificate-controller
delete,read certificates.k8s.io certificatesigningrequests
update certificates.k8s.io certificatesigningrequests/approval certificatesigningrequests/status
approve certificates.k8s.io signers = kubernetes.io/kube-apiserver-client-kubelet
sign certificates.k8s.io signers = kubernetes.io/kube-apiserver-client kubernetes.io/kube-apiserver-client-kubelet kubernetes.io/kubelet-serving kubernetes.io/legacy-unknown
create authorization.k8s.io subjectaccessreviews

role clusterrole-aggregation-controller
escalate,patch,read,update rbac.authorization.k8s.io clusterroles

role cronjob-controller
read,update batch cronjobs
create,delete,patch,read,update batch jobs
update batch cronjobs/status
update batch cronjobs/finalizers
delete,list,watch core pods

role daemon-set-controller
read apps,extensions daemonsets
update apps,extensions daemonsets/status
update apps,extensions daemonsets/finalizers
list,watch core nodes
create,delete,list,patch,watch core pods
create core pods/binding
create,delete,patch,read,update apps controllerrevisions

role deployment-controller
read,update apps,extensions deployments
update apps,extensions deployments/status
update apps,extensions deployments/finalizers
create,delete,patch,read,update apps,extensions replicasets
read,update core pods

role device-taint-eviction-controller
delete,read core pods
patch,update core pods/status
read resource.k8s.io resourceclaims
read resource.k8s.io resourceslices
read resource.k8s.io deviceclasses

role disruption-controller
read apps,extensions deployments
read apps,extensions replicasets
read core replicationcontrollers
read policy poddisruptionbudgets
read apps statefulsets
update policy poddisruptionbudgets/status
patch,update core pods/status
get * */scale

role endpoint-controller
read core pods services
create,delete,read,update core endpoints
create core endpoints/restricted

role endpointslice-controller
read core nodes pods services
update core services/finalizers
create,delete,read,update discovery.k8s.io endpointslices

role endpointslicemirroring-controller
read core endpoints services
update core services/finalizers
update core endpoints/finalizers
create,delete,read,update discovery.k8s.io endpointslices

role ephemeral-volume-controller
read core pods
update core pods/finalizers
create,read core persistentvolumeclaims

role expand-controller
patch,read,update core persistentvolumes
patch,update core persistentvolumeclaims/status
read core persistentvolumeclaims

role generic-garbage-collector
delete,patch,read,update * *

role horizontal-pod-autoscaler
read autoscaling horizontalpodautoscalers
update autoscaling horizontalpodautoscalers/status
get,update * */scale
list,watch core pods
list,watch metrics.k8s.io pods
read custom.metrics.k8s.io *
read external.metrics.k8s.io *

role job-controller
patch,read,update batch jobs
update batch jobs/status
update batch jobs/finalizers
create,delete,list,patch,watch core pods

role legacy-service-account-token-cleaner
get core configmaps = kube-apiserver-legacy-service-account-token-tracking
delete,patch core secrets

role namespace-controller
delete,read core namespaces
update core namespaces/finalize namespaces/status
delete,deletecollection,read * *

role node-controller
delete,patch,read,update core nodes
patch,update core nodes/status
patch,update core pods/status
delete,read core pods

role persistent-volume-binder
create,delete,read,update core persistentvolumes
update core persistentvolumes/status
read,update core persistentvolumeclaims
update core persistentvolumeclaims/status
create,delete,read core pods
read storage.k8s.io storageclasses
list,watch core nodes
watch core events

role pod-garbage-collector
delete,list,watch core pods
read core nodes
patch core pods/status

role pv-protection-controller
read,update core persistentvolumes

role pvc-protection-controller
read,update core persistentvolumeclaims
update core persistentvolumeclaims/status
read core pods

role replicaset-controller
read,update apps,extensions replicasets
update apps,extensions replicasets/status
update apps,extensions replicasets/finalizers
create,delete,list,patch,watch core pods

role replication-controller
read,update core replicationcontrollers
update core replicationcontrollers/status
update core replicationcontrollers/finalizers
create,delete,list,patch,watch core pods

role resource-claim-controller
read core pods
update core pods/finalizers
create,delete,read resource.k8s.io resourceclaims
patch,update resource.k8s.io resourceclaims resourceclaims/status
patch,update core pods/status
patch,update resource.k8s.io resourceclaims/binding

role resourcequota-controller
list,watch * *
update core resourcequotas/status

role root-ca-cert-publisher
create,update core configmaps

role route-controller
list,watch core nodes
patch core nodes/status

role selinux-warning-controller
read core persistentvolumes
read core persistentvolumeclaims
read core pods
read storage.k8s.io csidrivers

role service-account-controller
create core serviceaccounts

role service-cidrs-controller
patch,read,update networking.k8s.io servicecidrs
patch,update networking.k8s.io servicecidrs/finalizers
patch,update networking.k8s.io servicecidrs/status
read networking.k8s.io ipaddresses

role service-controller
read core services
patch,update core services/status
list,watch core nodes

role statefulset-controller
list,watch core pods
read apps statefulsets
update apps statefulsets/status
update apps statefulsets/finalizers
create,delete,get,patch,update core pods
create,delete,patch,read,update apps controllerrevisions
create,read core persistentvolumeclaims
delete,update core persistentvolumeclaims
update core pods/finalizers

role ttl-after-finished-controller
delete,read batch jobs

role ttl-controller
list,patch,update,watch core nodes

role validatingadmissionpolicy-status-controller
read admissionregistration.k8s.io validatingadmissionpolicies
get,patch,update admissionregistration.k8s.io validatingadmissionpolicies/status

role volumeattributesclass-protection-controller
read core persistentvolumeclaims
read core persistentvolumes
read,update storage.k8s.io volumeattributesclasses
";

pub(super) const CONTROLLERS_WITHOUT_EVENTS: &[&str] = &[
    "clusterrole-aggregation-controller",
    "legacy-service-account-token-cleaner",
    "namespace-controller",
    "pod-garbage-collector",
];

pub(super) const KUBE_SYSTEM_ROLES: &str = "
role extension-apiserver-authentication-reader
read core configmaps = extension-apiserver-authentication

role system::leader-locking-kube-controller-manager
watch core configmaps
get,update core configmaps = kube-controller-manager

role system::leader-locking-kube-scheduler
watch core configmaps
get,update core configmaps = kube-scheduler

role system:controller:bootstrap-signer
read core secrets

role system:controller:cloud-provider
create,read core configmaps

role system:controller:token-cleaner
delete,read core secrets
create,patch,update core,events.k8s.io events
";

pub(super) const KUBE_PUBLIC_ROLES: &str = "
role system:controller:bootstrap-signer
read core configmaps
update core configmaps = cluster-info
create,patch,update core,events.k8s.io events
";
