"""Pods, when somebody asks about one: from the API server or the folder of manifests. Only metadata is watched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import msgspec

from kuberouter_py.model.cluster import ObjectKey, Pod
from kuberouter_py.ports import EdgeError
from kuberouter_py.watchers.api import ApiClient
from kuberouter_py.watchers.api_errors import NotFound
from kuberouter_py.watchers.decode import DecodeError, decode
from kuberouter_py.watchers.kinds import PODS
from kuberouter_py.watchers.manifest_files import read_manifest
from kuberouter_py.watchers.manifest_items import FileError
from kuberouter_py.watchers.manifests import SUFFIXES


def find_pod(source: ApiClient | Path, key: ObjectKey) -> Pod | None:
    """Raises EdgeError where it cannot be known."""
    if isinstance(source, Path):
        return _in_folder(source, key)
    try:
        found = decode("Pod", source.get(f"/api/v1/namespaces/{quote(key.namespace)}/pods/{quote(key.name)}"))
    except NotFound:
        return None
    except DecodeError as error:
        raise EdgeError(f"Pod {key} cannot be read: {error.reason}") from None
    return found if isinstance(found, Pod) else None


def pods_of(source: ApiClient | Path, namespace: str, most: int) -> list[str]:
    """The names of some Pods there, for somebody who has asked for one that is not. Raises EdgeError."""
    if isinstance(source, Path):
        return sorted({pod.key.name for pod in _pods(source) if pod.key.namespace == namespace})[:most]
    raw = source.get(f"/api/v1/namespaces/{quote(namespace)}/pods", {"limit": str(most)})
    try:
        return [item.metadata.name for item in _LIST.decode(raw).items]
    except msgspec.MsgspecError as error:
        raise EdgeError(f"Pods of {namespace} cannot be read: {error}") from None


class _Named(msgspec.Struct):
    name: str


class _ItemJson(msgspec.Struct):
    metadata: _Named


class _ListJson(msgspec.Struct):
    items: list[_ItemJson]


_LIST = msgspec.json.Decoder(_ListJson)


def _in_folder(folder: Path, key: ObjectKey) -> Pod | None:
    """The first by file name counts."""
    return next((pod for pod in _pods(folder) if pod.key == key), None)


def _pods(folder: Path) -> Iterator[Pod]:
    """In the order of file names; a file that cannot be used is as good as none (`status` tells of it)."""
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and not path.name.startswith("."))
    except OSError as error:
        raise EdgeError(f"{folder}: {error.strerror}") from None
    for path in files:
        try:
            manifest = read_manifest(path.name, path.read_bytes(), [PODS])
        except (FileError, OSError):
            continue
        for found in manifest.found:
            if isinstance(found.object, Pod):
                yield found.object
