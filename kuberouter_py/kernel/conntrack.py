"""Connection tracking: the flows that the kernel remembers, and forgetting some of them.

Which of them are stale or forbidden is decided elsewhere (controllers/). Layouts: include/uapi/linux/netfilter/
nfnetlink_conntrack.h; what a command needs: net/netfilter/nf_conntrack_netlink.c. Where ip_vs forwards a flow, the
source of the reply is the endpoint: the entry tells who answers.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from errno import ENOENT, EPROTONOSUPPORT

from kuberouter_py.kernel import netlink
from kuberouter_py.kernel.netlink import Batch, NetlinkError
from kuberouter_py.model.kernel import Flow, Protocol
from kuberouter_py.ports import Unavailable

NETLINK_NETFILTER = 12
_SUBSYSTEM = 1 << 8  # NFNL_SUBSYS_CTNETLINK
_GET, _DELETE = 1, 2

_ORIGINAL, _REPLY, _ID, _ZONE, _FILTER = 1, 2, 12, 18, 25  # CTA_*
_IP, _PROTO = 1, 2  # CTA_TUPLE_*
_ADDRESSES = {4: (1, 2), 16: (3, 4)}  # CTA_IP_V4_SRC, _DST, CTA_IP_V6_SRC, _DST
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3  # CTA_PROTO_*
# Which parts of the tuple a dump is filtered by (CTA_FILTER_ORIG_FLAGS, _REPLY_FLAGS; Linux 5.8). An older kernel does
# not know the attribute and tells everything.
_FILTER_FLAGS, _BY_PROTOCOL = struct.pack("=HHIHHI", 8, 1, 1 << 3, 8, 2, 0), netlink.u8(_NUMBER, Protocol.UDP)
_SERVED = frozenset(Protocol)
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


class Conntrack:
    """ports.Flows, and ports.TrackedFlows."""

    def __init__(self) -> None:
        self._batch = Batch(NETLINK_NETFILTER)

    @property
    def sent(self) -> int:
        """Netlink messages sent since the start."""
        return self._batch.sent

    def udp_flows(self, family: int) -> Iterator[Flow]:
        """Every UDP flow of that family, as it is now. Raises Unavailable without nf_conntrack_netlink."""
        request = _message(
            _GET,
            family,
            netlink.nested(_ORIGINAL, netlink.nested(_PROTO, _BY_PROTOCOL)),
            netlink.attribute(_FILTER | netlink.NLA_F_NESTED, _FILTER_FLAGS),
        )
        for payload in _asked(self._batch, request):
            flow = parse_flow(payload)
            if flow is not None and flow.protocol == Protocol.UDP:
                yield flow

    def flows(self, family: int) -> Iterator[Flow]:
        """The same of TCP, UDP and SCTP."""
        for payload in _asked(self._batch, _message(_GET, family)):
            flow = parse_flow(payload)
            if flow is not None and flow.protocol in _SERVED:
                yield flow

    def forget(self, flows: Iterable[Flow]) -> None:
        """Delete just these entries, if they are still the same. Raises EdgeError for the first that stays."""
        messages = [delete(flow) for flow in flows]
        for _, number in sorted(self._batch.send(messages).items()):
            if number != ENOENT:
                raise NetlinkError(number, "deleting a conntrack entry")

    def close(self) -> None:
        self._batch.close()


def _asked(batch: Batch, request: bytes) -> Iterable[memoryview]:
    try:
        return batch.dump(request)
    except NetlinkError as error:
        if error.errno in (EPROTONOSUPPORT, ENOENT):
            raise Unavailable("this kernel does not tell its tracked connections (nf_conntrack_netlink)") from error
        raise


def delete(flow: Flow) -> bytes:
    """The message that deletes this entry: by its tuple and its identity, which a later one with that tuple has not
    (unless it came to lie in the same memory: the kernel makes it from the address).
    """
    parts = [_tuple(flow), netlink.be32(_ID, flow.identity)]
    if flow.zone:
        parts.append(netlink.be16(_ZONE, flow.zone))
    return _message(_DELETE, 4 if len(flow.source) == 4 else 6, *parts)


def parse_flow(payload: memoryview) -> Flow | None:
    """One answer to _GET; None for what is no flow between ports. Raises ValueError for bytes that are none."""
    found = netlink.attributes(payload, 4)
    if _ORIGINAL not in found or _REPLY not in found:
        raise ValueError("a tracked connection without its tuples")
    original, reply = _parse_tuple(found[_ORIGINAL]), _parse_tuple(found[_REPLY])
    if original is None or reply is None:
        return None
    protocol, source, source_port, destination, port = original
    return Flow(
        protocol=protocol,
        source=source,
        source_port=source_port,
        destination=destination,
        port=port,
        answers=reply[1],
        answers_port=reply[2],
        identity=int.from_bytes(found[_ID], "big") if _ID in found else 0,
        zone=int.from_bytes(found[_ZONE], "big") if _ZONE in found else 0,
    )


def _parse_tuple(data: memoryview) -> tuple[int, bytes, int, bytes, int] | None:
    """Protocol, source address and port, destination address and port."""
    parts = netlink.attributes(data)
    ip, proto = netlink.attributes(parts.get(_IP, _NOTHING)), netlink.attributes(parts.get(_PROTO, _NOTHING))
    if _NUMBER not in proto or _SOURCE_PORT not in proto or _DESTINATION_PORT not in proto:
        return None
    for source, destination in _ADDRESSES.values():
        if source in ip and destination in ip:
            ports = (int.from_bytes(proto[kind], "big") for kind in (_SOURCE_PORT, _DESTINATION_PORT))
            source_port, port = ports
            return proto[_NUMBER][0], bytes(ip[source]), source_port, bytes(ip[destination]), port
    return None


_NOTHING = memoryview(b"")


def _tuple(flow: Flow) -> bytes:
    source, destination = _ADDRESSES[len(flow.source)]
    return netlink.nested(
        _ORIGINAL,
        netlink.nested(_IP, netlink.attribute(source, flow.source), netlink.attribute(destination, flow.destination)),
        netlink.nested(
            _PROTO,
            netlink.u8(_NUMBER, flow.protocol),
            netlink.be16(_SOURCE_PORT, flow.source_port),
            netlink.be16(_DESTINATION_PORT, flow.port),
        ),
    )


def _message(command: int, family: int, *parts: bytes) -> bytes:
    """struct nfgenmsg: address family, version 0, resource id 0."""
    return netlink.message(_SUBSYSTEM | command, 0, struct.pack("=BBH", _FAMILIES[family], 0, 0), *parts)
