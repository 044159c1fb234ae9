"""The network between the nodes and `outside`, planned as values: who shares a link, the router, everybody's routes.

Hosts that share a subnet share a link; links meet at one router that holds the last usable IPv4 address of each subnet
and ::ffff. The plan is worked out here and written down as `ip -batch` lines; hosts.py and world.py carry them out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Final

from tests.labkit import wires
from tests.labkit.model import NodeSpec, Scenario
from tests.labkit.ports import LabError

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network

ROUTER: Final = "fabric"  # the router's network namespace; every link is a bridge in it
LINK: Final = "eth0"  # a host's link to the fabric
BRIDGE: Final = "kube-bridge"  # a node's link to its pods
_SUBNET_LENGTH: Final = {4: 24, 6: 64}
_FIRST_TABLE: Final = 100  # of the router's policy routing tables, one for each outside host that has routes


def interface(text: str) -> Interface:
    """ "192.0.2.11" or "192.0.2.11/25": an address on its link, /24 or /64 unless said."""
    if "/" in text:
        return ip_interface(text)
    return ip_interface(f"{text}/{_SUBNET_LENGTH[ip_address(text).version]}")


def router_address(subnet: Network) -> Address | None:
    """The address that the router holds in a subnet; none where there is no room for one."""
    if subnet.num_addresses == 1:
        return None
    if isinstance(subnet, IPv4Network):
        return subnet[-2] if subnet.num_addresses > 2 else subnet[-1]
    return subnet[min(0xFFFF, subnet.num_addresses - 1)]


def runs_router(flags: Iterable[str]) -> bool:
    """Whether agents with these flags run the router: they do unless told not to, as kube-router does."""
    running = True
    for flag in flags:
        name, _, value = flag.partition("=")
        if name == "--run-router":
            running = value.lower() not in ("false", "0", "f", "no", "off")
    return running


@dataclass(frozen=True)
class Host:
    """Anything with a link to the fabric: a node, or a host outside."""

    place: str  # "node/n1", "outside/client"
    addresses: tuple[Interface, ...]

    @property
    def namespace(self) -> str:
        kind, name = self.place.split("/", 1)
        return name if kind == "node" else f"{kind}.{name}"

    def address(self, family: int) -> Address | None:
        return next((each.ip for each in self.addresses if each.version == family), None)


@dataclass(frozen=True)
class Link:
    """One broadcast domain: a bridge of the router, the hosts on it and their subnets."""

    bridge: str
    hosts: tuple[Host, ...]

    @cached_property
    def subnets(self) -> tuple[Network, ...]:
        return tuple(dict.fromkeys(each.network for host in self.hosts for each in host.addresses))

    @cached_property
    def gateways(self) -> tuple[Interface, ...]:
        """What the router holds on this link."""
        held = ((router_address(subnet), subnet.prefixlen) for subnet in self.subnets)
        return tuple(ip_interface(f"{address}/{length}") for address, length in held if address is not None)

    def gateway(self, host: Host, family: int) -> Address | None:
        """The router as this host sees it: in the subnet of the host's first address that has one."""
        subnets = [each.network for each in host.addresses if each.version == family]
        return next((each.ip for subnet in subnets for each in self.gateways if each.network == subnet), None)


@dataclass(frozen=True)
class Detour:
    """A host's route through one in another subnet: what it sends to `destination` the router passes to `hop`."""

    source: Host
    destination: Network
    hop: Address
    table: int


