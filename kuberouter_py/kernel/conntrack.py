"""Connection tracking: the flows that the kernel remembers, and forgetting some of them.

Which flows are stale, or no longer allowed, is decided elsewhere (controllers/). Layouts: include/uapi/linux/netfilter/
nfnetlink_conntrack.h; what a command needs: net/netfilter/nf_conntrack_netlink.c. Where ip_vs forwards a flow, the
source of the reply is the endpoint: the entry tells who answers.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from errno import EINVAL, ENOENT, EOPNOTSUPP, EPROTONOSUPPORT

from kuberouter_py.kernel import netlink
from kuberouter_py.kernel.netlink_socket import Batch, NetlinkError
from kuberouter_py.model.kernel import Flow, Protocol
from kuberouter_py.ports import EdgeError, Unavailable

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
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_PROTOCOLS = frozenset(Protocol)
_Tuples = tuple[int, bytes, int, bytes, int, int, bytes, int, bytes, int]


class Conntrack:
    """ports.Flows and ports.TrackedFlows."""

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
        """Every TCP, UDP and SCTP flow of that family, read a piece at a time: there may be a million. What changes
        meanwhile may be missed or told twice. Raises Unavailable without nf_conntrack_netlink.
        """
        batch = Batch(NETLINK_NETFILTER)
        try:
            for page in batch.pages(_message(_GET, family)):
                for payload in page:
                    flow = parse_flow(payload)
                    if flow is not None and flow.protocol in _PROTOCOLS:
                        yield flow
        except NetlinkError as error:
            raise _told(error) from error
        finally:
            batch.close()

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
        raise _told(error) from error


def _told(error: NetlinkError) -> EdgeError:
    if error.errno in (EPROTONOSUPPORT, ENOENT, EINVAL, EOPNOTSUPP):
        return Unavailable("this kernel does not tell its tracked connections (nf_conntrack_netlink)")
    return error


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
    usual = _parse_usual(payload)
    if usual is not None:
        tuples, found = usual
    else:
        found = netlink.attributes(payload, 4)
        if _ORIGINAL not in found or _REPLY not in found:
            raise ValueError("a tracked connection without its tuples")
        original, reply = _parse_tuple(found[_ORIGINAL]), _parse_tuple(found[_REPLY])
        if original is None or reply is None:
            return None
        tuples = original + reply
    protocol, source, source_port, destination, port, _, answers, answers_port, replies_to, replies_to_port = tuples
    return Flow(
        protocol=protocol,
        source=source,
        source_port=source_port,
        destination=destination,
        port=port,
        answers=answers,
        answers_port=answers_port,
        identity=int.from_bytes(found[_ID], "big") if _ID in found else 0,
        zone=int.from_bytes(found[_ZONE], "big") if _ZONE in found else 0,
        replies_to=replies_to,
        replies_to_port=replies_to_port,
    )


def _parse_usual(payload: memoryview) -> tuple[_Tuples, dict[int, memoryview]] | None:
    """The tuples and the attributes behind them; None where they do not look as between ports they always do.

    Less than half of the way by attributes: there may be a million flows.
    """
    form, heads = _USUAL[len(payload) > 0 and payload[0] == socket.AF_INET6]
    if len(payload) < 4 + form.size:
        return None
    (
        one, source, two, destination, three, protocol, four, source_port, five, port,
        six, answers, seven, replies_to, eight, number, nine, answers_port, ten, replies_to_port,
    ) = form.unpack_from(payload, 4)  # fmt: skip
    if (one, two, three, four, five, six, seven, eight, nine, ten) != heads:
        return None
    ends = (
        protocol,
        source,
        source_port,
        destination,
        port,
        number,
        answers,
        answers_port,
        replies_to,
        replies_to_port,
    )
    return ends, netlink.attributes(payload, 4 + form.size)


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
    return _packed(_ORIGINAL, flow.protocol, flow.source, flow.source_port, flow.destination, flow.port)


def _packed(direction: int, protocol: int, source: bytes, source_port: int, destination: bytes, port: int) -> bytes:
    kinds = _ADDRESSES[len(source)]
    return netlink.nested(
        direction,
        netlink.nested(_IP, netlink.attribute(kinds[0], source), netlink.attribute(kinds[1], destination)),
        netlink.nested(
            _PROTO,
            netlink.u8(_NUMBER, protocol),
            netlink.be16(_SOURCE_PORT, source_port),
            netlink.be16(_DESTINATION_PORT, port),
        ),
    )


def _usual(size: int) -> tuple[struct.Struct, tuple[bytes, ...]]:
    """How both tuples lie in memory, and what stands between their parts: the headers of attributes."""
    form = struct.Struct(">" + f"12s{size}s4s{size}s8sB3x4sH2x4sH2x" * 2)
    nothing = bytes(size)
    parts = form.unpack(b"".join(_packed(direction, 0, nothing, 0, nothing, 0) for direction in (_ORIGINAL, _REPLY)))
    return form, parts[0::2]


_USUAL = (_usual(4), _usual(16))


def _message(command: int, family: int, *parts: bytes) -> bytes:
    """struct nfgenmsg: address family, version 0, resource id 0."""
    return netlink.message(_SUBSYSTEM | command, 0, struct.pack("=BBH", _FAMILIES[family], 0, 0), *parts)
