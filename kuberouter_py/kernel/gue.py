"""Owns the ports where Generic UDP Encapsulation is taken in: `ip fou add port 5555 gue` (include/uapi/linux/fou.h).

What comes there goes on as if it had come without UDP: to the tunnel whose ends it bears (kernel/tunnels.py). A port
has no room for a mark, so what is ours stands in a file below /run, which lasts as long as the ports do.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from kuberouter_py.kernel import netlink
from kuberouter_py.kernel.former import Former, FormerValues
from kuberouter_py.kernel.generic_netlink import generic_family, generic_header
from kuberouter_py.kernel.netlink_socket import Batch, error_text
from kuberouter_py.kernel.rtnetlink import AF_INET, AF_INET6
from kuberouter_py.model import names
from kuberouter_py.model.podnet import Listener
from kuberouter_py.ports import Actual, EdgeError, Plan, Refused, Unavailable

_VERSION: Final = 1
_ADD, _DEL, _GET = 1, 2, 3
_PORT, _AF, _TYPE = 1, 2, 4
_NARROWING: Final = (6, 7, 8, 9, 10, 11)  # local address, peer's address (of each family), peer's port, link
_GUE: Final = 2
_FAMILIES: Final = {4: AF_INET, 6: AF_INET6}
_MODULES: Final = {4: "fou", 6: "fou6"}
_BODY: Final = 4  # attributes come behind struct genlmsghdr
_IN_USE: Final = (errno.EADDRINUSE, errno.EALREADY)
_LACKING: Final = (errno.EAFNOSUPPORT, errno.EPFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EPERM)


class Listeners:
    """Table[Listener, None]: ports that take in GUE on every address. One that somebody else opened is foreign: it does
    as well, and stays.
    """

    name = "gue ports"

    def __init__(self, batch: Batch, run_dir: Path = Path(names.RUN_DIR)) -> None:
        """batch: of NETLINK_GENERIC."""
        self._batch = batch
        self._opened = FormerValues(run_dir / "gue-ports.json")
        self._lock = threading.Lock()

    def read(self) -> Actual[Listener, None]:
        """Nothing where the kernel has no such ports."""
        actual: Actual[Listener, None] = Actual({})
        with self._lock, contextlib.suppress(Unavailable):
            self._opened.reload()
            for listener, fits in self._ports(self._kind()).items():
                if fits:
                    (actual.ours if _text(listener) in self._opened else actual.foreign)[listener] = None
        return actual

    def apply(self, plan: Plan[Listener, None]) -> dict[Listener, Refused]:
        wanted = [*plan.add, *plan.change]
        with self._lock:
            try:
                kind = self._kind()
                ports = self._ports(kind)
                return {**self._open(kind, wanted, ports), **self._shut(kind, plan.remove, ports)}
            except Unavailable as error:
                return dict.fromkeys(wanted, Refused(str(error), missing=True))
            except EdgeError as error:
                return dict.fromkeys([*wanted, *plan.remove], Refused(str(error)))

    def _kind(self) -> int:
        """The message type. Raises Unavailable."""
        return generic_family(self._batch, "fou", "fou")

    def _ports(self, kind: int) -> dict[Listener, bool]:
        """Every port; whether it takes in GUE on every address, from everybody. Raises EdgeError."""
        found: dict[Listener, bool] = {}
        for payload in self._batch.dump(netlink.message(kind, 0, generic_header(_GET, _VERSION))):
            told = {key: bytes(value) for key, value in netlink.attributes(payload, _BODY).items()}
            family = next((family for family, number in _FAMILIES.items() if bytes([number]) == told.get(_AF)), 0)
            listener = Listener(family, int.from_bytes(told.get(_PORT, b""), "big"))
            narrow = any(any(told.get(key, b"")) for key in _NARROWING)
            found[listener] = found.get(listener, False) or (told.get(_TYPE) == bytes([_GUE]) and not narrow)
        return found

    def _open(self, kind: int, wanted: Iterable[Listener], ports: Mapping[Listener, bool]) -> dict[Listener, Refused]:
        new = [listener for listener in wanted if not ports.get(listener)]
        self._opened.update({_text(listener): Former("", "gue") for listener in new})
        failed = self._batch.send([_message(kind, _ADD, listener) for listener in new])
        self._opened.forget({_text(new[at]) for at in failed})
        return {new[at]: _refusal(new[at], number) for at, number in failed.items()}

    def _shut(self, kind: int, keys: Iterable[Listener], ports: Mapping[Listener, bool]) -> dict[Listener, Refused]:
        ours = [listener for listener in keys if _text(listener) in self._opened]
        there = [listener for listener in ours if ports.get(listener)]
        failed = self._batch.send([_message(kind, _DEL, listener) for listener in there])
        refused = {there[at]: _refusal(there[at], number) for at, number in failed.items()}
        self._opened.forget({_text(listener) for listener in ours if listener not in refused})
        return refused


def _text(listener: Listener) -> str:
    return f"IPv{listener.family} {listener.port}"


def _message(kind: int, command: int, listener: Listener) -> bytes:
    return netlink.message(
        kind, 0, generic_header(command, _VERSION),
        netlink.be16(_PORT, listener.port),
        netlink.u8(_AF, _FAMILIES[listener.family]),
        netlink.u8(_TYPE, _GUE),
    )  # fmt: skip


def _refusal(listener: Listener, number: int) -> Refused:
    what = f"UDP port {listener.port} of IPv{listener.family}"
    if number in _IN_USE:
        return Refused(f"{what} is in use already, and not for GUE from everywhere")
    hint = f"; on the host, try: modprobe {_MODULES[listener.family]}" if number in _LACKING else ""
    return Refused(f"{what}: {error_text(number)}{hint}", missing=number in _LACKING)
