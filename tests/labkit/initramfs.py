"""The first root of a QEMU guest: busybox, modules that mount the host's tree over 9p, the script that does it."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Sequence
from pathlib import Path
from typing import Final

NEEDED: Final = ("virtio_pci", "9pnet_virtio", "9p")
_TRAILER: Final = "TRAILER!!!"
_DIRECTORIES: Final = ("bin", "dev", "proc", "root", "modules")
_DIRECTORY, _FILE = 0o040755, 0o100755


def build(busybox: Path, modules: Path, mounts: Sequence[tuple[str, str]], init: str) -> bytes:
    """`mounts`: 9p tag and host directory of what is to be written through; `init`: the host's script to go on with."""
    entries: list[tuple[str, int, bytes]] = [(name, _DIRECTORY, b"") for name in _DIRECTORIES]
    entries.append(("bin/busybox", _FILE, busybox.read_bytes()))
    for number, path in enumerate(in_order(modules)):
        entries.append((f"modules/{number:02}.ko", _FILE, _plain(modules / path)))
    entries.append(("init", _FILE, _script(mounts, init).encode()))
    archive = b"".join(_entry(number, *entry) for number, entry in enumerate([*entries, (_TRAILER, 0, b"")], 1))
    return gzip.compress(archive, compresslevel=1)


def in_order(modules: Path) -> list[str]:
    """NEEDED and what they depend on, each after what it needs, as modules.dep of that kernel says."""
    depends: dict[str, tuple[str, list[str]]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        depends[_name(path)] = (path, rest.split())
    order: list[str] = []
    for name in NEEDED:
        if name in depends:  # else it is built in
            path, needs = depends[name]
            order += [each for each in [*reversed(needs), path] if each not in order]
    return order


def _name(path: str) -> str:
    return Path(path).name.split(".ko")[0].replace("-", "_")


def _plain(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def _script(mounts: Sequence[tuple[str, str]], init: str) -> str:
    options = "trans=virtio,version=9p2000.L,msize=512000"
    lines = [
        "#!/bin/busybox sh",
        "b=/bin/busybox",
        "$b mount -t proc proc /proc",
        "for module in /modules/*; do $b insmod $module; done",
        f"$b mount -t 9p -o {options},cache=loose root /root",
        *(f"$b mount -t 9p -o {options},cache=none {tag} '/root{path}'" for tag, path in mounts),
        "$b umount /proc",
        f"exec $b switch_root /root /bin/sh '{init}'",
    ]
    return "\n".join(lines) + "\n"


def _entry(number: int, name: str, mode: int, data: bytes) -> bytes:
    """One member of a cpio archive in the "newc" format."""
    encoded = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
