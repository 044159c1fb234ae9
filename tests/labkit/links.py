"""What steps do to a node's link to the fabric: pull its cable, lose packets, give it and take from it addresses."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from functools import partial
from ipaddress import ip_interface
from typing import Any

from tests.labkit.fabric import LINK, Fabric
from tests.labkit.machine import Machine, ip_batch
from tests.labkit.namespaces import Namespaces, within
from tests.labkit.ports import LabError


class Links:
    def __init__(self, fabric: Fabric, machines: Mapping[str, Machine], router: Namespaces) -> None:
        self._fabric = fabric
        self._machines = machines
        self._router = router

    def change(self, place: str, change: Mapping[str, Any]) -> None:
        if place not in self._machines:
            raise LabError(f"there is no {place}")
        for key, value in change.items():
            if key == "do" and value in ("down", "up"):
                # The far end of the link: the node keeps its addresses and routes and loses the carrier.
                ip_batch(self._router, [f"link set {self._fabric.ports[place]} {value}"])
            elif key == "address" and str(value)[:1] in ("+", "-"):
                self._address(place, str(value)[0], str(value)[1:])
            elif key == "loss":
                self._lose(place, str(value))
            else:
                raise LabError(f"link: {key}: {value}: expected do: down|up, address: +ADDRESS|-ADDRESS or loss: N%")

    def _address(self, place: str, sign: str, text: str) -> None:
        """The fabric routes it through the node's own address, on whatever subnet it lies."""
        each = ip_interface(text)
        via = self._fabric.hosts[place].address(each.version)
        if via is None:
            raise LabError(f"{place} has no IPv{each.version} address through which {each.ip} could be reached")
        verb, route = ("add", "replace") if sign == "+" else ("delete", "delete")
        nodad = " nodad" if each.version == 6 and sign == "+" else ""
        self._machines[place].ip([f"address {verb} {each} dev {LINK}{nodad}"])
        ip_batch(self._router, [f"route {route} {each.ip} via {via}"])

    def _lose(self, place: str, share: str) -> None:
        """In both directions."""
        for network, link in (
            (self._router, self._fabric.ports[place]),
            (Namespaces(self._machines[place].namespaces.net), LINK),
        ):
            within(network, partial(_netem, link, share))


def _netem(link: str, share: str) -> None:
    lossless = float(share.rstrip("%")) == 0
    command = ["tc", "qdisc", "delete" if lossless else "replace", "dev", link, "root"]
    done = subprocess.run(
        command if lossless else [*command, "netem", "loss", share], capture_output=True, text=True, close_fds=False
    )
    if done.returncode != 0 and not lossless:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip()}")
