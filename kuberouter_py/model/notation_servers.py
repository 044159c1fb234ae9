"""IPVS in ipvsadm's notation: virtual servers and destinations. As notation.py, which knows the table by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kuberouter_py.model.kernel import (
    ONE_PACKET,
    PERSISTENT,
    SCHED_FLAG_1,
    SCHED_FLAG_2,
    SCHED_FLAG_3,
    Destination,
    DestinationKey,
    Forwarding,
    MarkServerKey,
    Protocol,
    ServerKey,
    VirtualServer,
    address_text,
    family_of,
)
from kuberouter_py.model.notation_told import Notation

_SERVER_OPTION: Mapping[int, str] = {Protocol.TCP: "-t", Protocol.UDP: "-u", Protocol.SCTP: "--sctp-service"}
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
    return Protocol(protocol).name.lower() if protocol in Protocol.__members__.values() else str(protocol)


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


NOTATIONS: Mapping[str, Notation] = {
    "virtual servers": Notation(server_text, _add_server, _change_server, _remove_server),
}
