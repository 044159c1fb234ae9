"""Keys and values of the kernel's tables in the notation of the tools that operators use: ipvsadm, ipset, ip, iptables.

`lines` shows a plan as commands that would do the same by hand; `key_text` names one key in a sentence. Text only:
what is really sent is the edges' business. Tables are known by the names that the controllers give them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from kuberouter_py.model.healthcheck import HealthCheck, HealthCheckPort
from kuberouter_py.model.kernel import (
    NOMATCH,
    ONE_PACKET,
    PERSISTENT,
    SCHED_FLAG_1,
    SCHED_FLAG_2,
    SCHED_FLAG_3,
    Address,
    Chain,
    Destination,
    DestinationKey,
    Diversion,
    Forwarding,
    IpSet,
    Link,
    MarkServerKey,
    MemberValue,
    PodAddress,
    Route,
    Rules,
    ServerKey,
    SetEntry,
    SetMember,
    VirtualServer,
    VirtualServerKey,
    address_text,
    family_of,
)
from kuberouter_py.model.kernel import (
    Protocol as IpProtocol,
)
from kuberouter_py.model.names import DIVERSION_PRIORITY, DIVERSION_TABLE, POD_TUNNELS, ROUTE_PROTOCOL
from kuberouter_py.model.notation_routing import NOTATIONS as _OF_ROUTER


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


class _Notation(NamedTuple):
    key: Callable[[Any], str]
    add: Callable[[Any, Any], Iterator[str]]
    change: Callable[[Any, Any, Any], Iterator[str]]
    remove: Callable[[Any, Any], Iterator[str]]


def _order(key: Any) -> tuple[int, Any]:
    """IPv4 before IPv6 where a key is an address or starts with one, servers on a mark last, else as the key sorts."""
    if isinstance(key, MarkServerKey):
        return 32, key
    if isinstance(key, VirtualServerKey):
        return len(key.address), (key.address, key.protocol, key.port)
    if isinstance(key, Chain):  # jumps grow after, and go before, the chains that they lead to
        return int(key.chain in _BUILT_IN), key
    return (len(key), key) if isinstance(key, bytes) else (0, key)


# -- virtual servers -------------------------------------------------------------------------------------------------

_SERVER_OPTION: Mapping[int, str] = {IpProtocol.TCP: "-t", IpProtocol.UDP: "-u", IpProtocol.SCTP: "--sctp-service"}
_FORWARDING = {Forwarding.MASQUERADE: "-m", Forwarding.TUNNEL: "-i", Forwarding.DIRECT_ROUTE: "-g"}
_FLAGS = {SCHED_FLAG_1: "flag-1", SCHED_FLAG_2: "flag-2", SCHED_FLAG_3: "flag-3"}
_NAMED_FLAGS = {
    "sh": {SCHED_FLAG_1: "sh-fallback", SCHED_FLAG_2: "sh-port"},
    "mh": {SCHED_FLAG_1: "mh-fallback", SCHED_FLAG_2: "mh-port"},
}


def endpoint_text(address: bytes, port: int) -> str:
    """ "10.96.0.10:80", "[fd00::10]:80"."""
    text = address_text(address)
    return f"[{text}]:{port}" if family_of(address) == 6 else f"{text}:{port}"


def server_text(key: ServerKey) -> str:
    """ "TCP 10.96.0.10:80", "FWM 5", "FWM 5 IPv6", as `ipvsadm -L` heads it."""
    if isinstance(key, MarkServerKey):
        return f"FWM {key.mark} IPv6" if key.family == 6 else f"FWM {key.mark}"
    return f"{protocol_text(key.protocol).upper()} {endpoint_text(key.address, key.port)}"


def server_option(key: ServerKey) -> str:
    """ "-t 10.96.0.10:80", "-f 5", "-f 5 -6": how ipvsadm is told of a server."""
    if isinstance(key, MarkServerKey):
        return f"-f {key.mark} -6" if key.family == 6 else f"-f {key.mark}"
    option = _SERVER_OPTION.get(key.protocol, f"protocol {key.protocol}")
    return f"{option} {endpoint_text(key.address, key.port)}"


def scheduling_options(scheduler: str, flags: int, timeout: int) -> str:
    """ "-s rr -p 10800"; also what only other people's servers have."""
    parts = ["-s", scheduler]
    if flags & PERSISTENT:
        parts.append(f"-p {timeout}")
    names = {**_FLAGS, **_NAMED_FLAGS.get(scheduler, {})}
    chosen = [name for bit, name in names.items() if flags & bit]
    if chosen:
        parts.append(f"-b {','.join(chosen)}")
    if flags & ONE_PACKET:
        parts.append("-o")
    return " ".join(parts)


