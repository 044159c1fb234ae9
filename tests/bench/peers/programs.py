"""The peers: where each one's program is, how it is started, and in which kernel's tables its work shows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench import objects

REPOSITORY: Final = Path(__file__).parent.parent.parent.parent


@dataclass(frozen=True)
class Peer:
    """command: of (kubeconfig, seconds between two full syncs; 0: its own default). view: see kernels.py.

    why_not: None where it can be run here, else the reason. changes: how many are measured. period: seconds between
    two full syncs while their CPU is measured.
    """

    name: str
    view: str
    command: Callable[[Path, int], Sequence[str]]
    why_not: Callable[[], str | None] = lambda: None
    changes: int = 30
    period: int = 20
    native: bool = False  # in a namespace of the machine's own kernel


def _ours(kubeconfig: Path, period: int) -> Sequence[str]:
    flags = ["--run-router=false", "--run-firewall=false", "--health-port=0", "--proxy-healthz-port=0"]
    flags += [f"--ipvs-sync-period={period}s"] if period else []
    command = [sys.executable, "-m", "kuberouter_py", f"--kubeconfig={kubeconfig}"]
    return [*command, f"--hostname-override={objects.NODE}", *flags]


def _kube_proxy(mode: str) -> Callable[[Path, int], Sequence[str]]:
    def command(kubeconfig: Path, period: int) -> Sequence[str]:
        flags = [f"--proxy-mode={mode}", "--cluster-cidr=10.244.0.0/16", f"--hostname-override={objects.NODE}"]
        # The lab's kernel does not let its settings be written as a node's does; they are no part of what is measured.
        flags += ["--conntrack-max-per-core=0", "--conntrack-min=0", "--conntrack-tcp-timeout-established=0s"]
        flags += ["--conntrack-tcp-timeout-close-wait=0s", "--healthz-bind-address=127.0.0.1:10256"]
        if period and mode == "ipvs":  # nftables mode has no such flag, and 30 s by default
            flags.append(f"--ipvs-sync-period={period}s")
        return [str(control_plane_directory() / "kube-proxy"), f"--kubeconfig={kubeconfig}", *flags]

    return command


def _kube_router(kubeconfig: Path, period: int) -> Sequence[str]:
    flags = ["--run-router=false", "--run-firewall=false", "--run-service-proxy=true", "--health-port=0"]
    flags += [f"--ipvs-sync-period={period}s"] if period else []
    return [os.environ["KUBE_ROUTER"], f"--kubeconfig={kubeconfig}", f"--hostname-override={objects.NODE}", *flags]


def _no_kube_router() -> str | None:
    named = os.environ.get("KUBE_ROUTER", "")
    return None if named and shutil.which(named) else "KUBE_ROUTER names no program"


def _no_nf_tables() -> str | None:
    if os.geteuid() != 0 or shutil.which("nft") is None:
        return "needs root and nft"
    done = subprocess.run(["unshare", "--net", "nft", "add table ip trial"], capture_output=True, text=True)
    return None if done.returncode == 0 else f"this machine's kernel has no nf_tables: {done.stderr.strip()[:100]}"


def control_plane_directory() -> Path:
    """Where kube-proxy and the rest are; the host has built it before."""
    if named := os.environ.get("LAB_CONTROL_PLANE"):
        return Path(named)
    done = subprocess.run([REPOSITORY / "scripts" / "control-plane", "kube-proxy"], stdout=subprocess.PIPE, text=True)
    done.check_returncode()
    return Path(done.stdout.strip())


PEERS: Final = (
    Peer("ours", "ipvs", _ours, changes=300),
    Peer("ipvs", "ipvs", _kube_proxy("ipvs")),
    Peer("kube-router", "ipvs", _kube_router, _no_kube_router),
    Peer("nftables", "nftables", _kube_proxy("nftables"), _no_nf_tables, period=30, native=True),
)
TITLES: Final = {
    "ours": "kuberouter_py",
    "ipvs": "kube-proxy ipvs",
    "kube-router": "kube-router",
    "nftables": "kube-proxy nftables",
}


def peer_called(name: str) -> Peer:
    return next(peer for peer in PEERS if peer.name == name)
