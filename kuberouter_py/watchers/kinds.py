"""Which kinds there are to hear of: where the API has them and which of their objects we want to see.

One value says the selection for both sources: as selectors for the API server, as a filter over manifests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kuberouter_py.watchers.decode import Head

PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"


@dataclass(frozen=True)
class Kind:
    """name: as in decode.py. paths: newest version first; the first that the server knows is used.

    without_labels: objects that carry one of these labels, with whatever value, do not exist for us (S1.01, S1.02).
    object_name: only the object of that name. optional: a server without this kind, or one that keeps it from us, is
    no failure: there are no such objects (M3.04). of: the kind as the API and files have it, where that is another
    name. metadata_only: the server is asked to leave out all else. awaited: nothing is decided before its first list.
    """

    name: str
    paths: tuple[str, ...]
    without_labels: tuple[str, ...] = ()
    object_name: str = ""
    optional: bool = False
    of: str = ""
    metadata_only: bool = False
    awaited: bool = True

    @property
    def object_kind(self) -> str:
        return self.of or self.name

    @property
    def api_versions(self) -> frozenset[str]:
        """ "v1" or "discovery.k8s.io/v1", as objects in files say it."""
        return frozenset("/".join(path.split("/")[2:-1]) for path in self.paths)

    def selectors(self) -> Mapping[str, str]:
        """Query parameters for list and watch."""
        query = {}
        if self.without_labels:
            query["labelSelector"] = ",".join(f"!{label}" for label in self.without_labels)
        if self.object_name:
            query["fieldSelector"] = f"metadata.name={self.object_name}"
        return query

    def admits(self, about: Head) -> bool:
        """The same selection, for an object at hand."""
        return not any(label in about.labels for label in self.without_labels) and (
            not self.object_name or about.name == self.object_name
        )


SERVICES = Kind("Service", ("/api/v1/services",), (PROXY_NAME_LABEL, HEADLESS_LABEL))
ENDPOINT_SLICES = Kind(
    "EndpointSlice", ("/apis/discovery.k8s.io/v1/endpointslices",), (PROXY_NAME_LABEL, HEADLESS_LABEL)
)
NODES = Kind("Node", ("/api/v1/nodes",))
# v1 from Kubernetes 1.33, v1beta1 in 1.31 and 1.32 where it was switched on (M3.04).
SERVICE_CIDRS = Kind(
    "ServiceCIDR",
    ("/apis/networking.k8s.io/v1/servicecidrs", "/apis/networking.k8s.io/v1beta1/servicecidrs"),
    optional=True,
)
PODS = Kind("Pod", ("/api/v1/pods",))
# What Pods say to a Service proxy is in their metadata, and Services work without it until it comes.
POD_METADATA = replace(PODS, name="PodMetadata", of="Pod", metadata_only=True, awaited=False, optional=True)
NAMESPACES = Kind("Namespace", ("/api/v1/namespaces",))
NETWORK_POLICIES = Kind("NetworkPolicy", ("/apis/networking.k8s.io/v1/networkpolicies",))


def own_node(name: str) -> Kind:
    """Only this node's object (M3.02)."""
    return replace(NODES, object_name=name)
