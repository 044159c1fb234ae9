"""The CNI configuration: what this node's file shall say, from what it says. Pure; which file that is, and the writing
of it, is left to others.

The pods' addresses come from host-local, which gives a pod one address out of each *set* of ranges; so each family is a
set. What the file says besides is kept, key for key and in its order.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from ipaddress import ip_network
from typing import Any, Final, NamedTuple

from kuberouter_py.model.cluster import Cidr
from kuberouter_py.model.names import POD_BRIDGE
from kuberouter_py.model.podnet import CniSeen
from kuberouter_py.model.values import cidr_text

# host-local keeps its reservations below this name: kube-router's manifests have it, and so what their pods hold stays
# theirs.
_NETWORK: Final = "mynet"
# The newest that every supported runtime knows.
_VERSION: Final = "0.4.0"
_RANGE_KEYS: Final = ("subnet", "rangeStart", "rangeEnd", "gateway")  # of one range, which may stand in ipam itself


class Completion(NamedTuple):
    """text: the file as it shall be, the very same where nothing is missing; None: not to be written. reason: what was
    not done, and why. bridge: the link that the file names.
    """

    text: str | None
    reason: str = ""
    bridge: str = POD_BRIDGE


class _Left(Exception):
    """The file is left as it is; the message says why."""


def complete(seen: CniSeen, suffix: str, pod_cidrs: Sequence[Cidr], mtu: int) -> Completion:
    """suffix: ".conflist", or ".conf" for a single plugin. pod_cidrs: this node's. mtu: 0: none of our business.

    A range that is only there by us goes when it is no longer this node's.
    """
    cidrs = [cidr_text(cidr) for cidr in pod_cidrs]
    there = seen.there
    if not cidrs:
        return Completion(there, "this node has no pod CIDR")
    if there is None:
        return Completion(_text(_template(suffix, cidrs, mtu)))
    try:
        document, plugin = _read(there, suffix)
        told = json.dumps(document)
        stale = _ranges(seen.ours, suffix) - _ranges(seen.before, suffix) - {*cidrs}
        reason = _complete_plugin(plugin, cidrs, mtu, stale)
    except _Left as left:
        return Completion(None, str(left))
    changed = json.dumps(document) != told
    return Completion(_text(document) if changed else there, reason, str(plugin.get("bridge") or "cni0"))


def _text(document: Any) -> str:
    return json.dumps(document, indent=2) + "\n"


def _template(suffix: str, cidrs: Sequence[str], mtu: int) -> dict[str, Any]:
    ipam: dict[str, Any] = {"type": "host-local", "ranges": []}
    _add_ranges(ipam["ranges"], cidrs, cidrs)
    bridge: dict[str, Any] = {
        "type": "bridge",
        "bridge": POD_BRIDGE,
        "isDefaultGateway": True,
        # A node that is made anew under its name gets another pod CIDR; the bridge may still have the former address.
        "forceAddress": True,
        "hairpinMode": True,
        **({"mtu": mtu} if mtu else {}),
        "ipam": ipam,
    }
    if suffix != ".conflist":
        return {"cniVersion": _VERSION, "name": _NETWORK, **bridge}
    portmap = {"type": "portmap", "capabilities": {"portMappings": True, "snat": True}}
    return {"cniVersion": _VERSION, "name": _NETWORK, "plugins": [bridge, portmap]}


# -- what is there -----------------------------------------------------------------------------------------------------


def _read(text: str, suffix: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The document, and the bridge plugin in it. Raises _Left."""
    try:
        text.encode()
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _Left(f"it is no JSON in UTF-8: {error}") from error
    if not isinstance(document, dict):
        raise _Left("it is no JSON object")
    plugins = document.get("plugins") if suffix == ".conflist" else [document]
    if not isinstance(plugins, list):
        raise _Left('it has no list "plugins"')
    for plugin in plugins:
        if isinstance(plugin, dict) and plugin.get("type") == "bridge":
            return document, plugin
    raise _Left("it has no plugin of type bridge")


