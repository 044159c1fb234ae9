"""What one manifest file holds: its bytes in, the objects of the wanted kinds out, each with the line where it stands.

Owns the file formats: YAML with several documents, JSON, lists of objects in either. JSON goes from bytes to objects
without a Python object of the whole, far faster than YAML: a hundred thousand endpoints belong in a .json file.
Objects of other kinds are passed over, as are those that the kind's selection leaves out. Which file changed, and what
became of the rest of the cluster by it, is for manifests.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import msgspec
import yaml

from kuberouter_py.model.cluster import ObjectKey
from kuberouter_py.watchers.decode import ClusterObject, DecodeError, decode_versioned, head
from kuberouter_py.watchers.kinds import Kind

_FAST_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, eight times faster where it is there


class FileError(Exception):
    """Nothing of the file can be used, and what it said before stays in force. The message starts with file:line."""


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


class _Loader(_FAST_LOADER):  # type: ignore[misc]
    """With YAML 1.2's plain values only: to 1.1, which PyYAML follows, 1:20 is 80, `on` is true and an IPv6 address of
    decimal groups is a number; none of that is meant in a manifest. A date is the text that it is written as.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # nothing of the base class's


for _tag, _pattern, _firsts in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_firsts))


def _int(loader: Any, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, 0) if text[:2] in ("0x", "0o") else int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _int)


class _Item(NamedTuple):
    raw: bytes | msgspec.Raw
    line: int
    api_version: str = ""  # where it does not say so itself
    kind: str = ""


class _ListJson(msgspec.Struct, gc=False):
    kind: str | None = None
    apiVersion: str | None = None
    items: list[msgspec.Raw] | None = None


_LIST = msgspec.json.Decoder(_ListJson)


def read_manifest(name: str, data: bytes, kinds: Iterable[Kind]) -> Manifest:
    """Raises FileError where the file is not what its name says, or an object of a wanted kind has no usable name."""
    items = _json_items(name, data) if name.endswith(".json") else _yaml_items(name, data)
    wanted = {(version, kind.name): kind for kind in kinds for version in kind.api_versions}
    manifest = Manifest()
    at, place = 0, ""
    for raw, line, *inherited in items:
        if line != at:  # a list without line breaks has one place, which all of its items share
            at, place = line, f"{name}:{line}"
        try:
            about = head(raw)
        except DecodeError as error:
            raise FileError(f"{place}: {error.reason}") from None
        kind = wanted.get((about.api_version or inherited[0], about.kind or inherited[1]))
        if kind is None or not kind.admits(about):
            continue
        try:
            decoded = decode_versioned(kind.name, raw)
            manifest.found.append(Found(kind.name, decoded.key, decoded.object, place))
        except DecodeError as error:
            if error.key is None:
                raise FileError(f"{place}: {error.reason}") from None
            manifest.undecodable.append(Undecodable(kind.name, error.key, error.reason, place))
    return manifest


def _json_items(name: str, data: bytes) -> Iterator[_Item]:
    """One object, or one list of them. The line of a list's item is that of its place in the file."""
    try:
        json = _LIST.decode(data)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{name}:{_json_line(data, error)}: {error}") from None
    if json.items is None or not (json.kind or "").endswith("List"):
        yield _Item(data, 1)
        return
    at, line, inherited = 0, 1, _inherited(json)
    several = b"\n" in data.rstrip()
    for raw in json.items:
        if several:
            # Items lie one after the other, so each is found where the search starts, but for a comma and space.
            start = data.find(raw, at)
            line += data.count(b"\n", at, start)
            at = start
        yield _Item(raw, line, *inherited)


def _inherited(json: _ListJson) -> tuple[str, str]:
    """What an item that does not say its own version and kind has: those of a typed list (ServiceList)."""
    kind = (json.kind or "").removesuffix("List")
    return (json.apiVersion or "", kind) if kind else ("", "")


def _yaml_items(name: str, data: bytes) -> Iterator[_Item]:
    try:
        loader = _Loader(data)
        while loader.check_node():
            node = loader.get_node()
            document = loader.construct_document(node)
            yield from _documents(name, node, document)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        raise FileError(f"{name}:{line}: {getattr(error, 'problem', None) or error}") from None
    except (ValueError, RecursionError) as error:  # bytes that are no text, nesting without end
        raise FileError(f"{name}:1: {error}") from None


def _documents(name: str, node: yaml.Node, document: object) -> Iterator[_Item]:
    """An empty document is none; a list's items have the lines of their own nodes."""
    line = node.start_mark.line + 1
    if document is None:
        return
    if not isinstance(document, dict):
        raise FileError(f"{name}:{line}: a {type(document).__name__} where an object is expected")
    items = document.get("items")
    if not str(document.get("kind") or "").endswith("List") or not isinstance(items, list):
        yield _Item(_as_json(name, line, document), line)
        return
    inherited = _inherited(_ListJson(str(document["kind"]), str(document.get("apiVersion") or "")))
    lines = [line] * len(items)
    for key, value in node.value:
        if key.value == "items" and isinstance(value, yaml.SequenceNode):
            lines = [item.start_mark.line + 1 for item in value.value]
    for item, line in zip(items, lines, strict=True):
        yield _Item(_as_json(name, line, item), line, *inherited)


def _as_json(name: str, line: int, document: object) -> bytes:
    try:
        return msgspec.json.encode(document)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise FileError(f"{name}:{line}: {error}") from None


def _json_line(data: bytes, error: BaseException) -> int:
    """msgspec says "(byte 123)"; without that it was the end that is missing."""
    place = re.search(r"\(byte (\d+)\)", str(error))
    return data.count(b"\n", 0, int(place[1]) if place else len(data)) + 1
