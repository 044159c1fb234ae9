"""Keys and values of the router's tables in the notation of the tools: ip. As notation.py, which knows them by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kuberouter_py.model.kernel import address_text
from kuberouter_py.model.names import POD_BRIDGE_ALIAS, TUNNEL_ALIAS
from kuberouter_py.model.notation_bgp import add_speaker, change_speaker, remove_speaker, speaker_key
from kuberouter_py.model.podnet import CniFile, Listener, PodBridge, Tunnel

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


# -- all of them: how a key is told, and what adds, changes and removes it --------------------------------------------

Told = tuple[
    Callable[[Any], str],
    Callable[[Any, Any], Iterator[str]],
    Callable[[Any, Any, Any], Iterator[str]],
    Callable[[Any, Any], Iterator[str]],
]

NOTATIONS: Mapping[str, Told] = {
    "bgp": (speaker_key, add_speaker, change_speaker, remove_speaker),
    "pod bridges": (str, _add_bridge, _change_bridge, _remove_link),
    "cni": (str, _add_cni_file, _change_cni_file, _restore_cni_file),
    "gue ports": (_listener_text, _add_listener, _change_listener, _remove_listener),
    "tunnels": (str, _add_tunnel, _change_tunnel, _remove_link),
}
