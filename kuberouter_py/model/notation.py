"""Keys and values of the kernel's tables in the notation of the tools that operators use: ipvsadm, ipset, ip, iptables.

`lines` shows a plan as commands that would do the same by hand; `key_text` names one key in a sentence. Text only:
what is really sent is the edges' business. Tables are known by the names that the controllers give them; those of one
tool are told in notation_servers.py, notation_sets.py, notation_links.py, notation_routing.py and notation_bgp.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from kuberouter_py.model import notation_links, notation_routing, notation_servers, notation_sets
from kuberouter_py.model.healthcheck import HealthCheck, HealthCheckPort
from kuberouter_py.model.kernel import Chain, MarkServerKey, VirtualServerKey
from kuberouter_py.model.notation_servers import endpoint_text
from kuberouter_py.model.notation_sets import BUILT_IN
from kuberouter_py.model.notation_told import Notation, only_new


class Difference(Protocol):
    """What a plan says of one table (ports.Plan): change holds (value there, value wanted)."""

    @property
    def add(self) -> Mapping[Any, Any]: ...
    @property
    def change(self) -> Mapping[Any, tuple[Any, Any]]: ...
    @property
    def remove(self) -> Mapping[Any, Any]: ...


def lines(plans: Mapping[str, Difference]) -> list[str]:
    """The commands of a plan, in its order: tables as given, additions and changes first, removals last and backwards.

    Within a table by key, so that two runs can be compared, and so that each line can be run after those before it.
    """
    found: list[str] = []
    for table, plan in plans.items():
        told = _NOTATIONS.get(table, _UNKNOWN)
        for key in sorted(plan.add.keys() | plan.change.keys(), key=_order):
            if key in plan.change:
                found += told.change(key, *plan.change[key])
            else:
                found += told.add(key, plan.add[key])
    for table, plan in reversed(list(plans.items())):
        told = _NOTATIONS.get(table, _UNKNOWN)
        for key in sorted(plan.remove, key=_order, reverse=True):
            found += told.remove(key, plan.remove[key])
    return found


def key_text(table: str, key: Any) -> str:
    """One key of that table in a sentence: "TCP 10.96.0.10:80", "krpy-svc-vips-4 10.96.0.10"."""
    return _NOTATIONS.get(table, _UNKNOWN).key(key)


def where_text(table: str, key: Any) -> str:
    """The same with the table: "routes: 10.96.0.10". key None: all of the table, by its name alone."""
    return table if key is None else f"{table}: {key_text(table, key)}"


def _order(key: Any) -> tuple[int, Any]:
    """IPv4 before IPv6 where a key is an address or starts with one, servers on a mark last, else as the key sorts."""
    if isinstance(key, MarkServerKey):
        return 32, key
    if isinstance(key, VirtualServerKey):
        return len(key.address), (key.address, key.protocol, key.port)
    if isinstance(key, Chain):  # jumps grow after, and go before, the chains that they lead to
        return int(key.chain in BUILT_IN), key
    return (len(key), key) if isinstance(key, bytes) else (0, key)


# -- sysctls ---------------------------------------------------------------------------------------------------------


def _add_sysctl(key: str, value: str) -> Iterator[str]:
    yield f"sysctl -w {key}={value}"  # with slashes: a link's name may have dots


def _remove_sysctl(key: str, value: str) -> Iterator[str]:
    yield f"sysctl -w {key}=FORMER  # now {value}; its value before us is given back"


# -- health checks ---------------------------------------------------------------------------------------------------


def _port_text(key: HealthCheckPort) -> str:
    return endpoint_text(key.address, key.port) if key.address else f"*:{key.port}"


def _add_health_check(key: HealthCheckPort, told: HealthCheck) -> Iterator[str]:
    yield f"listen {_port_text(key)}  # {told.service}: {told.local_endpoints} here"


def _remove_health_check(key: HealthCheckPort, _told: HealthCheck) -> Iterator[str]:
    yield f"close {_port_text(key)}"


# -- all of them -----------------------------------------------------------------------------------------------------


def _unknown(sign: str) -> Callable[..., Iterator[str]]:
    def told(key: Any, *values: Any) -> Iterator[str]:
        yield f"{sign} {key} {' -> '.join(map(str, values))}"

    return told


_UNKNOWN = Notation(str, _unknown("add"), _unknown("change"), _unknown("remove"))

_NOTATIONS: Mapping[str, Notation] = {
    "sysctls": Notation(str, _add_sysctl, only_new(_add_sysctl), _remove_sysctl),
    "health checks": Notation(_port_text, _add_health_check, only_new(_add_health_check), _remove_health_check),
    **notation_sets.NOTATIONS,
    **notation_links.NOTATIONS,
    **notation_servers.NOTATIONS,
    **notation_routing.NOTATIONS,
}
