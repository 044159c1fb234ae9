"""A client's persistence template among the rows of ip_vs' connection table."""

from __future__ import annotations

import pytest

from kuberouter_py.kernel.ipvs_templates import find_template
from kuberouter_py.model.kernel import DestinationKey, MarkServerKey, Protocol, VirtualServerKey
from kuberouter_py.ports import Affinity
from tests.fakes.objects import packed

TABLE = (
    b"Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n"
    b"TCP 0AF40109 9C41 0A60000A 0050 0AF40202 1F90 ESTABLISHED     899\n"
    b"TCP 0AF40109 0000 0A60000A 0050 0AF40202 1F90 NONE             42\n"
    b"UDP 0AF40109 0000 0A60000A 0035 0AF40102 14E9 ASSURED           7\n"
    b"TCP fd00:0010:0244:0001:0000:0000:0000:0009 0000 fd00:0010:0096:0000:0000:0000:0000:0010 0050 "
    b"fd00:0010:0244:0002:0000:0000:0000:0002 1F90 NONE             55\n"
)


@pytest.mark.parametrize(
    ("protocol", "address", "port", "client", "found"),
    [
        (Protocol.TCP, "10.96.0.10", 80, "10.244.1.9", ("10.244.2.2", 8080, 42)),
        (Protocol.UDP, "10.96.0.10", 53, "10.244.1.9", ("10.244.1.2", 5353, 7)),
        (Protocol.TCP, "fd00:10:96::10", 80, "fd00:10:244:1::9", ("fd00:10:244:2::2", 8080, 55)),
        (Protocol.TCP, "10.96.0.10", 80, "10.244.1.8", None),
        (Protocol.UDP, "10.96.0.10", 80, "10.244.1.9", None),
        (Protocol.SCTP, "10.96.0.10", 80, "10.244.1.9", None),
    ],
)
def test_by_server_and_client(
    protocol: Protocol, address: str, port: int, client: str, found: tuple[str, int, int] | None
) -> None:
    told = find_template(TABLE, VirtualServerKey(protocol, packed(address), port), packed(client))
    assert told == (Affinity(DestinationKey(packed(found[0]), found[1]), found[2]) if found else None)


def test_servers_on_marks_have_none() -> None:
    assert find_template(TABLE, MarkServerKey(5, 4), packed("10.244.1.9")) is None
