"""What one manifest file holds: its bytes in, the objects of the wanted kinds out, each with the line where it stands.

Owns JSON, and leaves YAML to manifest_yaml.py; either may hold one object or lists of them. JSON goes from bytes to
objects without a Python object of the whole, far faster than YAML: a hundred thousand endpoints belong in a .json file.
Objects of other kinds are passed over, as are those that the kind's selection leaves out. Which file changed, and what
became of the rest of the cluster by it, is for manifests.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.watchers.decode import ClusterObject, DecodeError, decode_versioned, head
from kuberouter_py.watchers.kinds import Kind
from kuberouter_py.watchers.manifest_items import FileError, Item, inherited


class Found(msgspec.Struct, frozen=True, gc=False):
    kind: str
    key: ObjectKey
    object: ClusterObject
    place: str  # file:line


class Undecodable(NamedTuple):
    kind: str
    key: ObjectKey
    reason: str
    place: str


@dataclass
class Manifest:
    found: list[Found] = field(default_factory=list)
    undecodable: list[Undecodable] = field(default_factory=list)


class _ListJson(msgspec.Struct, gc=False):
    kind: str | None = None
    apiVersion: str | None = None
    items: list[msgspec.Raw] | None = None


_LIST = msgspec.json.Decoder(_ListJson)


def read_manifest(name: str, data: bytes, kinds: Iterable[Kind]) -> Manifest:
    """Raises FileError where the file is not what its name says, or an object of a wanted kind has no usable name."""
    if name.endswith(".json"):
        items = _json_items(name, data)
    else:
        from kuberouter_py.watchers.manifest_yaml import yaml_items  # where no file is YAML, nobody needs to load it

        items = yaml_items(name, data)
    wanted: dict[tuple[str, str], list[Kind]] = {}  # of Pods there may be two: whole, and their metadata alone
    for kind in kinds:
        for version in kind.api_versions:
            wanted.setdefault((version, kind.object_kind), []).append(kind)
    manifest = Manifest()
    at, place = 0, ""
    for raw, line, *inheritance in items:
        if line != at:  # a list without line breaks has one place, which all of its items share
            at, place = line, f"{name}:{line}"
        try:
            about = head(raw)
        except DecodeError as error:
            raise FileError(f"{place}: {error.reason}") from None
        for kind in wanted.get((about.api_version or inheritance[0], about.kind or inheritance[1]), ()):
            if kind.admits(about):
                _take(manifest, kind, raw, place)
    return manifest


def _take(manifest: Manifest, kind: Kind, raw: bytes | msgspec.Raw, place: str) -> None:
    try:
        decoded = decode_versioned(kind.name, raw)
        if decoded.object is not None:
            manifest.found.append(Found(kind.name, decoded.key, decoded.object, place))
    except DecodeError as error:
        if error.key is None:
            raise FileError(f"{place}: {error.reason}") from None
        manifest.undecodable.append(Undecodable(kind.name, error.key, error.reason, place))


def _json_items(name: str, data: bytes) -> Iterator[Item]:
    """One object, or one list of them. The line of a list's item is that of its place in the file."""
    try:
        json = _LIST.decode(data)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{name}:{_json_line(data, error)}: {error}") from None
    if json.items is None or not (json.kind or "").endswith("List"):
        yield Item(data, 1)
        return
    at, line, inheritance = 0, 1, inherited(json.apiVersion, json.kind)
    several = b"\n" in data.rstrip()
    for raw in json.items:
        if several:
            # Items lie one after the other, so each is found where the search starts, but for a comma and space.
            start = data.find(raw, at)
            line += data.count(b"\n", at, start)
            at = start
        yield Item(raw, line, *inheritance)


def _json_line(data: bytes, error: BaseException) -> int:
    """msgspec says "(byte 123)"; without that it was the end that is missing."""
    place = re.search(r"\(byte (\d+)\)", str(error))
    return data.count(b"\n", 0, int(place[1]) if place else len(data)) + 1
