"""IPVS in words as `ipvsadm -Sn` has them: foreign servers for `status`, and the reason of a refusal.

Unlike model/notation.py, which prints plans of ours, it has words for what only other people's servers have.
"""

from __future__ import annotations

from kuberouter_py.kernel.ipvs_codec import ONE_PACKET, Service
from kuberouter_py.model.kernel import (
    PERSISTENT,
    SCHED_FLAG_1,
    SCHED_FLAG_2,
    SCHED_FLAG_3,
    Destination,
    DestinationKey,
    Forwarding,
    Protocol,
    VirtualServer,
    VirtualServerKey,
)
from kuberouter_py.model.notation import endpoint_text

_LETTERS: dict[int, str] = {Protocol.TCP: "-t", Protocol.UDP: "-u", Protocol.SCTP: "--sctp-service"}
_METHODS = {Forwarding.MASQUERADE: "-m", Forwarding.TUNNEL: "-i", Forwarding.DIRECT_ROUTE: "-g"}
_SCHED_FLAGS = {
    "sh": {SCHED_FLAG_1: "sh-fallback", SCHED_FLAG_2: "sh-port"},
    "mh": {SCHED_FLAG_1: "mh-fallback", SCHED_FLAG_2: "mh-port"},
}


def key_text(key: VirtualServerKey) -> str:
    """ "-t 10.96.0.1:443", as ipvsadm -Sn names a server."""
    letter = _LETTERS.get(key.protocol, f"protocol {key.protocol}")
    return f"{letter} {endpoint_text(key.address, key.port)}"


def server_text(key: VirtualServerKey, scheduler: str, flags: int, timeout: int) -> str:
    """ "-A -t 10.96.0.1:443 -s rr -p 10800"."""
    return f"-A {key_text(key)} {_options(scheduler, flags, timeout)}"


def mark_text(service: Service) -> str:
    """ "-A -f 5 -s rr", with -6 for IPv6."""
    family = " -6" if service.family == 6 else ""
    return f"-A -f {service.mark}{family} {_options(service.scheduler, service.flags, service.timeout)}"


def destination_text(server: VirtualServerKey, key: DestinationKey, destination: Destination) -> str:
    """ "-a -t 10.96.0.1:443 -r 10.244.1.2:6443 -m -w 1"."""
    where = endpoint_text(key.address, key.port)
    return f"-a {key_text(server)} -r {where} {_METHODS[destination.forwarding]} -w {destination.weight}"


def server_lines(key: VirtualServerKey, server: VirtualServer) -> list[str]:
    """The server and its destinations, in order of address and port."""
    lines = [server_text(key, server.scheduler, server.flags, server.timeout)]
    return lines + [destination_text(key, *each) for each in sorted(server.destinations.items())]


def _options(scheduler: str, flags: int, timeout: int) -> str:
    parts = ["-s", scheduler]
    if flags & PERSISTENT:
        parts += ["-p", str(timeout)]
    names = _SCHED_FLAGS.get(scheduler, {})
    bits = (SCHED_FLAG_1, SCHED_FLAG_2, SCHED_FLAG_3)
    chosen = [names.get(bit, f"flag-{number}") for number, bit in enumerate(bits, 1) if flags & bit]
    if chosen:
        parts += ["-b", ",".join(chosen)]
    if flags & ONE_PACKET:
        parts.append("-o")
    return " ".join(parts)
