"""Owns the way into other network namespaces of this machine: which there are, which is a pod's, a socket inside one.

A pod is found without its container runtime: its processes stand in a cgroup whose path has its UID, and its namespace
holds its address. That needs the node's process list (hostPID), CAP_SYS_PTRACE to look at other users' processes and
CAP_SYS_ADMIN to enter. What to do in there is pod_addresses.py's business.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from kuberouter_py.kernel import rtnetlink
from kuberouter_py.kernel.netlink_socket import NETLINK_ROUTE, Batch
from kuberouter_py.ports import EdgeError, NetworkNamespace, Refused, Unavailable

_CLONE_NEWNET: Final = 0x4000_0000
_OWN: Final = "/proc/thread-self/ns/net"
# ".../pod0f1c…/…", and with the UID's dashes as underscores as systemd writes it: "kubepods-burstable-pod0f1c_….slice"
_POD_IN_CGROUP = re.compile(rb"[/-]pod([0-9A-Za-z_-]+?)(?:\.slice)?(?:/|$)", re.MULTILINE)


def batch_in(namespace: NetworkNamespace) -> Batch:
    """A netlink socket (rtnetlink, strict) in that namespace, for the caller to close: a socket stays where it was
    opened. Raises EdgeError; Unavailable where this process may not.
    """
    batch = Batch(NETLINK_ROUTE, strict=True)
    failures: list[Exception] = []

    def open_inside() -> None:
        """Ends in the other namespace, and its thread with it: nobody else can be left there."""
        try:
            _enter(namespace)
            _ = batch.port_id
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=open_inside, name="into a namespace")
    thread.start()
    thread.join()
    if failures:
        raise _told(namespace, failures[0])
    return batch


def _enter(namespace: NetworkNamespace) -> None:
    """This thread, for good."""
    handle = os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.fstat(handle).st_ino != namespace.inode:
            raise FileNotFoundError(errno.ENOENT, "another process has that number now")
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(handle, _CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(handle)


def _told(namespace: NetworkNamespace, error: Exception) -> EdgeError:
    if isinstance(error, EdgeError):
        return error
    if not isinstance(error, OSError):
        raise error
    text = f"network namespace {namespace.path}: {error.strerror}"
    if error.errno == errno.EACCES:
        return Unavailable(f"{text} (is CAP_SYS_PTRACE missing?)")
    if error.errno == errno.EPERM:
        return Unavailable(f"{text} (is CAP_SYS_ADMIN missing?)")
    return EdgeError(text)


class ProcNamespaces:
    """ports.PodNamespaces by way of /proc."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = str(proc)

    def find(self, pods: Collection[tuple[str, bytes]]) -> Mapping[tuple[str, bytes], NetworkNamespace | Refused]:
        """One look at the process list for all of them."""
        processes = self._processes_of({uid for uid, _ in pods})
        found: dict[tuple[str, bytes], NetworkNamespace | Refused] = {}
        rest: list[tuple[str, bytes]] = []
        for uid, address in pods:
            places = self._namespaces(processes.get(uid, ()))
            if len(places) > 1:  # a container of it has made another one
                places = [place for place in places if address in _addresses(place)]
            if len(places) == 1:
                found[uid, address] = places[0]
            elif hidden := [one for one in processes.get(uid, ()) if not _inode(f"{self._proc}/{one}/ns/net")]:
                text = f"the namespace of process {hidden[0]} may not be looked at (is CAP_SYS_PTRACE missing?)"
                found[uid, address] = Refused(text, missing=True)
            else:
                rest.append((uid, address))
        return {**found, **self._by_address(rest)} if rest else found

    def _namespaces(self, processes: Iterable[int]) -> list[NetworkNamespace]:
        """Never our own: what is meant for a pod must not be done to the node."""
        own = _inode(_OWN)
        found = {place.inode: place for place in filter(None, map(self._namespace, processes))}
        return [place for inode, place in found.items() if inode != own]

    def everywhere(self) -> Iterator[NetworkNamespace]:
        """Every network namespace that a process is in, but our own."""
        seen = {_inode(_OWN)}
        for process in self._processes():
            place = self._namespace(process)
            if place is not None and place.inode not in seen:
                seen.add(place.inode)
                yield place

    def _processes(self) -> Iterator[int]:
        with os.scandir(self._proc) as entries:
            yield from (int(entry.name) for entry in entries if entry.name.isdecimal())

    def _namespace(self, process: int) -> NetworkNamespace | None:
        """None: the process is gone, or we may not look at it."""
        path = f"{self._proc}/{process}/ns/net"
        inode = _inode(path)
        return NetworkNamespace(inode, path) if inode else None

    def _processes_of(self, uids: Collection[str]) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        wanted = {uid.replace("-", "_").encode(): uid for uid in uids}
        for process in self._processes():
            for text in _POD_IN_CGROUP.findall(self._cgroup(process)):
                uid = wanted.get(text.replace(b"-", b"_"))
                if uid is not None:
                    found.setdefault(uid, []).append(process)
        return found

    def _cgroup(self, process: int) -> bytes:
        try:
            with open(f"{self._proc}/{process}/cgroup", "rb") as file:
                return file.read()
        except OSError:  # it has ended
            return b""

    def _by_address(self, pods: Collection[tuple[str, bytes]]) -> dict[tuple[str, bytes], NetworkNamespace | Refused]:
        holding: dict[bytes, list[NetworkNamespace]] = {}
        places = [*self.everywhere()]
        for place in places:
            for address in _addresses(place):
                holding.setdefault(address, []).append(place)
        found: dict[tuple[str, bytes], NetworkNamespace | Refused] = {}
        for uid, address in pods:
            candidates = holding.get(address, [])
            found[uid, address] = candidates[0] if len(candidates) == 1 else _not_found(uid, candidates, places)
        return found


def _not_found(uid: str, candidates: Collection[NetworkNamespace], places: Collection[NetworkNamespace]) -> Refused:
    if candidates:
        return Refused(f"{len(candidates)} network namespaces hold the address of pod {uid}")
    if not places:
        return Refused(
            "this agent sees no process in another network namespace: its pod needs hostPID, SYS_PTRACE and SYS_ADMIN "
            "(daemonset/kuberouter-py-all-features.yaml)",
            missing=True,
        )
    return Refused(f"no process of pod {uid} is there (yet), and no network namespace holds its address")


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


def _addresses(place: NetworkNamespace) -> set[bytes]:
    """None of a namespace that is gone or that we may not enter."""
    with contextlib.suppress(EdgeError), contextlib.closing(batch_in(place)) as batch:
        return {rtnetlink.read_address(each).address for each in batch.dump(rtnetlink.all_addresses())}
    return set()