def destination_option(key: DestinationKey, value: Destination | None = None) -> str:
    """ "-r 10.244.1.2:6443 -m -w 1"; without a value just which one."""
    where = f"-r {endpoint_text(key.address, key.port)}"
    return where if value is None else f"{where} {_FORWARDING[value.forwarding]} -w {value.weight}"


def protocol_text(protocol: int) -> str:
    """ "tcp", "udp", "sctp"; the number of any other."""
    return IpProtocol(protocol).name.lower() if protocol in IpProtocol.__members__.values() else str(protocol)


def _server_line(command: str, key: ServerKey, server: VirtualServer) -> str:
    return f"ipvsadm {command} {server_option(key)} {scheduling_options(*server[:3])}"


def _destination_line(command: str, key: ServerKey, where: DestinationKey, value: Destination | None) -> str:
    return f"ipvsadm {command} {server_option(key)} {destination_option(where, value)}"


def _add_server(key: ServerKey, server: VirtualServer) -> Iterator[str]:
    yield _server_line("-A", key, server)
    for where, value in sorted(server.destinations.items()):
        yield _destination_line("-a", key, where, value)


def _change_server(key: ServerKey, old: VirtualServer, new: VirtualServer) -> Iterator[str]:
    if old[:3] != new[:3]:
        yield _server_line("-E", key, new)
    for where, value in sorted(new.destinations.items()):
        before = old.destinations.get(where)
        if before != value:
            yield _destination_line("-a" if before is None else "-e", key, where, value)
    for where in sorted(old.destinations.keys() - new.destinations.keys()):
        yield _destination_line("-d", key, where, None)


def _remove_server(key: ServerKey, _server_there: VirtualServer) -> Iterator[str]:
    yield f"ipvsadm -D {server_option(key)}"


# -- ipsets ----------------------------------------------------------------------------------------------------------


def set_text(name: str, header: IpSet) -> str:
    """ "create krpy-svc-vips-4 hash:ip family inet maxelem 1048576", as `ipset save` has it."""
    family = "inet" if header.family == 4 else "inet6"
    type_name, _, options = header.type.partition(" ")
    return f"create {name} {type_name} family {family} maxelem {header.maxelem} {options}".rstrip()


def _add_set(name: str, header: IpSet) -> Iterator[str]:
    yield f"ipset {set_text(name, header)}"


def _change_set(name: str, _old: IpSet, new: IpSet) -> Iterator[str]:
    """A header cannot be changed: a new set takes the old one's place, and with it its name."""
    yield from _add_set(f"{name}-new", new)
    yield f"ipset swap {name}-new {name}"
    yield f"ipset destroy {name}-new"


def _remove_set(name: str, _header: IpSet) -> Iterator[str]:
    yield f"ipset destroy {name}"


def entry_text(entry: SetEntry) -> str:
    """ "10.96.0.10", "10.96.0.10,tcp:80", "10.244.1.2,tcp:80,10.244.1.2", "10.0.0.0/8"."""
    prefix = f"/{entry.prefix}" if entry.prefix >= 0 else ""
    text = address_text(entry.address)
    if not entry.address2:
        text += prefix
    if entry.protocol:
        text += f",{protocol_text(entry.protocol)}:{entry.port}"
    return f"{text},{address_text(entry.address2)}{prefix}" if entry.address2 else text


def _member_text(member: SetMember) -> str:
    return f"{member.set} {entry_text(member.entry)}"


def _add_member(member: SetMember, held: MemberValue) -> Iterator[str]:
    yield f"ipset add {_member_text(member)}{_held_text(held)}"


def _change_member(member: SetMember, _old: MemberValue, held: MemberValue) -> Iterator[str]:
    yield f"ipset add -exist {_member_text(member)}{_held_text(held)}"


