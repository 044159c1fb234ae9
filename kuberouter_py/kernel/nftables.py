"""nf_tables over netlink, as far as another program's table concerns us: whether it is there, what its maps hold, away
with it.

No `nft` is needed. Layouts: include/uapi/linux/netfilter/nf_tables.h. A concatenated key ("ip daddr . meta l4proto . th
dport") comes as its parts one after the other, each filled up to four bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from errno import ENOENT
from typing import Final

from kuberouter_py.kernel import netlink
from kuberouter_py.kernel.netlink_socket import NETLINK_NETFILTER, Batch, NetlinkError, error_text
from kuberouter_py.ports import EdgeError

_BATCH_BEGIN, _BATCH_END = 0x10, 0x11  # NFNL_MSG_BATCH_*
_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
_GET_TABLE, _DELETE_TABLE, _GET_ELEMENTS = 1, 2, 13  # NFT_MSG_*
_TABLE_NAME = 1  # NFTA_TABLE_NAME
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3  # NFTA_SET_ELEM_LIST_*
_LIST_ELEMENT, _ELEMENT_KEY, _DATA_VALUE = 1, 1, 1
_FAMILY: Final = {4: 2, 6: 10}  # NFPROTO_IPV4, NFPROTO_IPV6


class NfTables:
    """Raises EdgeError where the kernel says no."""

    def __init__(self) -> None:
        self._batch = Batch(NETLINK_NETFILTER)

    def has(self, family: int, table: str) -> bool:
        """No as well where this kernel has no nf_tables for the family."""
        try:
            answers = self._batch.request(
                netlink.message(_kind(_GET_TABLE), 0, _header(family), netlink.text(_TABLE_NAME, table))
            )
        except NetlinkError:
            return False
        return bool(answers)

    def elements(self, family: int, table: str, name: str) -> Iterator[bytes]:
        """The keys in a set or map; none where there is no such set."""
        parts = (netlink.text(_LIST_TABLE, table), netlink.text(_LIST_SET, name))
        try:
            for payload in self._batch.dump(netlink.message(_kind(_GET_ELEMENTS), 0, _header(family), *parts)):
                listed = netlink.attributes(payload, 4).get(_LIST_ELEMENTS)
                for _, element in netlink.each_attribute(listed) if listed is not None else ():
                    key = netlink.attributes(element).get(_ELEMENT_KEY)
                    value = netlink.attributes(key).get(_DATA_VALUE) if key is not None else None
                    if value is not None:
                        yield bytes(value)
        except NetlinkError as error:
            if error.errno != ENOENT:
                raise

    def delete(self, family: int, table: str) -> None:
        """The whole table in one transaction; done when it is gone."""
        begin = struct.pack("=BB", 0, 0) + struct.pack(">H", _SUBSYSTEM)
        delete = netlink.message(_kind(_DELETE_TABLE), 0, _header(family), netlink.text(_TABLE_NAME, table))
        # The end is of one piece with the message before it: kernels before 6.10 acknowledge no end.
        failed = self._batch.send([
            netlink.message(_BATCH_BEGIN, 0, begin), delete + netlink.message(_BATCH_END, 0, begin),
        ])  # fmt: skip
        number = next((number for number in failed.values() if number != ENOENT), 0)
        if number or self.has(family, table):
            raise EdgeError(f"nft delete table {'ip' if family == 4 else 'ip6'} {table}: {error_text(number)}")

    def close(self) -> None:
        self._batch.close()


def _kind(message: int) -> int:
    return _SUBSYSTEM << 8 | message


def _header(family: int) -> bytes:
    """struct nfgenmsg."""
    return struct.pack("=BBH", _FAMILY[family], 0, 0)
