"""What the kernel holds, asked so that it costs little: by who programs IPVS, and by who programs nf_tables."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol as Interface

from kuberouter_py.kernel import ipvs_codec as codec
from kuberouter_py.kernel.generic_netlink import generic_family
from kuberouter_py.kernel.netlink_socket import NETLINK_GENERIC, Batch, NetlinkError
from kuberouter_py.model.kernel import Destination, DestinationKey, Protocol, VirtualServerKey
from tests.bench import objects


class View(Interface):
    """patience: how often as long as a look at `sizes` took there is to be none after it."""

    patience: float

    def sizes(self) -> tuple[int, int]:
        """Services and endpoints that it holds."""

    def holds(self, number: int, address: str) -> bool:
        """Whether Service `number` of the benchmark leads to this endpoint."""

    def whole(self, number: int, endpoints: int) -> bool:
        """Whether it leads to so many; True where that costs as much as looking at all of them."""


class Ipvs:
    patience = 1.0  # when `whole` has said so of a few, little is left to wait for

    def __init__(self) -> None:
        self._batch = Batch(NETLINK_GENERIC)
        self._messages = codec.Messages(generic_family(self._batch, "IPVS", "ip_vs"))

    def sizes(self) -> tuple[int, int]:
        """The file, not a dump: one system call for each 4 KB, whoever made what it shows."""
        table = Path("/proc/thread-self/net/ip_vs").read_bytes()
        return table.count(b"\nTCP "), table.count(b"\n  -> ") - 1  # the header has an arrow, too

    def holds(self, number: int, address: str) -> bool:
        wanted = ip_address(address).packed
        return any(where.address == wanted and value.weight for where, value in self._destinations(number).items())

    def whole(self, number: int, endpoints: int) -> bool:
        return len(self._destinations(number)) >= endpoints

    def _destinations(self, number: int) -> Mapping[DestinationKey, Destination]:
        key = VirtualServerKey(Protocol.TCP, ip_address(objects.cluster_ip(number)).packed, objects.PORT)
        try:
            return codec.parse_destinations(self._batch.dump(self._messages.list_destinations(key)), key)
        except NetlinkError:
            return {}


class NfTables:
    """kube-proxy's: a chain for each endpoint of a Service, made in the transaction that first leads to it."""

    patience = 9.0

    def sizes(self) -> tuple[int, int]:
        done = subprocess.run(["nft", "list", "chains", "ip"], capture_output=True)
        return done.stdout.count(b"chain service-"), done.stdout.count(b"chain endpoint-")

    def holds(self, number: int, address: str) -> bool:
        name = f"ns-{number % 100}/svc-{number}/tcp/http__{address}/{objects.TARGET_PORT}"
        short = base64.b32encode(hashlib.sha256(name.encode()).digest())[:8].decode()
        chain = ["nft", "list", "chain", "ip", "kube-proxy", f"endpoint-{short}-{name}"]
        return subprocess.run(chain, capture_output=True).returncode == 0

    def whole(self, number: int, endpoints: int) -> bool:
        return True


def view_called(name: str) -> View:
    return Ipvs() if name == "ipvs" else NfTables()
