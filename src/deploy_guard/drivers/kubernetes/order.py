"""In which order objects are applied: what others need comes first."""

from __future__ import annotations

from deploy_guard.drivers.kubernetes.objects import Object

NAMESPACE, DEFINITION, CONFIGURATION, WORKLOAD, REST, GUARD = range(6)

_CONFIGURATION = frozenset(
    (
        "ClusterRole",
        "ClusterRoleBinding",
        "ConfigMap",
        "EndpointSlice",
        "Endpoints",
        "IngressClass",
        "LimitRange",
        "NetworkPolicy",
        "PersistentVolume",
        "PersistentVolumeClaim",
        "PriorityClass",
        "ResourceQuota",
        "Role",
        "RoleBinding",
        "RuntimeClass",
        "Secret",
        "Service",
        "ServiceAccount",
        "StorageClass",
    )
)
_WORKLOADS = frozenset(
    ("CronJob", "DaemonSet", "Deployment", "Job", "Pod", "ReplicaSet", "ReplicationController", "StatefulSet")
)
_GUARDS = frozenset(
    (
        "APIService",
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
        "MutatingWebhookConfiguration",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration",
    )
)
_GROUPS = frozenset(
    ("", "apps", "batch", "networking.k8s.io", "node.k8s.io", "rbac.authorization.k8s.io", "storage.k8s.io")
)
_GROUPS |= {"discovery.k8s.io", "scheduling.k8s.io"}

KEPT = frozenset(("Namespace", "CustomResourceDefinition", "PersistentVolumeClaim", "PersistentVolume"))
"""Kinds that are never deleted: what is in them would be lost."""


def rank(body: Object) -> int:
    """Return its place: namespaces, definitions of kinds, configuration and Services, workloads, the rest.

    What watches over other objects (webhooks, admission policies) comes last: its server may be part of the release.
    """
    kind, group = str(body.get("kind")), str(body.get("apiVersion")).rpartition("/")[0]
    if kind == "Namespace" and not group:
        return NAMESPACE
    if kind == "CustomResourceDefinition":
        return DEFINITION
    if group in _GROUPS and kind in _CONFIGURATION:
        return CONFIGURATION
    if group in _GROUPS and kind in _WORKLOADS:
        return WORKLOAD
    return GUARD if kind in _GUARDS else REST