def _held_text(held: MemberValue) -> str:
    if held is None:
        return ""
    return " nomatch" if held is NOMATCH else f" skbmark 0x{held:x}"


def _remove_member(member: SetMember, _held: MemberValue) -> Iterator[str]:
    yield f"ipset del {_member_text(member)}"


# -- addresses, routes, links ----------------------------------------------------------------------------------------


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


# -- iptables --------------------------------------------------------------------------------------------------------

# The chains that the kernel has itself; of them only our jumps are meant.
_BUILT_IN = frozenset({"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"})


def _iptables(key: Chain) -> str:
    return f"{'iptables' if key.family == 4 else 'ip6tables'} -t {key.table}"


def _chain_text(key: Chain) -> str:
    return f"{_iptables(key)} {key.chain}"


def _add_chain(key: Chain, rules: Rules) -> Iterator[str]:
    if key.chain in _BUILT_IN:
        yield from _insert_jumps(key, rules)
    else:
        yield f"{_iptables(key)} -N {key.chain}"
        yield from _append_rules(key, rules)


def _change_chain(key: Chain, old: Rules, new: Rules) -> Iterator[str]:
    if key.chain in _BUILT_IN:
        yield from _remove_chain(key, old)
        yield from _insert_jumps(key, new)
    else:
        yield f"{_iptables(key)} -F {key.chain}"
        yield from _append_rules(key, new)


def _remove_chain(key: Chain, rules: Rules) -> Iterator[str]:
    if key.chain in _BUILT_IN:
        for rule in rules.rules:
            yield f"{_iptables(key)} -D {key.chain} {rule}"
    else:
        yield f"{_iptables(key)} -F {key.chain}"
        yield f"{_iptables(key)} -X {key.chain}"


def _insert_jumps(key: Chain, rules: Rules) -> Iterator[str]:
    if not rules.first:
        yield from _append_rules(key, rules)
        return
    for number, rule in enumerate(rules.rules, 1):
        yield f"{_iptables(key)} -I {key.chain} {number} {rule}"


def _append_rules(key: Chain, rules: Rules) -> Iterator[str]:
    for rule in rules.rules:
        yield f"{_iptables(key)} -A {key.chain} {rule}"


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


def _only_new(add: Callable[[Any, Any], Iterator[str]]) -> Callable[[Any, Any, Any], Iterator[str]]:
    """For tables where writing the new value over the old is one and the same command."""
    return lambda key, _old, new: add(key, new)


def _unknown(sign: str) -> Callable[..., Iterator[str]]:
    def told(key: Any, *values: Any) -> Iterator[str]:
        yield f"{sign} {key} {' -> '.join(map(str, values))}"

    return told


_UNKNOWN = _Notation(str, _unknown("add"), _unknown("change"), _unknown("remove"))

_NOTATIONS: Mapping[str, _Notation] = {
    "sysctls": _Notation(str, _add_sysctl, _only_new(_add_sysctl), _remove_sysctl),
    "ipsets": _Notation(str, _add_set, _change_set, _remove_set),
    "set members": _Notation(_member_text, _add_member, _change_member, _remove_member),
    "iptables": _Notation(_chain_text, _add_chain, _change_chain, _remove_chain),
    "links": _Notation(str, _add_link, _change_link, _remove_link),
    "bridge ports": _Notation(str, _add_hairpin, _only_new(_add_hairpin), _remove_hairpin),
    "pod addresses": _Notation(
        _pod_address_text, _pod_address("add"), _only_new(_pod_address("add")), _pod_address("del")
    ),
    "diversions": _Notation(lambda family: f"IPv{family} marks", _add_diversion, _change_diversion, _remove_diversion),
    "virtual servers": _Notation(server_text, _add_server, _change_server, _remove_server),
    "addresses": _Notation(_address_text, _add_address, _only_new(_add_address), _remove_address),
    "routes": _Notation(address_text, _add_route, _only_new(_add_route), _remove_route),
    "health checks": _Notation(_port_text, _add_health_check, _only_new(_add_health_check), _remove_health_check),
    **{table: _Notation(*told) for table, told in _OF_ROUTER.items()},
}
