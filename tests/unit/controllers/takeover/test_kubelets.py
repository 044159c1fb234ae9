"""Which chains stay for a kubelet."""

from __future__ import annotations

import pytest

from kuberouter_py.controllers.takeover.kubelets import kept_for_kubelet
from kuberouter_py.model.others import SHARED_CHAINS, Remains
from tests.unit.controllers.takeover.remains import ipvs_mode

OLD = Remains(rules={("nft", 4): "*nat\n:KUBE-MARK-DROP - [0:0]\nCOMMIT\n"})


@pytest.mark.parametrize(
    ("version", "remains", "kept"),
    [
        ("v1.27.16", ipvs_mode(), True),
        ("v1.9.0", ipvs_mode(), True),
        ("v1.28.0", OLD, False),
        ("v1.35.4+k3s1", ipvs_mode(), False),
        ("", ipvs_mode(), False),
        ("", OLD, True),
        ("unknown", OLD, True),
    ],
)
def test_before_1_28_three_stay(version: str, remains: Remains, kept: bool) -> None:
    assert kept_for_kubelet(version, remains).keys() == (SHARED_CHAINS if kept else frozenset())
