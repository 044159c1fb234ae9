"""One node and whoever speaks to its pods, as network namespaces: ours is the node.

Pods of this node are on one bridge, but for one that is routed (ptp); pods of another node and a host outside are
behind links of their own. In front of every place there is a virtual server of ip_vs, as a Service with one endpoint.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from kuberouter_py.kernel.netlink import message
from kuberouter_py.kernel.netlink_socket import NETLINK_NETFILTER, Batch
from kuberouter_py.model.kernel import Protocol
from kuberouter_py.model.names import CONNMARK_SERVICE
from tests.fakes.worlds import OUTSIDE, PODS, PORTS
from tests.labkit import namespaces
from tests.labkit.pods import prepare_network

NODE: Final = "node"
ADDRESSES_OF_NODE: Final = {4: "10.244.1.1", 6: "fd00:10:244:1::1"}
PROTOCOLS: Final = {"tcp": Protocol.TCP, "udp": Protocol.UDP, "sctp": Protocol.SCTP}
_BRIDGE: Final = "kube-bridge"
_ON_BRIDGE: Final = {4: "10.244.1.2/31", 6: "fd00:10:244:1::2/127"}
_SERVICES: Final = {4: "10.96.0.{}", 6: "fd00:10:96::{}"}
_FORGET_ALL: Final = 1 << 8 | 2  # ctnetlink, delete: without a tuple, everything

# A kernel grants a client a few ICMP errors a second, and the rest would look like silence. Entries of connections
# end soon, so that a port that is used once more begins anew.
_SYSCTLS: Final = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/ping_group_range": "0 0",
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv4/icmp_ratemask": "0",
    "net/ipv6/icmp/ratelimit": "0",
    "net/ipv6/icmp/ratemask": "255",
    "net/ipv4/vs/conntrack": "1",
    "net/netfilter/nf_conntrack_udp_timeout": "1",
    "net/netfilter/nf_conntrack_tcp_timeout_close": "1",
    "net/netfilter/nf_conntrack_sctp_timeout_closed": "1",
    "net/netfilter/nf_conntrack_icmp_timeout": "1",
    "net/netfilter/nf_conntrack_icmpv6_timeout": "1",
}


class Place(NamedTuple):
    """descriptor: of its network namespace. service: the VIP that leads to it, by family; none for the node."""

    name: str
    descriptor: int
    local: bool
    addresses: Mapping[int, str]
    service: Mapping[int, str]


@contextlib.contextmanager
def standing() -> Iterator[Mapping[str, Place]]:
    """Built around the calling process, whose network namespace is empty. The places by name; NODE is one."""
    for key, value in _SYSCTLS.items():
        path = Path("/proc/sys") / key
        if path.exists():  # of IPv6's ratemask and of ip_vs not every kernel has all
            path.write_text(value)
    _ip(
        f"link add {_BRIDGE} type bridge",
        f"link set {_BRIDGE} up",
        f"address add {ADDRESSES_OF_NODE[4]}/24 dev {_BRIDGE}",
        f"address add {ADDRESSES_OF_NODE[6]}/64 dev {_BRIDGE} nodad",
    )
    places = {NODE: Place(NODE, os.open("/proc/thread-self/ns/net", os.O_RDONLY), True, ADDRESSES_OF_NODE, {})}
    try:
        for number, (addresses, local) in enumerate(_ends().items(), 2):
            name = f"at{number}"
            network = namespaces.new_network(name)
            prepare_network(network)
            bridged = local and _is_bridged(addresses[0])
            _plug(name, dict(zip((4, 6), addresses, strict=True)), bridged)
            service = {family: text.format(number) for family, text in _SERVICES.items()}
            place = Place(name, network.net, local, dict(zip((4, 6), addresses, strict=True)), service)
            places[name] = place
        _serve(places)
        yield places
    finally:
        for place in places.values():
            os.close(place.descriptor)
            if place.name != NODE:
                namespaces.drop_name(place.name)


def forget_flows() -> None:
    """So that nothing is taken for a reply to what was asked before."""
    batch = Batch(NETLINK_NETFILTER)
    try:
        batch.request(message(_FORGET_ALL, 0, bytes(4)))
    finally:
        batch.close()


def forget_neighbours(places: Iterable[Place]) -> None:
    """So that everybody has to be found anew."""
    for place in places:
        _ip("neigh flush all", at="" if place.name == NODE else place.name)


def _ends() -> dict[tuple[str, str], bool]:
    """Addresses of pods, two of which may share some, and of the host outside: whether they are on this node."""
    return {**{(v4, v6): node == "n1" for v4, v6, node in PODS.values()}, OUTSIDE: False}


def _is_bridged(address: str) -> bool:
    return address in ("10.244.1.2", "10.244.1.3")


def _plug(name: str, addresses: Mapping[int, str], bridged: bool) -> None:
    port = f"veth-{name}"
    _ip(
        f"link add {port} type veth peer name eth0 netns {name}",
        f"link set {port} master {_BRIDGE} up" if bridged else f"link set {port} up",
    )
    inside = ["link set lo up", "link set eth0 up"]
    here = []
    for family, address in addresses.items():
        length, nodad = (32, "") if family == 4 else (128, " nodad")
        inside.append(f"address add {address}/{length} dev eth0{nodad}")
        if bridged:
            inside.append(f"route add {_ON_BRIDGE[family]} dev eth0")
        inside.append(f"route add default via {ADDRESSES_OF_NODE[family]} dev eth0 onlink")
        if not bridged:
            here.append(f"address add {ADDRESSES_OF_NODE[family]}/{length} dev {port}{nodad}")
            here.append(f"route add {address}/{length} dev {port}")
    for lines in (inside, here):
        if lines:
            _ip(*lines, at=name if lines is inside else "")


def _serve(places: Mapping[str, Place]) -> None:
    """Each VIP is an address of the node, and its connections bear the mark of the Service proxy's frontends."""
    lines = []
    options = {"tcp": "-t", "udp": "-u", "sctp": "--sctp-service"}
    for place in places.values():
        for family, service in place.service.items():
            _ip(f"address add {service}/{32 if family == 4 else 128} dev lo{' nodad' if family == 6 else ''}")
            vip, end = (each if family == 4 else f"[{each}]" for each in (service, place.addresses[family]))
            for protocol in PROTOCOLS:
                for port in PORTS:
                    lines.append(f"-A {options[protocol]} {vip}:{port} -s rr")
                    lines.append(f"-a {options[protocol]} {vip}:{port} -r {end}:{port} -m")
    _run(["ipvsadm", "--restore"], "\n".join(lines) + "\n")
    mark = f"0x{CONNMARK_SERVICE:x}/0x{CONNMARK_SERVICE:x}"
    for program, network in (("iptables-legacy", "10.96.0.0/16"), ("ip6tables-legacy", "fd00:10:96::/112")):
        for hook in ("PREROUTING", "OUTPUT"):
            _run([program, "-t", "mangle", "-A", hook, "-d", network, "-j", "CONNMARK", "--set-xmark", mark], "")


def _ip(*lines: str, at: str = "") -> None:
    _run(["ip", *(("-n", at) if at else ()), "-batch", "-"], "\n".join(lines))


def _run(command: list[str], lines: str) -> None:
    done = subprocess.run(command, input=lines, text=True, capture_output=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
