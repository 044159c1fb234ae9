"""That BIRD itself takes every kind of text that we write for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kuberouter_py.bgp.configuration import render
from kuberouter_py.model.bgp import Bfd, BgpPeer, GracefulRestart, Password, Speaker
from tests.fakes.speakers import FULL, NODE, NODE6, PLAIN, ROUTER, packed
from tests.kernel.exam import sh

BOTH = {4: NODE, 6: NODE6}


def peer(**more: object) -> Speaker:
    return PLAIN._replace(peers=(BgpPeer(ROUTER, 65001)._replace(**more),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "speaker",
    [
        PLAIN,
        FULL,
        PLAIN._replace(peers=()),
        PLAIN._replace(families=(6,), next_hops={6: NODE6}, peers=(BgpPeer(packed("fd00:9::fe"), 4294967294),)),
        PLAIN._replace(families=(4, 6), next_hops=BOTH, refused=()),
        PLAIN._replace(own_next_hop=True, prepend=(4200000000, 255), communities=("0:0", "65535:666")),
        PLAIN._replace(graceful_restart=GracefulRestart(4095, 64800)),
        PLAIN._replace(hold_time=3, pods_to_external=False),
        PLAIN._replace(families=(4, 6), next_hops={6: NODE6}),
        peer(asn=64512),
        peer(asn=64512, multihop=255),
        peer(asn=64512, bfd=Bfd()),
        peer(password=Password("é" * 40), passive=True, local=NODE),
        peer(password=Password("# /* ' \\ { $")),
        peer(bfd=Bfd(10, 10, 2), multihop=1),
        FULL._replace(listen=(), reflects=b"", peers=tuple(each._replace(client=False) for each in FULL.peers)),
    ],
    ids=lambda speaker: "",
)
@pytest.mark.parametrize("console", [False, True])
def test_bird_takes_it(tmp_path: Path, speaker: Speaker, console: bool) -> None:
    file = tmp_path / "bird.conf"
    file.write_text(render(speaker, str(tmp_path / "bird.log"), console))
    sh(f"bird -p -c {file}")
