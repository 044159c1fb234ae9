"""The kinds of object that a scenario may hold, and how one is referred to: "service/default/web", "node/n1"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tests.labkit.ports import LabError


@dataclass(frozen=True)
class Kind:
    name: str
    api_version: str
    plural: str
    namespaced: bool = True
    status: bool = False  # has a status subresource
    short: str = ""

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """Of one object, of a namespace's, or of all."""
        root = "/api" if "/" not in self.api_version else "/apis"
        parts = [root, self.api_version]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", namespace]
        return "/".join([*parts, self.plural] + ([name] if name else []))


NETWORKING: Final = "networking.k8s.io/v1"
RBAC: Final = "rbac.authorization.k8s.io/v1"
KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind("Service", "v1", "services", status=True, short="svc"),
        Kind("Pod", "v1", "pods", status=True, short="po"),
        Kind("Node", "v1", "nodes", namespaced=False, status=True, short="no"),
        Kind("Namespace", "v1", "namespaces", namespaced=False, status=True, short="ns"),
        Kind("Endpoints", "v1", "endpoints", short="ep"),
        Kind("ConfigMap", "v1", "configmaps", short="cm"),
        Kind("Secret", "v1", "secrets"),
        Kind("ServiceAccount", "v1", "serviceaccounts", short="sa"),
        Kind("Event", "v1", "events", short="ev"),
        Kind("EndpointSlice", "discovery.k8s.io/v1", "endpointslices"),
        Kind("NetworkPolicy", NETWORKING, "networkpolicies", short="netpol"),
        Kind("ServiceCIDR", NETWORKING, "servicecidrs", namespaced=False, status=True),
        Kind("IPAddress", NETWORKING, "ipaddresses", namespaced=False, short="ip"),
        Kind("Lease", "coordination.k8s.io/v1", "leases"),
        Kind("ClusterRole", RBAC, "clusterroles", namespaced=False),
        Kind("ClusterRoleBinding", RBAC, "clusterrolebindings", namespaced=False),
        Kind("Role", RBAC, "roles"),
        Kind("RoleBinding", RBAC, "rolebindings"),
        Kind("DaemonSet", "apps/v1", "daemonsets", status=True, short="ds"),
        Kind("Deployment", "apps/v1", "deployments", status=True, short="deploy"),
        Kind("PriorityClass", "scheduling.k8s.io/v1", "priorityclasses", namespaced=False, short="pc"),
        Kind(
            "CustomResourceDefinition", "apiextensions.k8s.io/v1", "customresourcedefinitions", namespaced=False,
            status=True, short="crd",
        ),
    )
}  # fmt: skip
_BY_WORD: Final = {
    word: kind for kind in KINDS.values() for word in (kind.name.lower(), kind.plural, kind.short) if word
}  # fmt: skip


@dataclass(frozen=True, order=True)
class Reference:
    kind: str
    namespace: str  # "" for what has none
    name: str

    def __str__(self) -> str:
        return "/".join(filter(None, (self.kind.lower(), self.namespace, self.name)))

    @property
    def path(self) -> str:
        return KINDS[self.kind].path(self.namespace or None, self.name)


def kind_called(word: str) -> Kind:
    kind = _BY_WORD.get(word.lower())
    if kind is None:
        raise LabError(f"kind {word!r}: the lab knows {', '.join(sorted(KINDS))}")
    return kind


def parse(reference: str) -> Reference:
    """Cluster-wide: KIND/NAME; else KIND/NAMESPACE/NAME, or KIND/NAME in `default`."""
    word, *rest = reference.split("/")
    kind = kind_called(word)
    if not all(rest) or not 1 <= len(rest) <= (2 if kind.namespaced else 1):
        raise LabError(f"{reference!r}: want {kind.name.lower()}/{'NAMESPACE/' if kind.namespaced else ''}NAME")
    if not kind.namespaced:
        return Reference(kind.name, "", rest[0])
    return Reference(kind.name, rest[0] if len(rest) == 2 else "default", rest[-1])


def of_document(document: Any) -> Reference:
    """Where an applied document belongs; LabError when it does not say."""
    if not isinstance(document, dict) or not isinstance(document.get("metadata"), dict):
        raise LabError("an applied document needs apiVersion, kind and metadata")
    kind = KINDS.get(str(document.get("kind")))
    if kind is None:
        raise LabError(f"kind {document.get('kind')!r}: the lab knows {', '.join(sorted(KINDS))}")
    if document.get("apiVersion") != kind.api_version:
        raise LabError(f"{kind.name}: apiVersion {document.get('apiVersion')!r}: the lab knows {kind.api_version}")
    name = document["metadata"].get("name")
    if not isinstance(name, str) or not name:
        raise LabError(f"{kind.name}: no metadata.name")
    namespace = document["metadata"].get("namespace") or "default"
    return Reference(kind.name, str(namespace) if kind.namespaced else "", name)
