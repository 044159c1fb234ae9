"""YAML manifests: several documents, lists of objects, each with the line where it stands. The objects leave as JSON.

What becomes of them is manifest_files.py's, which loads this module only where a file is YAML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar

import msgspec
import yaml

from kuberouter_py.watchers.manifest_items import FileError, Item, inherited

_FAST_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, eight times faster where it is there


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


def yaml_items(name: str, data: bytes) -> Iterator[Item]:
    """Raises FileError."""
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


def _documents(name: str, node: yaml.Node, document: object) -> Iterator[Item]:
    """An empty document is none; a list's items have the lines of their own nodes."""
    line = node.start_mark.line + 1
    if document is None:
        return
    if not isinstance(document, dict):
        raise FileError(f"{name}:{line}: a {type(document).__name__} where an object is expected")
    items = document.get("items")
    if not str(document.get("kind") or "").endswith("List") or not isinstance(items, list):
        yield Item(_as_json(name, line, document), line)
        return
    inheritance = inherited(str(document.get("apiVersion") or ""), str(document["kind"]))
    lines = [line] * len(items)
    for key, value in node.value:
        if key.value == "items" and isinstance(value, yaml.SequenceNode):
            lines = [item.start_mark.line + 1 for item in value.value]
    for item, line in zip(items, lines, strict=True):
        yield Item(_as_json(name, line, item), line, *inheritance)


def _as_json(name: str, line: int, document: object) -> bytes:
    try:
        return msgspec.json.encode(document)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise FileError(f"{name}:{line}: {error}") from None