class Fabric:
    """All links of a scenario, and who reaches what through whom."""

    def __init__(self, scenario: Scenario) -> None:
        self._nodes = scenario.nodes
        self._routes = {name: spec.routes for name, spec in scenario.outside.items()}
        self._knows_pods = not runs_router(scenario.agents.flags)
        hosts = [Host(f"node/{spec.name}", tuple(map(interface, spec.addresses))) for spec in scenario.nodes.values()]
        hosts += [
            Host(f"outside/{spec.name}", tuple(map(interface, spec.addresses))) for spec in scenario.outside.values()
        ]
        self.hosts: Mapping[str, Host] = {host.place: host for host in hosts}
        self.links = _links(hosts)
        self._link = {host.place: link for link in self.links for host in link.hosts}
        self.ports = {host.place: f"port{number}" for number, host in enumerate(hosts)}
        for host in hosts:
            taken = {each.ip for each in self._link[host.place].gateways} & {each.ip for each in host.addresses}
            if taken:
                raise LabError(f"{host.place}: {taken.pop()} is the address of the fabric's router")

    def next_hop(self, place: str, target: str, family: int) -> Address | None:
        """What `place` has to send to so that `target` gets it: the target itself on a shared link, else the router."""
        host, other = self.hosts[place], self.hosts[target]
        link = self._link[place]
        if other in link.hosts:
            near = {each.network for each in host.addresses if each.version == family}
            direct = next((each.ip for each in other.addresses if each.network in near), None)
            return direct or link.gateway(host, family)
        return link.gateway(host, family)

    def gateways(self, place: str) -> dict[int, str]:
        """The router as this host sees it, by family."""
        found = {family: self._link[place].gateway(self.hosts[place], family) for family in (4, 6)}
        return {family: str(gateway) for family, gateway in found.items() if gateway is not None}

    def uplink(self) -> list[str]:
        """Run in the lab's first namespace: its link to the router, and so the control plane's."""
        return [
            f"link add {wires.UPLINK} type veth peer name uplink netns {ROUTER}",
            f"address add {wires.UPLINK_ADDRESS}/{wires.WIRE_PREFIX} dev {wires.UPLINK}",
            f"link set {wires.UPLINK} up",
        ]

    def router(self) -> list[str]:
        """Run in the router's namespace, after the uplink: everybody's link, and what the router knows."""
        lines = ["link set lo up", f"address add {wires.ROUTER_ADDRESS}/{wires.WIRE_PREFIX} dev uplink",
                 "link set uplink up", f"route add {wires.WIRE} via {wires.UPLINK_ADDRESS}"]  # fmt: skip
        lines += [
            f"link add {self.ports[host.place]} type veth peer name {LINK} netns {host.namespace}"
            for host in self.hosts.values()
        ]
        for link in self.links:
            lines.append(f"link add {link.bridge} type bridge mcast_snooping 0")
            lines += [f"link set {self.ports[host.place]} master {link.bridge} up" for host in link.hosts]
            lines.append(f"link set {link.bridge} up")
            lines += [_address(each, link.bridge) for each in link.gateways]
            lines += [
                f"route add {each.network} dev {link.bridge}"
                for host in link.hosts
                for each in host.addresses
                if each.network.num_addresses == 1
            ]
        if self._knows_pods:
            for node in self._nodes.values():
                lines += [f"route add {cidr} via {address}" for cidr, address in self._pod_routes(node)]
        return lines + [f"route add {each.destination} via {each.hop} table {each.table}" for each in self._detours()]

    def host(self, place: str) -> list[str]:
        """Run in a host's namespace, after the router's lines: addresses, default and other routes."""
        host = self.hosts[place]
        lines = ["link set lo up", f"link set {LINK} up", *(_address(each, LINK) for each in host.addresses)]
        lines += [f"route add default via {gateway} dev {LINK}" for gateway in self.gateways(place).values()]
        kind, name = place.split("/", 1)
        if kind == "node":
            return lines + self._node(self._nodes[name], place)
        for destination, target in self._routes[name].items():
            hop = self.next_hop(place, self.find(target), ip_network(destination).version)
            if hop is None:
                raise LabError(f"{place}: {target} has no address of the family of {destination}")
            lines.append(f"route add {destination} via {hop}")
        return lines

    def _node(self, node: NodeSpec, place: str) -> list[str]:
        lines = _bridge(node) if node.pods == "bridged" else []
        if not self._knows_pods:
            return lines
        for other in self._nodes.values():
            for cidr in map(ip_network, other.pod_cidrs if other.name != node.name else ()):
                hop = self.next_hop(place, f"node/{other.name}", cidr.version)
                lines += [f"route add {cidr} via {hop}"] if hop is not None else []
        return lines

    def find(self, name: str) -> str:
        """The place of a node or outside host named without its kind."""
        for place in (f"node/{name}", f"outside/{name}"):
            if place in self.hosts:
                return place
        raise LabError(f"there is no node or outside host {name}")

    def _pod_routes(self, node: NodeSpec) -> list[tuple[Network, Address]]:
        host = self.hosts[f"node/{node.name}"]
        hops = [(cidr, host.address(cidr.version)) for cidr in map(ip_network, node.pod_cidrs)]
        return [(cidr, address) for cidr, address in hops if address is not None]

    def _detours(self) -> Iterator[Detour]:
        """Outside hosts' routes through one they share no subnet with: the router makes them, for that host alone."""
        for number, (name, routes) in enumerate(self._routes.items()):
            source = self.hosts[f"outside/{name}"]
            for destination, target in routes.items():
                other, network = self.hosts[self.find(target)], ip_network(destination)
                hop = other.address(network.version)
                via = self.next_hop(source.place, other.place, network.version)
                if hop is not None and all(via != each.ip for each in other.addresses):
                    yield Detour(source, network, hop, _FIRST_TABLE + number)

    def rules(self, family: int) -> list[str]:
        """Run in the router's namespace by an `ip` told the family: a rule's own address does not tell it."""
        sources = {(each.ip, detour.table): None for detour in self._detours() for each in detour.source.addresses
                   if each.version == family == detour.destination.version}  # fmt: skip
        return [f"rule add from {address} lookup {table}" for address, table in sources]


def gateway_of(cidr: Network) -> Interface:
    """The bridge's address in a podCIDR: the first."""
    return ip_interface(f"{cidr[1] if cidr.num_addresses > 1 else cidr[0]}/{cidr.prefixlen}")


def _address(each: Interface, link: str) -> str:
    return f"address add {each} dev {link}{' nodad' if each.version == 6 else ''}"


def _bridge(node: NodeSpec) -> list[str]:
    lines = [f"link add {BRIDGE} address {_bridge_hardware_address(node)} type bridge"]
    lines += [_address(gateway_of(cidr), BRIDGE) for cidr in map(ip_network, node.pod_cidrs)]
    return [*lines, f"link set {BRIDGE} up"]


def _bridge_hardware_address(node: NodeSpec) -> str:
    """Fixed, so that it does not change with the pods that come and go."""
    cidr = next(map(ip_network, node.pod_cidrs), None)
    return hardware_address(gateway_of(cidr).ip) if cidr is not None else "0a:58:00:00:00:01"


def hardware_address(address: Address) -> str:
    """A link address made of an IP address, so that a reused address is found where neighbours remember it."""
    return "0a:58:" + address.packed[-4:].hex(":")


def _links(hosts: Sequence[Host]) -> tuple[Link, ...]:
    """Hosts joined by any shared subnet, however many steps away, are on one link."""
    groups: list[tuple[set[Network], list[Host]]] = []
    for host in hosts:
        subnets: set[Network] = {each.network for each in host.addresses}
        members = [host]
        apart = []
        for other, others in groups:
            if other & subnets:
                subnets |= other
                members = others + members
            else:
                apart.append((other, others))
        groups = [*apart, (subnets, members)]
    return tuple(Link(f"lan{number}", tuple(members)) for number, (_, members) in enumerate(groups))
