"""Which of kube-proxy's chains a kubelet of this node has in use as well, so that they stay. Pure.

Before 1.28 kubelet keeps KUBE-MARK-MASQ, KUBE-MARK-DROP and KUBE-POSTROUTING in table nat, in the same words as
kube-proxy, and puts them back within a minute when they are gone (KEP-3178). Its version is in the Node's status; where
that is not known, KUBE-MARK-DROP tells: kube-proxy makes none since 1.26.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from kuberouter_py.controllers.takeover.served import rules_of
from kuberouter_py.model.others import KUBELET_GAVE_UP, SHARED_CHAINS, Remains

_VERSION = re.compile(r"v?(\d+)\.(\d+)")


def kept_for_kubelet(version: str, remains: Remains) -> Mapping[str, str]:
    """Chain -> why it stays. version: kubelet's, "" where it is not known."""
    if found := _VERSION.match(version):
        older = (int(found[1]), int(found[2])) < KUBELET_GAVE_UP
        return dict.fromkeys(SHARED_CHAINS, f"kubelet {version} keeps it too") if older else {}
    if any(chain == "KUBE-MARK-DROP" for text in remains.rules.values() for _, chain, _ in rules_of(text)):
        return dict.fromkeys(SHARED_CHAINS, "kubelet may keep it too: its version is not known, KUBE-MARK-DROP is here")
    return {}
