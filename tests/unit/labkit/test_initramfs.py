"""The first root of a QEMU guest: module order, and an archive that cpio understands."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

from tests.labkit import initramfs

DEP = """\
kernel/fs/9p/9p.ko.xz: kernel/fs/netfs/netfs.ko.xz kernel/net/9p/9pnet.ko.xz
kernel/net/9p/9pnet_virtio.ko.xz: kernel/net/9p/9pnet.ko.xz
kernel/net/9p/9pnet.ko.xz:
kernel/fs/netfs/netfs.ko.xz:
"""


def test_modules_come_after_what_they_need(tmp_path: Path) -> None:
    (tmp_path / "modules.dep").write_text(DEP)
    assert [path.rsplit("/", 1)[1].split(".")[0] for path in initramfs.in_order(tmp_path)] == [
        "9pnet", "9pnet_virtio", "netfs", "9p",
    ]  # fmt: skip


def test_archive(tmp_path: Path) -> None:
    (tmp_path / "modules.dep").write_text("kernel/9p.ko.xz:\n")
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel/9p.ko.xz").write_bytes(lzma.compress(b"a module"))
    (tmp_path / "busybox").write_bytes(b"a shell")
    members = read(gzip.decompress(initramfs.build(tmp_path / "busybox", tmp_path, [("w0", "/shared")], "/job/init")))
    assert members["modules/00.ko"] == b"a module"
    assert members["bin/busybox"] == b"a shell"
    assert b"cache=none w0 '/root/shared'" in members["init"]
    assert members["init"].endswith(b"exec $b switch_root /root /bin/sh '/job/init'\n")


def read(archive: bytes) -> dict[str, bytes]:
    """A small reader of the "newc" format, up to its trailer."""
    members: dict[str, bytes] = {}
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        size, length = fields[6], fields[11]
        name = archive[at + 110 : at + 110 + length - 1].decode()
        start = (at + 110 + length + 3) // 4 * 4
        if name == "TRAILER!!!":
            return members
        members[name] = archive[start : start + size]
        at = (start + size + 3) // 4 * 4