def _complete_plugin(plugin: dict[str, Any], cidrs: Sequence[str], mtu: int, stale: Set[str]) -> str:
    """Why its ranges stay as they are; "" where they do not. Raises _Left."""
    ipam = plugin.get("ipam", {})
    if not isinstance(ipam, dict):
        raise _Left('its "ipam" is no JSON object')
    kind = ipam.get("type", "host-local")
    if kind != "host-local":
        if mtu:
            plugin["mtu"] = mtu
        return f"addresses are given by {kind}, not by host-local: its ranges are left as they are"
    ranges = ipam.get("ranges", [])
    if not _are_ranges(ranges):
        raise _Left('the "ranges" of its ipam are no list of lists of objects with a "subnet"')
    if mtu:
        plugin["mtu"] = mtu
    ipam.setdefault("type", "host-local")
    if "subnet" in ipam:
        if not isinstance(ipam["subnet"], str):
            raise _Left('the "subnet" of its ipam is no text')
        inline = {key: ipam.pop(key) for key in _RANGE_KEYS if key in ipam}
        if _network(inline["subnet"]) not in map(_network, _subnets(ranges)):
            ranges.insert(0, [inline])
    present = {*map(_network, _subnets(ranges))}
    missing = [cidr for cidr in cidrs if cidr not in present]
    if stale & present:
        plugin.setdefault("forceAddress", True)  # as in the template
    _replace(ranges, missing, stale)
    _add_ranges(ranges, missing, cidrs)
    ipam["ranges"] = ranges
    plugin["ipam"] = ipam
    return ""


def _are_ranges(ranges: Any) -> bool:
    return isinstance(ranges, list) and all(
        isinstance(each, list) and all(isinstance(one, dict) and isinstance(one.get("subnet"), str) for one in each)
        for each in ranges
    )


def _subnets(ranges: Iterable[Iterable[dict[str, Any]]]) -> Iterator[str]:
    return (one["subnet"] for each in ranges for one in each)


def _network(text: str) -> str:
    """As it is compared: "fd00:0::/64" is "fd00::/64". What is no network is equal to itself."""
    try:
        return str(ip_network(text, strict=False))
    except ValueError:
        return text


def _family(text: str) -> int:
    return 6 if ":" in text else 4


def _ranges(text: str, suffix: str) -> set[str]:
    """The subnets of a file of former days; none where it cannot be read."""
    try:
        _, plugin = _read(text, suffix)
    except _Left:
        return set()
    ipam = plugin.get("ipam")
    ranges = ipam.get("ranges", []) if isinstance(ipam, dict) else []
    inline = [ipam["subnet"]] if isinstance(ipam, dict) and isinstance(ipam.get("subnet"), str) else []
    return {*map(_network, inline), *(map(_network, _subnets(ranges)) if _are_ranges(ranges) else ())}


# -- what it shall be --------------------------------------------------------------------------------------------------


def _replace(ranges: list[list[dict[str, Any]]], missing: list[str], gone: Collection[str]) -> None:
    """A range that is no longer ours makes room for one that is missing, of its family, or goes. Takes from `missing`
    what found its place.
    """
    for each in ranges:
        for at, one in reversed([*enumerate(each)]):
            if _network(one["subnet"]) not in gone:
                continue
            new = next((cidr for cidr in missing if _family(cidr) == _family(one["subnet"])), None)
            if new is None:
                del each[at]
            else:
                each[at] = {"subnet": new}
                missing.remove(new)
    ranges[:] = [each for each in ranges if each]


def _add_ranges(ranges: list[list[dict[str, Any]]], missing: Iterable[str], wanted: Collection[str]) -> None:
    """To the set that has one of the same family already, of those that are wanted."""
    sets = {_family(one["subnet"]): each for each in ranges for one in each if _network(one["subnet"]) in wanted}
    for cidr in missing:
        if _family(cidr) not in sets:
            sets[_family(cidr)] = []
            ranges.append(sets[_family(cidr)])
        sets[_family(cidr)].append({"subnet": cidr})
