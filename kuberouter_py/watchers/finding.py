"""One Pod, when somebody asks about it: from the API server or from the folder of manifests. Pods are not watched."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from kuberouter_py.model.cluster import ObjectKey, Pod
from kuberouter_py.ports import EdgeError
from kuberouter_py.watchers.api import ApiClient
from kuberouter_py.watchers.api_errors import NotFound
from kuberouter_py.watchers.decode import DecodeError, decode
from kuberouter_py.watchers.kinds import PODS
from kuberouter_py.watchers.manifest_files import FileError, read_manifest
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


def _in_folder(folder: Path, key: ObjectKey) -> Pod | None:
    """The first by file name counts; a file that cannot be used is as good as none (`status` tells of it)."""
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
            if found.key == key and isinstance(found.object, Pod):
                return found.object
    return None
