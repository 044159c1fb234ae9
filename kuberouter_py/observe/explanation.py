"""What `explain` shows: the document of controllers/services/explain as text, the verdict first; and what the
policies say besides (policy_explanation.py). Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kuberouter_py.observe.policy_explanation import listed, policies_lines


def explanation_text(document: Mapping[str, Any]) -> str:
    paths, policies = document["paths"], document.get("policies")
    verdict = document["verdict"]
    lines = []
    if len(paths) > 1:
        lines = [verdict, f"  this is the first of {len(paths)} addresses:"]
    elif paths and verdict != _told(paths[0])["verdict"]:
        lines = [verdict, "  the Service proxy by itself:"]
    elif not policies or not policies["connections"]:
        lines = [] if paths else [verdict]
    for path in paths:
        lines += _path_lines(path)
    if policies and (paths or policies["enforced"]):
        lines += policies_lines(policies, alone=not paths)
    lines += [f"  {remark}" for remark in document["remarks"]]
    return "\n".join(lines) + "\n"


def _told(path: Mapping[str, Any]) -> Mapping[str, Any]:
    told: Mapping[str, Any] = path["actual"] or path["decided"]
    return told


def _path_lines(path: Mapping[str, Any]) -> Iterator[str]:
    decided, actual = path["decided"], path["actual"]
    told = _told(path)
    yield told["verdict"]
    if actual and actual["verdict"] != decided["verdict"]:
        yield f"  decided is: {decided['verdict']}"
    yield f"  to {path['title']}"
    yield f"  from {path['source']}, {path['enters']}"
    yield from listed("  ", "NOT AS DECIDED", path["differences"])
    if told["server"]:
        yield f"  virtual server {told['server']['name']} {told['server']['options']}"
    yield from listed("  ", "destinations", list(map(_destination, told["destinations"])))
    if affinity := path["affinity"]:
        where = _endpoint(affinity["address"], affinity["port"])
        yield f"  affinity: this client is kept at {where} for another {affinity['expires']} s"
    elif told["server"] and told["server"]["affinitySeconds"]:
        yield "  affinity: nothing is remembered of this client"
    yield from listed("  ", "not among them", [f"{_where(each)}: {each['reason']}" for each in path["leftOut"]])
    yield from listed("  ", "refused by this node", path["refused"])
    yield from listed("  ", "not as its owner asked", path["notes"])
    yield from listed("  ", "rules it meets", told["rules"])
    yield from listed("  ", "rules that are not understood, taken as not met", told["notUnderstood"])


def _destination(one: Mapping[str, Any]) -> str:
    seen = f"{'masqueraded as' if one['masqueraded'] else 'sees'} {one['source'] or 'an unknown address'}"
    method = "" if one["forwarding"] == "masquerade" else f" {one['forwarding']}"
    return f"{_where(one)} weight {one['weight']}{_why_weight(one)}{method}, {seen}: {one['why']}"


def _why_weight(one: Mapping[str, Any]) -> str:
    if one["drainsFor"] is not None:
        return f" (drains for another {one['drainsFor']} s at most)"
    return " (its Pod asks for it)" if one["weightAsked"] == str(one["weight"]) else ""


def _where(one: Mapping[str, Any]) -> str:
    where = _endpoint(one["address"], one["port"]) if one["port"] else one["address"]
    return f"{where} on {one['node']}" if one["node"] else where


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
