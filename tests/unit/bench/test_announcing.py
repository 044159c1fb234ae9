"""What the benchmark's router understands of BGP, and what the table says."""

from __future__ import annotations

import json
from typing import Any

from kuberouter_py.model.cluster import EndpointSlice, ObjectKey, Service
from kuberouter_py.watchers.decode import decode_versioned
from tests.bench.announcing_document import aim, table
from tests.bench.announcing_inside import address, endpoint_slice, service
from tests.bench.bgp_listener import message, opening, update


def test_an_update_announces_and_withdraws() -> None:
    withdrawn = bytes((32, 198, 18, 0, 1, 24, 10, 244, 1))
    attributes = bytes((0x40, 1, 1, 0))
    body = len(withdrawn).to_bytes(2, "big") + withdrawn + len(attributes).to_bytes(2, "big") + attributes
    assert update(body + bytes((32, 198, 18, 0, 2, 0))) == (
        ["198.18.0.2/32", "0.0.0.0/0"],
        ["198.18.0.1/32", "10.244.1.0/24"],
    )
    assert update(bytes(4)) == ([], [])


def test_messages_have_a_marker_a_length_and_a_kind() -> None:
    assert message(4) == b"\xff" * 16 + b"\0\x13\x04"
    sent = opening(65001, bytes((192, 0, 2, 1)))
    assert int.from_bytes(sent[16:18], "big") == len(sent)
    assert sent[18:29] == b"\1\4" + (65001).to_bytes(2, "big") + b"\0\x5a" + bytes((192, 0, 2, 1)) + b"\x0e"


def decoded(one: dict[str, Any]) -> Any:
    return decode_versioned(one["kind"], json.dumps(one).encode()).object


def test_the_cluster_is_as_it_is_said_to_be() -> None:
    assert (address(0), address(65_536)) == ("198.18.0.0", "198.19.0.0")
    one = decoded(service(7))
    assert isinstance(one, Service)
    assert (one.external_local, len(one.external_ips)) == (True, 1)
    part = decoded(endpoint_slice(7, ready=False))
    assert isinstance(part, EndpointSlice)
    assert [each.node for each in part.endpoints] == ["bench-node", "node-1"]
    assert part.service == ObjectKey("ns-7", "svc-7")


POINT = {
    "services": 10_000,
    "first_sync_seconds": 5.3,
    "first_sync_messages": 10030,
    "router_seconds": 3.1,
    "agent_mb": 16.6,
    "bird_mb": 5.3,
    "withdrawn_kernel_ms": (3.0, 9.0),
    "withdrawn_router_ms": (4.7, 120.0),
    "announced_router_ms": (5.2, 12.0),
    "change_messages": 2,
    "all_kernel_seconds": 3.0,
    "all_gone_seconds": 25.2,
}


def test_the_table_has_a_column_for_each_size() -> None:
    lines = table([POINT, POINT]).splitlines()
    assert lines[0] == "|  | 10,000 addresses | 10,000 addresses |"
    assert "| → the router has heard of it p50 / p99, ms | 4.7 / 120.0 | 4.7 / 120.0 |" in lines


def test_what_was_missed_is_said() -> None:
    assert aim(POINT) == "Aim: withdrawn within 100 ms of the event; p99 120.0 ms, missed by 20 ms."
    assert "missed" not in aim({**POINT, "withdrawn_router_ms": (4.7, 48.0)})
