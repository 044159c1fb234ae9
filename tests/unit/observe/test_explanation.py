"""The document of an explanation for people: the verdict first."""

from __future__ import annotations

from typing import Any

from kuberouter_py.observe.explanation import explanation_text


def state(verdict: str, **more: Any) -> dict[str, Any]:
    return {"verdict": verdict, "server": None, "destinations": [], "rules": [], "notUnderstood": [], **more}


def path(decided: dict[str, Any], actual: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "title": "10.96.0.10:80/tcp, ClusterIP of default/web, port http 80/tcp",
        "source": "10.244.1.9",
        "enters": "by kube-bridge",
        "decided": decided,
        "actual": actual,
        "differences": [],
        "leftOut": [],
        "affinity": None,
        "notes": [],
        "refused": [],
        **more,
    }


def document(*paths: dict[str, Any], **more: Any) -> dict[str, Any]:
    told = paths[0]["actual"] or paths[0]["decided"]
    return {"verdict": told["verdict"], "paths": list(paths), "remarks": [], **more}


DESTINATION = {
    "address": "fd00::2", "port": 8080, "node": "n2", "weight": 1, "forwarding": "masquerade", "source": "10.244.1.9",
    "masqueraded": False, "why": "a pod of this node", "drainsFor": None, "weightAsked": "",
}  # fmt: skip
SERVER = {"name": "TCP 10.96.0.10:80", "options": "-s rr -p 60", "affinitySeconds": 60}


def test_one_path() -> None:
    open_to = state("open: 1 destination", server=SERVER, destinations=[DESTINATION], rules=["nat X: -j ACCEPT"])
    left_out = [{"address": "10.244.2.3", "port": 8080, "node": "n2", "reason": "not ready"}]
    told = explanation_text(document(path(open_to, leftOut=left_out), remarks=["a remark"]))
    assert told.splitlines() == [
        "open: 1 destination",
        "  to 10.96.0.10:80/tcp, ClusterIP of default/web, port http 80/tcp",
        "  from 10.244.1.9, by kube-bridge",
        "  virtual server TCP 10.96.0.10:80 -s rr -p 60",
        "  destinations:",
        "    [fd00::2]:8080 on n2 weight 1, sees 10.244.1.9: a pod of this node",
        "  affinity: nothing is remembered of this client",
        "  not among them:",
        "    10.244.2.3:8080 on n2: not ready",
        "  rules it meets:",
        "    nat X: -j ACCEPT",
        "  a remark",
    ]


def test_what_drains() -> None:
    drained = {**DESTINATION, "weight": 0, "drainsFor": 27}
    told = explanation_text(document(path(state("refused: 1", destinations=[drained]))))
    asked = {**DESTINATION, "weightAsked": "1"}
    assert " weight 1 (its Pod asks for it), sees" in explanation_text(document(path(state("", destinations=[asked]))))
    assert "    [fd00::2]:8080 on n2 weight 0 (drains for another 27 s at most), sees 10.244.1.9: a pod" in told


def test_what_differs_stands_at_the_top() -> None:
    told = explanation_text(document(path(state("open: 1"), state("refused: 2"), differences=["no server"])))
    assert told.splitlines()[:2] == ["refused: 2", "  decided is: open: 1"]
    assert "  NOT AS DECIDED:\n    no server\n" in told


def test_several_paths_begin_with_the_first_verdict() -> None:
    told = explanation_text(document(path(state("open: 1")), path(state("silent: 2"))))
    assert told.splitlines()[0] == "open: 1"
    assert [line for line in told.splitlines() if not line.startswith(" ")] == ["open: 1", "open: 1", "silent: 2"]


def test_long_lists_are_cut() -> None:
    rules = [f"rule {number}" for number in range(30)]
    told = explanation_text(document(path(state("open: 1", rules=rules))))
    assert "    and 10 more (-o json shows all)\n" in told
