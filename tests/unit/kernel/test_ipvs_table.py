"""The kernel's table, against text as the kernel prints it."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuberouter_py.kernel.ipvs_table import parse_table
from kuberouter_py.model.kernel import Destination, DestinationKey, Forwarding, MarkServerKey, VirtualServerKey

HEAD = (
    b"IP Virtual Server version 1.2.1 (size=4096)\n"
    b"Prot LocalAddress:Port Scheduler Flags\n"
    b"  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n"
)
TABLE = HEAD + (
    b"TCP  0A600002:0050 sh  \n"
    b"TCP  [fd00:0000:0000:0000:0000:0000:0000:0001]:0050 rr persistent 10000 80000000\n"
    b"  -> [fd00:0001:0000:0000:0000:0000:0000:0002]:1F90      Masq    1      0          0         \n"
    b"TCP  0A600001:0050 mh  \n"
    b"  -> 0A000003:0050      Route   65535  0          0         \n"
    b"  -> 0A000002:0050      Tunnel  12345678 0          0         \n"
    b"  -> 0A000001:1F90      Masq    0      4294967295 12        \n"
    b"UDP  0A600003:0035 wlc ops  \n"
    b"SCTP  0A600001:0050 rr  persistent 10000 FFFFFF00\n"
    b"FWM  00000005 wlc \n"
    b"  -> [fd00:0001:0000:0000:0000:0000:0000:0003]:0001      Masq    1      0          0         \n"
    b"FWM  00000005 rr \n"
    b"  -> 0A000001:0000      Local   1      0          0         \n"
)


class TestTable:
    def test_as_the_kernel_prints_it(self) -> None:
        servers = parse_table(TABLE)
        web = bytes((10, 96, 0, 1))
        assert servers == {
            VirtualServerKey(6, bytes((10, 96, 0, 2)), 80): {},
            VirtualServerKey(6, ip_address("fd00::1").packed, 80): {
                DestinationKey(ip_address("fd00:1::2").packed, 8080): Destination()
            },
            VirtualServerKey(6, web, 80): {
                DestinationKey(bytes((10, 0, 0, 3)), 80): Destination(65535, Forwarding.DIRECT_ROUTE),
                DestinationKey(bytes((10, 0, 0, 2)), 80): Destination(12345678, Forwarding.TUNNEL),
                DestinationKey(bytes((10, 0, 0, 1)), 8080): Destination(0),
            },
            VirtualServerKey(17, bytes((10, 96, 0, 3)), 53): {},
            VirtualServerKey(132, web, 80): {},
            MarkServerKey(5, 6): {DestinationKey(ip_address("fd00:1::3").packed, 1): Destination()},
            MarkServerKey(5, 4): {DestinationKey(bytes((10, 0, 0, 1)), 0): Destination()},
        }
        assert all(type(where) is DestinationKey for found in servers.values() for where in found)

    def test_empty(self) -> None:
        assert parse_table(HEAD) == {}

    @given(st.binary())
    def test_any_bytes_are_a_table_or_a_value_error(self, data: bytes) -> None:
        for text in (data, HEAD + data, HEAD + b"TCP  0A600001:0050 rr \n  -> " + data):
            try:
                parse_table(text)
            except ValueError:
                continue

    def test_a_row_cut_off_is_a_value_error(self) -> None:
        with pytest.raises(ValueError, match=r".*"):
            parse_table(HEAD + b"TCP  0A600001:0050 rr \n  -> 0A0000")
