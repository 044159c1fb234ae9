"""TCP segments that the kernel refused for their MD5 digest (RFC 2385), of `/proc/net/netstat`: for all connections of
this network namespace together, since it was made. Nothing here writes.
"""

from __future__ import annotations

from pathlib import Path

from kuberouter_py.model.bgp import Digests
from kuberouter_py.ports import EdgeError

_NAMES = ("TCPMD5Failure", "TCPMD5NotFound", "TCPMD5Unexpected")


def refused_digests(file: Path = Path("/proc/net/netstat")) -> Digests:
    """Zeros for what this kernel does not count. Raises EdgeError."""
    try:
        lines = [line.split() for line in file.read_text().splitlines() if line.startswith("TcpExt:")]
    except OSError as error:
        raise EdgeError(f"{file}: {error.strerror}") from error
    counts = dict(zip(*lines, strict=True)) if len(lines) == 2 else {}
    return Digests(*(int(counts.get(name, 0)) for name in _NAMES))
