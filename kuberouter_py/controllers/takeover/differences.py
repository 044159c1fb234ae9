"""Which frontends that another proxy served would we not serve, why, and which flag changes that?"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from kuberouter_py.controllers.takeover.served import LOOPBACK
from kuberouter_py.model.cluster import ObjectKey, Service
from kuberouter_py.model.kernel import ServerKey, VirtualServerKey, address_text, family_of
from kuberouter_py.model.notation_servers import server_option


class Difference(NamedTuple):
    """frontends: all that have the same reason, in ipvsadm's words. flag: what to give, "" where nothing helps."""

    why: str
    flag: str
    frontends: tuple[str, ...]

    def __str__(self) -> str:
        remedy = f" (changed by {self.flag})" if self.flag else " (no flag changes that)"
        return f"{', '.join(self.frontends)}: {self.why}{remedy}"


class Compared(NamedTuple):
    """stale: frontends that no Service of the cluster has any more; they just go."""

    differences: tuple[Difference, ...]
    stale: tuple[str, ...]


def compare(
    theirs: Iterable[VirtualServerKey],
    ours: Collection[ServerKey],
    services: Iterable[Service],
    families: Collection[int],
    excluded: Collection[VirtualServerKey] = (),
) -> Compared:
    """families: ours. excluded: frontends inside --excluded-cidrs, which are left to whoever has them."""
    claims = _claims(services)
    found: dict[tuple[str, str], list[str]] = {}
    stale: list[str] = []
    for key in sorted(set(theirs) - set(ours) - set(excluded)):
        claim = claims.get(key) or claims.get(VirtualServerKey(key.protocol, b"", key.port))
        if claim is None:
            stale.append(server_option(key))
            continue
        service, what = claim
        reason = _reason(key, what, families)
        found.setdefault(reason, []).append(f"{server_option(key)} of {service}")
    differences = [Difference(why, flag, tuple(frontends)) for (why, flag), frontends in found.items()]
    return Compared(tuple(differences), tuple(stale))


def _claims(services: Iterable[Service]) -> dict[VirtualServerKey, tuple[ObjectKey, str]]:
    """Who asks for a frontend, and as what. A NodePort is on any address: its key has none."""
    claims: dict[VirtualServerKey, tuple[ObjectKey, str]] = {}
    for service in services:
        for address, port, what in _frontends(service):
            protocol, number = port
            claims.setdefault(VirtualServerKey(protocol, address, number), (service.key, what))
    return claims


def _frontends(service: Service) -> Iterator[tuple[bytes, tuple[int, int], str]]:
    for port in service.ports:
        for addresses, what in (
            (service.cluster_ips, "cluster"), (service.external_ips, "external"), (service.ingress_ips, "ingress"),
        ):  # fmt: skip
            for address in addresses:
                yield address, (port.protocol, port.port), what
        if port.node_port:
            yield b"", (port.protocol, port.node_port), "node"


def _reason(key: VirtualServerKey, what: str, families: Collection[int]) -> tuple[str, str]:
    address = address_text(key.address)
    if family_of(key.address) not in families:
        return f"IPv{family_of(key.address)} is off", f"--enable-ipv{family_of(key.address)}"
    if what == "node" and key.address == LOOPBACK:
        return "NodePorts on 127.0.0.0/8: IPVS serves nothing on loopback", ""
    if what == "node":
        return f"NodePorts on {address}", f"--nodeport-addresses, which must name {address}"
    if what == "external":
        return f"externalIP {address} lies in no range", "--service-external-ip-range, which must hold it"
    if what == "ingress":
        return f"load-balancer address {address} lies in no range", "--loadbalancer-ip-range, which must hold it"
    return f"ClusterIP {address}: `kuberouter-py status` says why", ""


def policies_end(chains: Mapping[str, int]) -> tuple[Difference, ...]:
    """chains: of kube-router's policy controller, counted by how their names begin."""
    if not any(head.startswith("KUBE-POD-FW-") for head in chains):
        return ()  # nothing is enforced for any pod
    what = tuple(f"{count} chains {head}*" for head, count in sorted(chains.items()) if head.endswith("-"))
    why = "NetworkPolicies as they were when kube-router ended; nobody enforces them without these"
    return (Difference(why, "--takeover of an agent with --run-firewall", what),)
