"""What an API server would fill into an object that is created or changed: defaults, cluster addresses, node ports.

Nothing is refused here: a folder of manifests may hold what no API server would take, and an agent must bear it. So
whatever is not as expected stays as it is.
"""

from __future__ import annotations

import copy
import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any, Final

Object = dict[str, Any]
NODE_PORTS: Final = range(30086, 32768)  # the part of the range that an API server hands out itself
AFFINITY_SECONDS: Final = 10800


class Pools:
    """Cluster addresses and node ports that are free, given the Services there are. Handed out in ascending order."""

    def __init__(self, cidrs: Sequence[str], services: Iterable[Object]) -> None:
        self.networks = {f"IPv{network.version}": network for network in map(ipaddress.ip_network, cidrs)}
        specs = [service["spec"] for service in services if isinstance(service.get("spec"), dict)]
        self._addresses = {str(address) for spec in specs for address in _list(spec.get("clusterIPs"))}
        self._ports = {port.get("nodePort") for spec in specs for port in _ports(spec)}
        self._ports |= {spec.get("healthCheckNodePort") for spec in specs}

    def address(self, family: str) -> str | None:
        """From beyond the part of the network that is kept for addresses chosen by hand."""
        network = self.networks.get(family)
        if network is None:
            return None
        first = min(max(16, network.num_addresses // 16), 256)
        for number in range(first, min(network.num_addresses, first + len(self._addresses) + 1)):
            address = str(network[number])
            if address not in self._addresses:
                self._addresses.add(address)
                return address
        return None

    def node_port(self) -> int:
        port = next(port for port in NODE_PORTS if port not in self._ports)
        self._ports.add(port)
        return port


def admitted(document: Object, old: Object | None, pools: Pools) -> Object:
    """A copy of `document` as an API server would keep it, `old` being what it replaces."""
    new = copy.deepcopy(document)
    spec = new.get("spec")
    if new["kind"] == "Namespace":
        new["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = new["metadata"]["name"]
        new.setdefault("status", {"phase": "Active"})
    elif new["kind"] == "EndpointSlice":
        for port in filter(_is_mapping, _list(new.get("ports"))):
            port.setdefault("name", "")
            port.setdefault("protocol", "TCP")
    elif not isinstance(spec, dict):
        pass
    elif new["kind"] == "Service":
        _service(new, spec, (old or {}).get("spec") or {}, pools)
    elif new["kind"] == "Pod":
        _pod(spec)
    elif new["kind"] == "NetworkPolicy":
        spec.setdefault("policyTypes", ["Ingress"] + (["Egress"] if spec.get("egress") else []))
    return new


def _pod(spec: Object) -> None:
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    for container in filter(_is_mapping, _list(spec.get("containers"))):
        for port in _ports(container):
            port.setdefault("protocol", "TCP")


def _service(new: Object, spec: Object, old: Object, pools: Pools) -> None:
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP" and not spec.get("sessionAffinityConfig"):
        spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}}
    for port in _ports(spec):
        port.setdefault("protocol", "TCP")
        if "port" in port:
            port.setdefault("targetPort", port["port"])
    _keep_or_drop(new, spec, old)
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    if _external(spec):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
        _cluster_addresses(spec, pools)
    if spec["type"] in ("NodePort", "LoadBalancer"):
        _node_ports(spec, pools)
    new.setdefault("status", {"loadBalancer": {}})


def _keep_or_drop(new: Object, spec: Object, old: Object) -> None:
    """What was allocated stays while the type needs it, and goes with the type unless it was changed by hand."""
    addressed, ported = spec["type"] != "ExternalName", spec["type"] in ("NodePort", "LoadBalancer")
    for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        _keep_or_drop_one(spec, old, key, keep=addressed)
    _keep_or_drop_one(spec, old, "healthCheckNodePort", keep=_local_balancer(spec))
    if not _external(spec):
        _keep_or_drop_one(spec, old, "externalTrafficPolicy", keep=False)
    if spec["type"] != "LoadBalancer":
        _keep_or_drop_one(spec, old, "allocateLoadBalancerNodePorts", keep=False)
        if old and isinstance(new.get("status"), dict):
            new["status"]["loadBalancer"] = {}
    before = {(port.get("port"), port.get("protocol")): port.get("nodePort") for port in _ports(old)}
    for port in _ports(spec):
        held = before.get((port.get("port"), port.get("protocol")))
        if held and ported:
            port.setdefault("nodePort", held)
        elif held and port.get("nodePort") == held:
            del port["nodePort"]


def _keep_or_drop_one(spec: Object, old: Object, key: str, *, keep: bool) -> None:
    if keep:
        if not spec.get(key) and old.get(key):
            spec[key] = copy.deepcopy(old[key])
    elif key in spec and spec[key] == old.get(key):
        del spec[key]


def _cluster_addresses(spec: Object, pools: Pools) -> None:
    given, several = spec.get("clusterIP"), _list(spec.get("clusterIPs"))
    if given and given not in several[:1]:  # the one that people write wins over what follows from it
        several = [given]
    policy = spec.setdefault("ipFamilyPolicy", _policy(spec, several))
    families = [family for family in _list(spec.get("ipFamilies")) if family]
    families += [family for family in map(_family, several[len(families) :]) if family]
    families = families or list(pools.networks)[:1]
    if policy == "SingleStack":
        families, several = families[:1], several[:1]
    elif len(families) == 1:
        families += [family for family in ("IPv4", "IPv6") if family not in families and _has(family, pools, spec)]
    spec["ipFamilies"] = families
    if several[:1] != ["None"]:
        for family in families[len(several) :]:
            address = pools.address(family)
            if address is None:
                break
            several.append(address)
    if several:
        spec["clusterIP"], spec["clusterIPs"] = several[0], several


def _policy(spec: Object, several: Sequence[str]) -> str:
    if spec.get("clusterIP") == "None" and not spec.get("selector"):
        return "RequireDualStack"
    return "RequireDualStack" if len(several) > 1 or len(_list(spec.get("ipFamilies"))) > 1 else "SingleStack"


def _has(family: str, pools: Pools, spec: Object) -> bool:
    return family in pools.networks or (spec.get("clusterIP") == "None" and not spec.get("selector"))


def _node_ports(spec: Object, pools: Pools) -> None:
    if spec["type"] == "NodePort" or spec.get("allocateLoadBalancerNodePorts"):
        chosen: dict[Any, int] = {}  # TCP and UDP of one port share a number
        for port in _ports(spec):
            if not port.get("nodePort"):
                port["nodePort"] = chosen.get(port.get("port")) or pools.node_port()
            chosen[port.get("port")] = port["nodePort"]
    if _local_balancer(spec) and not spec.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = pools.node_port()


def _external(spec: Object) -> bool:
    return spec["type"] in ("NodePort", "LoadBalancer") or (
        spec["type"] == "ClusterIP" and bool(spec.get("externalIPs"))
    )


def _local_balancer(spec: Object) -> bool:
    return spec["type"] == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _family(address: Any) -> str | None:
    try:
        return f"IPv{ipaddress.ip_address(address).version}"
    except ValueError:
        return None


def _ports(holder: Object) -> list[Object]:
    return [port for port in _list(holder.get("ports")) if _is_mapping(port)]


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else []


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)
