"""Scenes in which a firewall is likely to open or to close something on the way from one state to another.

What comes to pass before a change is forbidden by one end, and after it by the other; or it is allowed by one rule, and
then by another.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from kuberouter_py.model.cluster import Pod
from tests.fakes.policies import namespace, pod, policy
from tests.fakes.worlds import PODS, Change, Scene

WEB, DB = {"matchLabels": {"app": "web"}}, {"matchLabels": {"app": "db"}}
X = namespace("x")
A, B = pod("x/a", *PODS["x/a"][:2]), pod("x/b", *PODS["x/b"][:2], labels={"app": "db"})
ASKS_NOBODY = policy("x/p1", {"podSelector": WEB, "policyTypes": ["Egress"]})
WEB_TO_DB = policy("x/p2", {"podSelector": DB, "ingress": [{"from": [{"podSelector": WEB}]}]})
ONE_ASKS_ALL = policy("x/p3", {"podSelector": {"matchLabels": {"tier": "one"}}, "egress": [{}]})
NOT_TO_DB = policy("x/p2", {"podSelector": DB, "ingress": []})
A_WEB = replace(A, labels={"app": "web"})

SCENES: Mapping[str, Scene] = {
    "a peer that is isolated from now on": ([X, A, B, ASKS_NOBODY, WEB_TO_DB], [Change(A_WEB)]),
    "isolated no more, and no peer": ([X, A_WEB, B, ASKS_NOBODY, WEB_TO_DB], [Change(A)]),
    "isolated, but for its peer": ([X, A_WEB, B], [Change(WEB_TO_DB)]),
    "a peer that goes": ([X, A_WEB, B, ASKS_NOBODY, WEB_TO_DB], [Change(None, (Pod, A.key))]),
    "from one guard to another, and a peer": (
        [X, replace(A, labels={"tier": "one"}), B, WEB_TO_DB, ASKS_NOBODY, ONE_ASKS_ALL],
        [Change(A_WEB)],
    ),
    "one direction allows and the other isolates": (
        [X, A, B, policy("x/p1", {"podSelector": {}, "ingress": []})],
        [Change(policy("x/p1", {"podSelector": {}, "ingress": [{}], "policyTypes": ["Ingress", "Egress"]}))],
    ),
    "one direction isolates and the other is no more": (
        [X, A, B, policy("x/p1", {"podSelector": {}, "ingress": [{}], "policyTypes": ["Ingress", "Egress"]})],
        [Change(policy("x/p1", {"podSelector": {}, "ingress": []}))],
    ),
    "left by a policy that denies others from now on": (
        [X, A, B, policy("x/p2", {"podSelector": {}, "ingress": [{}]})],
        [Change(policy("x/p2", {"podSelector": WEB, "ingress": []}))],
    ),
    "more than before": (
        [X, A_WEB, B, WEB_TO_DB],
        [Change(policy("x/p2", {"podSelector": DB, "ingress": [{"from": [{"podSelector": {}}]}]}))],
    ),
    "another policy allows the same": (
        [X, A_WEB, B, WEB_TO_DB, policy("x/p3", {"podSelector": DB, "ingress": [{}]})],
        [Change(NOT_TO_DB)],
    ),
}
