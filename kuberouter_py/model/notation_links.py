"""Links, addresses, routes and diversions in ip's notation. As notation.py, which knows the tables by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from kuberouter_py.model.kernel import Address, Diversion, Link, PodAddress, Route, address_text, family_of
from kuberouter_py.model.names import DIVERSION_PRIORITY, DIVERSION_TABLE, POD_TUNNELS, ROUTE_PROTOCOL
from kuberouter_py.model.notation_told import Notation, only_new

# -- addresses and routes --------------------------------------------------------------------------------------------


def _ip(address: bytes) -> str:
    return "ip" if family_of(address) == 4 else "ip -6"


def _prefixed(address: bytes) -> str:
    return f"{address_text(address)}/{8 * len(address)}"


def _add_address(key: Address, _value: None) -> Iterator[str]:
    nodad = " nodad" if family_of(key.address) == 6 else ""  # nobody else has a VIP: nothing to detect
    yield f"{_ip(key.address)} address add {_prefixed(key.address)} dev {key.link}{nodad}"


def _remove_address(key: Address, _value: None) -> Iterator[str]:
    yield f"{_ip(key.address)} address del {_prefixed(key.address)} dev {key.link}"


def _address_text(key: Address) -> str:
    return f"{_prefixed(key.address)} dev {key.link}"


def _add_route(address: bytes, route: Route) -> Iterator[str]:
    source = f" src {address_text(route.source)}" if route.source else ""
    yield f"{_ip(address)} route replace local {address_text(address)} dev {route.link} table local{source}"


def _remove_route(address: bytes, route: Route) -> Iterator[str]:
    yield f"{_ip(address)} route del local {address_text(address)} dev {route.link} table local"


# -- direct server return --------------------------------------------------------------------------------------------


def _rule(family: int, verb: str, diversion: Diversion) -> str:
    return (
        f"ip -{family} rule {verb} fwmark 0x{diversion.mark:x}/0x{diversion.mask:x} lookup {DIVERSION_TABLE} "
        f"pref {DIVERSION_PRIORITY} protocol {ROUTE_PROTOCOL}"
    )


def _add_diversion(family: int, diversion: Diversion) -> Iterator[str]:
    yield f"ip -{family} route replace local default dev lo table {DIVERSION_TABLE} proto {ROUTE_PROTOCOL}"
    yield _rule(family, "add", diversion)


def _change_diversion(family: int, old: Diversion, new: Diversion) -> Iterator[str]:
    yield from _add_diversion(family, new)
    yield _rule(family, "del", old)


def _remove_diversion(family: int, diversion: Diversion) -> Iterator[str]:
    yield _rule(family, "del", diversion)
    yield f"ip -{family} route del local default dev lo table {DIVERSION_TABLE} proto {ROUTE_PROTOCOL}"


def _pod_address_text(key: PodAddress) -> str:
    return f"{address_text(key.address) if key.address else 'a tunnel'} in pod {key.uid} ({address_text(key.pod)})"


def _pod_address(verb: str) -> Callable[[PodAddress, None], Iterator[str]]:
    """Where it is run is inside the pod: said behind, as a comment."""

    def told(key: PodAddress, _value: None) -> Iterator[str]:
        address = address_text(key.address) if key.address else "none"
        link = POD_TUNNELS[family_of(key.pod)]
        yield f"ip address {verb} {address}/{8 * len(key.pod)} dev {link}  # in pod {key.uid} ({address_text(key.pod)})"

    return told


# -- links -----------------------------------------------------------------------------------------------------------


def _add_link(name: str, link: Link) -> Iterator[str]:
    yield f"ip link add {name} type {link.kind}"
    yield _alias(name, link)
    if link.up:
        yield f"ip link set {name} up"


def _change_link(name: str, old: Link, new: Link) -> Iterator[str]:
    if old.kind != new.kind:
        yield f"ip link del {name}"
        yield from _add_link(name, new)
        return
    if old.alias != new.alias:
        yield _alias(name, new)
    if old.up != new.up:
        yield f"ip link set {name} {'up' if new.up else 'down'}"


def _alias(name: str, link: Link) -> str:
    return f'ip link set {name} alias "{link.alias}"'


def _remove_link(name: str, _link: Link) -> Iterator[str]:
    yield f"ip link del {name}"


def _add_hairpin(port: str, on: bool) -> Iterator[str]:
    yield f"bridge link set dev {port} hairpin {'on' if on else 'off'}"


def _remove_hairpin(port: str, _on: bool) -> Iterator[str]:
    yield f"bridge link set dev {port} hairpin off"


# -- all of them -----------------------------------------------------------------------------------------------------

NOTATIONS: Mapping[str, Notation] = {
    "links": Notation(str, _add_link, _change_link, _remove_link),
    "bridge ports": Notation(str, _add_hairpin, only_new(_add_hairpin), _remove_hairpin),
    "pod addresses": Notation(
        _pod_address_text, _pod_address("add"), only_new(_pod_address("add")), _pod_address("del")
    ),
    "diversions": Notation(lambda family: f"IPv{family} marks", _add_diversion, _change_diversion, _remove_diversion),
    "addresses": Notation(_address_text, _add_address, only_new(_add_address), _remove_address),
    "routes": Notation(address_text, _add_route, only_new(_add_route), _remove_route),
}
