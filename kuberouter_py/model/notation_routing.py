"""Keys and values of the router's tables in the notation of the tools: ip. As notation.py, which knows them by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kuberouter_py.model.bgp import Announced
from kuberouter_py.model.cluster import Cidr
from kuberouter_py.model.kernel import address_text, family_of
from kuberouter_py.model.names import (
    HANDOVER_TABLE,
    MAIN_TABLE,
    OVERLAY_PRIORITY,
    POD_BRIDGE_ALIAS,
    POD_ROUTE_METRIC,
    ROUTE_PROTOCOL,
    TUNNEL_ALIAS,
)
from kuberouter_py.model.notation_bgp import add_speaker, change_speaker, remove_speaker, speaker_key
from kuberouter_py.model.notation_told import Notation
from kuberouter_py.model.podnet import CniFile, Listener, LookupRule, PodBridge, PodRoute, RouteKey, Tunnel
from kuberouter_py.model.values import cidr_text

# -- tunnels ---------------------------------------------------------------------------------------------------------

_KINDS = {4: "ipip mode ipip", 6: "ip6tnl mode ip6ip6"}
_OUTER = {4: "ttl 64 pmtudisc", 6: "hoplimit 64 encaplimit none"}


def _tunnel_line(verb: str, name: str, tunnel: Tunnel) -> str:
    mtu = f" mtu {tunnel.mtu}" if tunnel.mtu else ""
    ends = f"remote {address_text(tunnel.remote)} local {address_text(tunnel.local)}"
    udp = f"gue encap-sport auto encap-dport {tunnel.port}" if tunnel.port else "none"
    return f"ip link {verb} {name}{mtu} type {_KINDS[tunnel.family]} {ends} {_OUTER[tunnel.family]} encap {udp}"


def _open_tunnel(name: str, tunnel: Tunnel) -> Iterator[str]:
    yield f'ip link set {name} up alias "{TUNNEL_ALIAS}"'
    if tunnel.family == 4:
        yield f"sysctl -w net/ipv4/conf/{name}/rp_filter=0"


def _add_tunnel(name: str, tunnel: Tunnel) -> Iterator[str]:
    yield _tunnel_line("add", name, tunnel)
    yield from _open_tunnel(name, tunnel)


def _change_tunnel(name: str, old: Tunnel, new: Tunnel) -> Iterator[str]:
    if old == new._replace(mtu=old.mtu) and not new.mtu:
        return  # its MTU is left as it is
    yield _tunnel_line("change", name, new)
    yield from _open_tunnel(name, new)


# -- where GUE is taken in -------------------------------------------------------------------------------------------


def _listener_text(key: Listener) -> str:
    return f"UDP port {key.port} in IPv{key.family}"


def _add_listener(key: Listener, _value: None) -> Iterator[str]:
    yield f"ip -{key.family} fou add port {key.port} gue"


def _change_listener(key: Listener, _old: None, new: None) -> Iterator[str]:
    yield from _add_listener(key, new)


def _remove_listener(key: Listener, _value: None) -> Iterator[str]:
    yield f"ip -{key.family} fou del port {key.port}"


# -- the pods' bridge --------------------------------------------------------------------------------------------------


def _bridge_mtu(bridge: PodBridge) -> str:
    return f" mtu {bridge.mtu}" if bridge.mtu > 0 else ""


def _add_bridge(name: str, bridge: PodBridge) -> Iterator[str]:
    yield f"ip link add {name}{_bridge_mtu(bridge)} type bridge"
    yield f'ip link set {name} up alias "{POD_BRIDGE_ALIAS}"'


def _change_bridge(name: str, old: PodBridge, new: PodBridge) -> Iterator[str]:
    if new.mtu or old.mtu < 0:  # else its MTU is left as it is
        yield f"ip link set {name} up{_bridge_mtu(new)}"


def _remove_link(name: str, _value: Any) -> Iterator[str]:
    yield f"ip link del {name}"


# -- the CNI configuration ---------------------------------------------------------------------------------------------


def _add_cni_file(path: str, file: CniFile) -> Iterator[str]:
    yield f"write {path}  # {len(file.text.encode(errors='surrogateescape'))} bytes"


def _change_cni_file(path: str, _old: CniFile, new: CniFile) -> Iterator[str]:
    yield from _add_cni_file(path, new)


def _restore_cni_file(path: str, _file: CniFile) -> Iterator[str]:
    yield f"restore {path}  # as it was before us"


# -- routes and rules ------------------------------------------------------------------------------------------------


def _ip(network: bytes) -> str:
    return "ip" if family_of(network) == 4 else "ip -6"


def _in_table(table: int) -> str:
    return "" if table == MAIN_TABLE else f" table {table}"


def _route_text(key: RouteKey) -> str:
    return f"{cidr_text(Cidr(key.network, key.prefix))}{_in_table(key.table)}"


def _way_text(route: PodRoute) -> str:
    gateway = f" via {address_text(route.gateway)}" if route.gateway else ""
    source = f" src {address_text(route.source)}" if route.source else ""
    return f"{gateway} dev {route.link}{source}"


def _route_line(verb: str, key: RouteKey, way: str = "") -> str:
    network = cidr_text(Cidr(key.network, key.prefix))
    table = _in_table(key.table)
    return f"{_ip(key.network)} route {verb} {network}{way}{table} proto {ROUTE_PROTOCOL} metric {POD_ROUTE_METRIC}"


def _add_pod_route(key: RouteKey, route: PodRoute) -> Iterator[str]:
    yield _route_line("add", key, _way_text(route))


def _change_pod_route(key: RouteKey, _old: PodRoute, new: PodRoute) -> Iterator[str]:
    yield _route_line("replace", key, _way_text(new))


def _remove_pod_route(key: RouteKey, _route: PodRoute) -> Iterator[str]:
    yield _route_line("del", key)


def _source_text(key: LookupRule) -> str:
    return f"from {cidr_text(Cidr(*key))}"


def _rule_line(verb: str, key: LookupRule, table: int) -> str:
    """table 0: of ours, and not as it should be."""
    lookup = f" lookup {table} pref {OVERLAY_PRIORITY}" if table else ""
    family = family_of(key.network)
    return f"ip -{family} rule {verb} {_source_text(key)}{lookup} protocol {ROUTE_PROTOCOL}"


def _add_rule(key: LookupRule, table: int) -> Iterator[str]:
    yield _rule_line("add", key, table)


def _change_rule(key: LookupRule, old: int, new: int) -> Iterator[str]:
    yield _rule_line("add", key, new)
    yield _rule_line("del", key, old)


def _remove_rule(key: LookupRule, table: int) -> Iterator[str]:
    yield _rule_line("del", key, table)


def _announced_line(verb: str, cidr: Cidr, value: Announced | None) -> str:
    """value None: of ours, and not as it should be."""
    metric = f" metric {value.value}" if value else ""
    where = f"{cidr_text(cidr)} table {HANDOVER_TABLE} proto {ROUTE_PROTOCOL}{metric}"
    return f"{_ip(cidr.network)} route {verb} blackhole {where}"


def _announce(cidr: Cidr, value: Announced) -> Iterator[str]:
    yield _announced_line("add", cidr, value)


def _announce_otherwise(cidr: Cidr, old: Announced | None, new: Announced) -> Iterator[str]:
    yield _announced_line("add", cidr, new)
    yield _announced_line("del", cidr, old)


def _withdraw(cidr: Cidr, value: Announced | None) -> Iterator[str]:
    yield _announced_line("del", cidr, value)


# -- all of them -----------------------------------------------------------------------------------------------------

NOTATIONS: Mapping[str, Notation] = {
    "bgp": Notation(speaker_key, add_speaker, change_speaker, remove_speaker),
    "pod bridges": Notation(str, _add_bridge, _change_bridge, _remove_link),
    "cni": Notation(str, _add_cni_file, _change_cni_file, _restore_cni_file),
    "gue ports": Notation(_listener_text, _add_listener, _change_listener, _remove_listener),
    "tunnels": Notation(str, _add_tunnel, _change_tunnel, _remove_link),
    "pod routes": Notation(_route_text, _add_pod_route, _change_pod_route, _remove_pod_route),
    "lookup rules": Notation(_source_text, _add_rule, _change_rule, _remove_rule),
    "announced": Notation(cidr_text, _announce, _announce_otherwise, _withdraw),
}
