"""A folder of manifests as the cluster: the same cache and bells as from an API server, without one.

Owns which files changed, and what all of them together say. What a file holds is manifest_files.py's. Only the folder
itself is looked into, names that begin with a dot are not, and links are followed (a mounted ConfigMap is a folder of
links).

Changes are found by looking: inotify is silent where a folder comes through hostfs, 9p or NFS, and does not say so. A
glance at the folder's own times shows files that come, go or are replaced at once; files that are rewritten in place
show when all are looked at, how often follows from what that costs on this machine (`_interval`).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from kuberouter_py.model.cluster import ObjectKey, Service
from kuberouter_py.ports import Unavailable
from kuberouter_py.watchers.broadcaster import Broadcaster
from kuberouter_py.watchers.cache import Cache
from kuberouter_py.watchers.decode import ClusterObject
from kuberouter_py.watchers.kinds import Kind
from kuberouter_py.watchers.manifest_files import Manifest, read_manifest
from kuberouter_py.watchers.manifest_items import FileError
from kuberouter_py.watchers.status import WatchStatus

log = structlog.get_logger(__name__)

SUFFIXES = (".yaml", ".yml", ".json")
FILES = "manifest files"  # what `status` calls them, beside the kinds
SHARE = 0.0003  # of one CPU may go into looking: a third of what an idle agent may use
SMOOTH = 8  # looks over which their cost is averaged: a thread's clock may advance by 10 ms at a time (HZ 100)
SOONEST, LATEST = 0.2, 5.0  # seconds between looks; kubelet looks at its own folder of manifests every 20
GLANCE = 1.0  # seconds between glances: one stat each, and a thread that wakes (0.7 ms of CPU in User-Mode Linux)
# Seconds for which a folder that has changed goes on counting as changed: its times are as coarse as a tick or, on
# NFS, 1 s.
RECENT = 1.0
SETTLE = 0.05  # seconds that a file has to stay as it is before it is read: its writer may not be done


class _Signature(NamedTuple):
    modified: int
    size: int
    inode: int


@dataclass
class _File:
    signature: _Signature
    manifest: Manifest
    error: str = ""  # why its newest content is not used


class ManifestFolder:
    """One thread for all kinds. Raises Unavailable where the path is not a folder that can be read."""

    def __init__(
        self,
        folder: Path,
        kinds: Sequence[Kind],
        cache: Cache,
        broadcaster: Broadcaster,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._kinds = kinds
        self._cache = cache
        self._broadcaster = broadcaster
        self._now = now
        self._files: dict[str, _File] = {}
        self._settling: dict[str, _Signature] = {}
        self._appeared: dict[ObjectKey, float] = {}  # Services without a date of their own
        self._appearances = 0
        self._problems: dict[str, tuple[tuple[str, str], ...]] = {}
        self._error = ""
        self._loads = 0
        self._last_event = 0.0
        self._folder_time = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self.run, name="manifests", daemon=True)
        began = time.perf_counter()
        try:
            self._scan()
        except OSError as error:
            raise Unavailable(f"--manifests {folder}: {error.strerror or error}") from error
        self._cost = time.perf_counter() - began  # of a look, until there is a better figure

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def join(self, timeout: float | None = None) -> None:
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def run(self) -> None:
        """The first look takes the files as they are; later ones give each change the time to settle."""
        self._guarded(True)
        due = time.monotonic() + _interval(self._cost)
        while not self._stopping.wait(SETTLE if self._settling else GLANCE):
            if not self._settling and time.monotonic() < due and not self._folder_changed():
                continue
            spent = time.thread_time()
            changed = self._guarded(False)
            if not (changed or self._settling):  # only what looking costs, not what reading does
                self._cost += (time.thread_time() - spent - self._cost) / SMOOTH
            due = time.monotonic() + _interval(self._cost)

    def _folder_changed(self) -> bool:
        try:
            changed = os.stat(self._folder).st_mtime_ns
        except OSError:
            return True
        return changed != self._folder_time or abs(self._now() - changed / 1e9) < RECENT

    def status(self) -> list[WatchStatus]:
        """The files first, then each kind."""
        files = WatchStatus(
            kind=FILES,
            synced=self._loads > 0,
            objects=len(self._files),
            last_event=self._last_event,
            last_error=self._error,
            lists=self._loads,
            problems=self._problems.get(FILES, ()),
        )
        kinds = [
            WatchStatus(
                kind=kind.name,
                synced=self._cache.synced(kind.name),
                objects=self._cache.count(kind.name),
                last_event=self._last_event,
                problems=self._problems.get(kind.name, ()),
            )
            for kind in self._kinds
        ]
        return [files, *kinds]

    def look(self, hasty: bool = False) -> bool:
        """Read what has changed and pass it on. Whether anything had. hasty: without waiting for writers.

        Raises OSError where the folder is gone; what it said stays in force.
        """
        found = self._scan()
        changed = {name for name, file in self._files.items() if name not in found}
        for name in changed:
            del self._files[name]
        settling = {}
        for name, signature in found.items():
            known = self._files.get(name)
            if known and known.signature == signature:
                continue
            if not hasty and self._settling.get(name) != signature:
                settling[name] = signature
            elif self._read(name, signature):
                changed.add(name)
            else:
                settling[name] = signature
        self._settling = settling
        if changed or not self._loads:
            self._publish()
        return bool(changed)

    def _guarded(self, hasty: bool) -> bool:
        try:
            changed = self.look(hasty)
            self._error = ""
            return changed
        except OSError as error:
            self._complain(f"{self._folder}: {error.strerror or error}")
        except Exception as error:
            log.exception("manifests")
            self._complain(f"{type(error).__name__}: {error}")
        return False

    def _complain(self, error: str) -> None:
        if error != self._error:
            log.warning("manifests cannot be read", error=error)
        self._error = error

    def _scan(self) -> dict[str, _Signature]:
        found = {}
        self._folder_time = os.stat(self._folder).st_mtime_ns
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or not entry.name.endswith(SUFFIXES):
                    continue
                try:
                    about = entry.stat()
                except FileNotFoundError:
                    continue  # replaced this very moment, or a link to nowhere
                found[entry.name] = _Signature(about.st_mtime_ns, about.st_size, about.st_ino)
        return found

    def _read(self, name: str, signature: _Signature) -> bool:
        """Whether it was read as the scan had seen it. A broken one keeps its last good content."""
        path = self._folder / name
        known = self._files.get(name)
        manifest, error = known.manifest if known else Manifest(), ""
        try:
            data = path.read_bytes()
            about = path.stat()
            if _Signature(about.st_mtime_ns, about.st_size, about.st_ino) != signature:
                return False
            manifest = read_manifest(name, data, self._kinds)
        except FileError as broken:
            error = str(broken)
        except OSError as refused:
            error = f"{name}:1: {refused.strerror or refused}"
        if error:
            log.warning("manifest not used", reason=error)
        self._files[name] = _File(signature, manifest, error)
        return True

    def _publish(self) -> None:
        """What all files together say, as one list of each kind. The first place of an object, by file name, counts."""
        objects: dict[str, dict[ObjectKey, ClusterObject]] = {kind.name: {} for kind in self._kinds}
        failures: dict[str, dict[ObjectKey, str]] = {kind.name: {} for kind in self._kinds}
        problems: dict[str, list[tuple[str, str]]] = {kind.name: [] for kind in self._kinds}
        places: dict[str, dict[ObjectKey, str]] = {kind.name: {} for kind in self._kinds}
        for _, file in sorted(self._files.items()):
            for found in file.manifest.found:
                if first := places[found.kind].get(found.key):
                    problems[found.kind].append((found.place, f"{found.key} is in {first} already, which counts"))
                    continue
                places[found.kind][found.key] = found.place
                objects[found.kind][found.key] = self._dated(found.object)
            for failed in file.manifest.undecodable:
                problems[failed.kind].append((failed.place, f"{failed.key}: {failed.reason}"))
                failures[failed.kind][failed.key] = f"{failed.place}: {failed.reason}"
        there = places.get("Service", {})
        self._appeared = {key: when for key, when in self._appeared.items() if key in there}
        self._problems = {kind: tuple(found) for kind, found in problems.items()}
        self._problems[FILES] = tuple(
            (place, reason.strip())
            for file in self._files.values()
            if file.error
            for place, _, reason in [file.error.partition(": ")]
        )
        self._loads += 1
        self._last_event = self._now()
        for kind in self._kinds:
            good = objects[kind.name]
            broken = {key: why for key, why in failures[kind.name].items() if key not in good}
            self._announce(kind.name, good, broken)

    def _announce(self, kind: str, objects: dict[ObjectKey, ClusterObject], failures: dict[ObjectKey, str]) -> None:
        keys = self._cache.replace(kind, objects, failures)
        self._broadcaster.ring(kind, keys)
        if keys:
            log.info("read", kind=kind, objects=len(objects), changed=len(keys), failed=len(failures))
        if self._cache.mark_synced(kind):
            self._broadcaster.ring_synced(kind)

    def _dated(self, object: ClusterObject) -> ClusterObject:
        """A Service without a creationTimestamp is as old as its appearance: the first one has second 1 of 1970."""
        if not isinstance(object, Service) or object.created:
            return object
        if object.key not in self._appeared:
            self._appearances += 1
            self._appeared[object.key] = float(self._appearances)
        return msgspec.structs.replace(object, created=self._appeared[object.key])


def _interval(cost: float) -> float:
    """Seconds to the next look, where one takes that many seconds of CPU."""
    return min(LATEST, max(SOONEST, cost / SHARE))
