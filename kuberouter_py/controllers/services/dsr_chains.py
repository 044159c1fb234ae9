"""The fixed rules of direct server return, there while a Service asks for it: O(1) in Services. Pure.

Its addresses are not local (dsr.py says why), so packets to them get a mark before routing, and a policy rule leads
what is marked in. ip_vs then looks for a virtual server on that mark. docs/kernel.md draws the hooks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kuberouter_py.model.names import DIVERTED_MARK, services_set

FRONTENDS, VIPS = "dsr", "dsrvips"

SET_TYPES = {
    # address and port -> mark: of the virtual server whose destinations answer by themselves; DIVERTED_MARK where the
    # port is masqueraded as usual
    FRONTENDS: "hash:ip,port skbinfo",
    VIPS: "hash:ip",  # their addresses
}

# What an address that pods answer from must hear of: errors about their answers. ip_vs passes them on.
_ERRORS = {
    4: tuple(
        f"-p icmp -m icmp --icmp-type {kind}"
        for kind in ("destination-unreachable", "time-exceeded", "parameter-problem")
    ),
    6: tuple(
        f"-p ipv6-icmp -m icmp6 --icmpv6-type {kind}"
        for kind in ("destination-unreachable", "packet-too-big", "time-exceeded", "parameter-problem")
    ),
}
# What one more IP header around a full segment takes from it: the outer header, the inner one, TCP's.
_HEADERS = {4: 20 + 20 + 20, 6: 40 + 40 + 20}
_LEAST_MSS = {4: 536, 6: 1220}  # what every host takes: 576 and 1280 less IP's and TCP's headers (RFC 9293, RFC 8200)


def marks(family: int) -> Iterator[str]:
    """mangle PREROUTING, so that it is routed in; and INPUT and OUTPUT, because ip_vs compares the whole mark."""
    frontends = services_set(FRONTENDS, family)
    yield f"-m set --match-set {frontends} dst,dst -j SET --map-set {frontends} dst,dst --map-mark"
    for error in _ERRORS[family]:
        match = f"-m set --match-set {services_set(VIPS, family)} dst"
        yield f"{error} {match} -j MARK --set-xmark 0x{DIVERTED_MARK:x}/0xffffffff"


def segment_size(family: int, mtu: int) -> str:
    """mangle FORWARD of the pod's node: its SYN,ACK tells the client how much to send, and that comes by the tunnel."""
    size = max(mtu - _HEADERS[family], _LEAST_MSS[family])
    match = f"-m set --match-set {services_set(FRONTENDS, family)} src,src"
    return f"-p tcp -m tcp --tcp-flags SYN,RST SYN {match} -j TCPMSS --set-mss {size}"


def answers(family: int, uplinks: Iterable[str]) -> Iterator[str]:
    """filter FORWARD: answers of this node's pods. conntrack has not seen the question, which came in a tunnel, and
    takes them for NEW or INVALID. Only what begins a TCP connection is none, nor is what comes in by an uplink.
    """
    match = f"-m set --match-set {services_set(FRONTENDS, family)} src,src"
    for link in uplinks:
        yield f"-i {link} {match} -j RETURN"
    yield f"-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN {match} -j ACCEPT"
    yield f"! -p tcp {match} -j ACCEPT"


def refuse_rest(family: int, reject: str) -> str:
    """filter FORWARD and OUTPUT: what is not led in would go out again, and come back from the router for ever."""
    return f"-m set --match-set {services_set(VIPS, family)} dst -j REJECT --reject-with {reject}"
