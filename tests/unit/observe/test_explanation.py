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


def at(title: str, verdict: str = "open: 1 destination", **more: Any) -> dict[str, Any]:
    server = {**SERVER, "name": f"TCP {title}", "affinitySeconds": 0}
    return path(
        state(verdict, server=server, destinations=[DESTINATION], rules=["nat X: -j ACCEPT"]), title=title, **more
    )


def test_what_is_the_same_of_several_addresses_is_said_once() -> None:
    paths = at("10.96.0.10:80"), at("10.96.0.10:443"), at("192.0.2.1:30080", "silent: no local endpoint")
    assert explanation_text(document(*paths), brief=True).splitlines() == [
        "open: 1 destination",
        "  this is the first of 3 addresses:",
        "    10.96.0.10:80    open: 1 destination",
        "    10.96.0.10:443   open: 1 destination",
        "    192.0.2.1:30080  silent: no local endpoint",
        "open: 1 destination",
        "  to 10.96.0.10:80",
        "  to 10.96.0.10:443",
        "  from 10.244.1.9, by kube-bridge",
        "  virtual server TCP 10.96.0.10:80 -s rr -p 60",
        "  virtual server TCP 10.96.0.10:443 -s rr -p 60",
        "  destinations:",
        "    [fd00::2]:8080 on n2 weight 1, sees 10.244.1.9: a pod of this node",
        "silent: no local endpoint",
        "  to 192.0.2.1:30080",
        "  from 10.244.1.9, by kube-bridge",
        "  virtual server TCP 192.0.2.1:30080 -s rr -p 60",
        "  destinations:",
        "    [fd00::2]:8080 on n2 weight 1, sees 10.244.1.9: a pod of this node",
        "  which rules it meets is told where --to has a port",
    ]


def test_one_that_the_kernel_has_otherwise_stands_by_itself() -> None:
    told = explanation_text(document(at("a:80"), at("b:80", differences=["no server"]), at("c:80")), brief=True)
    assert "  to a:80\n  to c:80\n" in told
    assert "  to b:80\n  from 10.244.1.9, by kube-bridge\n  NOT AS DECIDED:\n    no server\n" in told


def test_who_names_a_port_or_has_one_address_is_told_the_rules() -> None:
    for told in (
        explanation_text(document(at("a:80"), at("b:80"))),
        explanation_text(document(at("a:80")), brief=True),
    ):
        assert told.count("  rules it meets:\n    nat X: -j ACCEPT\n") == 1
        assert "--to has a port" not in told


def test_long_lists_are_cut() -> None:
    rules = [f"rule {number}" for number in range(30)]
    told = explanation_text(document(path(state("open: 1", rules=rules))))
    assert "    and 10 more (-o json shows all)\n" in told
