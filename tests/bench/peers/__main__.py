"""Runs the comparison, host side, and writes build/bench-peers.json.

    python -m tests.bench.peers OUTPUT.json [--peers ours,ipvs,kube-router,nftables] [--points 1000x10,10000x10,5000x50]
                                [--bound 600] [--idle 60] [--rolling 60] [--part] [--run NAME]

With --part what OUTPUT has already stays, and each figure is marked with the run that it is of: ratios between
figures of different runs say less, and the tables say where that is so. What cannot be run here (no nf_tables, no
kube-router) is left out with its reason.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.peers import document
from tests.bench.peers.cluster import Cluster
from tests.bench.peers.conductor import Conductor, Times
from tests.bench.peers.link import Witness
from tests.bench.peers.programs import PEERS, REPOSITORY, Peer, control_plane_directory
from tests.labkit import boot, controlplane, own_network, wires
from tests.labkit.apiclient import Credentials
from tests.labkit.control import Control
from tests.labkit.kubeconfig import kubeconfig
from tests.labkit.native import Native

SERVICE_CIDRS = ("10.96.0.0/12",)
MEMORY = "4G"
LONGEST = 4 * 3600.0  # that one peer at one point may take


def main() -> int:
    options = _options()
    os.environ["LAB_CONTROL_PLANE"] = str(control_plane_directory())
    results = json.loads(options.output.read_text()) if options.part and options.output.exists() else {"points": []}
    own_network.enter()
    times = Times(bound=options.bound, idle=options.idle, rolling=options.rolling)
    ports = {"door": wires.API_PORT, "direct": wires.DIRECT_PORT, "control": wires.CONTROL_PORT}
    with controlplane.running(wires.HOST_ADDRESS, **ports) as control:
        for services, endpoints in options.points:
            point = _point_of(results["points"], services, endpoints)
            for name, figures in _measured(control, services, endpoints, options.peers, times):
                point["peers"][name] = {**figures, "run": options.run}
                _write(options.output, results)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    known = {peer.name: peer for peer in PEERS}
    parser.add_argument("--peers", type=lambda text: [known[name] for name in text.split(",")], default=list(PEERS))
    parser.add_argument("--points", type=_points, default=_points("1000x10,10000x10,5000x50"))
    parser.add_argument("--bound", type=float, default=600.0)
    parser.add_argument("--idle", type=float, default=60.0)
    parser.add_argument("--rolling", type=float, default=60.0)
    parser.add_argument("--part", action="store_true")
    parser.add_argument("--run", default=time.strftime("%FT%T"), help="what this run is called")
    return parser.parse_args()


def _points(text: str) -> list[tuple[int, int]]:
    return [(int(services), int(endpoints)) for services, endpoints in (one.split("x") for one in text.split(","))]


def _point_of(points: list[dict[str, Any]], services: int, endpoints: int) -> dict[str, Any]:
    for point in points:
        if (point["services"], point["endpoints"]) == (services, endpoints):
            return point
    points.append({"services": services, "endpoints": endpoints, "peers": {}})
    return points[-1]


def _measured(
    control: Control, services: int, endpoints: int, peers: list[Peer], times: Times
) -> Iterator[tuple[str, dict[str, Any]]]:
    with tempfile.TemporaryDirectory(prefix="kuberouter-bench-") as name:
        directory = Path(name)
        plane = control.call("fresh", serviceCIDRs=list(SERVICE_CIDRS))
        credentials = Credentials(plane["ca"], plane["certificate"], plane["key"])
        cluster = Cluster((plane["address"], plane["direct"]), credentials, directory)
        print(f"{services:,} Services x {endpoints}", flush=True)
        began = time.monotonic()
        cluster.populate(services, endpoints)
        print(f"  made in the API in {time.monotonic() - began:.0f} s", flush=True)
        access = kubeconfig(
            f"https://{plane['address']}:{plane['door']}", plane["ca"],
            certificate=plane["certificate"], key=plane["key"],
        )  # fmt: skip
        for peer in peers:
            if reason := peer.why_not():
                print(f"  {peer.name}: left out: {reason}", flush=True)
                yield peer.name, {"left_out": reason}
                continue
            with _witness(peer, access) as (witness, workdir):
                log = REPOSITORY / "build" / f"bench-peers-{peer.name}.log"
                log.write_text("")
                yield peer.name, Conductor(witness, cluster, peer, times, workdir / "kubeconfig", log).measure()


@contextlib.contextmanager
def _witness(peer: Peer, access: str) -> Iterator[tuple[Witness, Path]]:
    """A lab kernel of its own for each peer, so that none finds what another left."""
    with tempfile.TemporaryDirectory(prefix="kuberouter-lab-") as name:
        workdir = Path(name)
        (workdir / "kubeconfig").write_text(access)
        command = [sys.executable, "-m", "tests.bench.peers.witness", peer.view, wires.GUEST_ADDRESS]
        job = boot.Job(
            command, workdir=workdir, cwd=REPOSITORY, env={"PYTHONPATH": str(REPOSITORY)}, tap=True, memory=MEMORY,
            timeout=LONGEST, writable=[REPOSITORY / "build"],
        )  # fmt: skip
        kernel = Native() if peer.native else boot.choose()
        thread = threading.Thread(target=kernel.run, args=(job,), daemon=True)
        thread.start()
        witness = Witness(wires.GUEST_ADDRESS, thread.is_alive)
        try:
            yield witness, workdir
        finally:
            witness.close()  # with its conductor the witness ends, and with that the lab kernel
            thread.join(60.0)


def _write(output: Path, results: dict[str, Any]) -> None:
    """After each peer, so that what was measured is not lost with what comes later."""
    results["machine"] = {
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
    }
    results["ratios"] = document.ratios(results["points"])
    output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
