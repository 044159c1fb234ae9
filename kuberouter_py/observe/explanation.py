"""What `explain` shows: the document of controllers/services/explain as text, the verdict first; and what the
policies say besides (policy_explanation.py). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kuberouter_py.observe.policy_explanation import listed, policies_lines

Path = Mapping[str, Any]


def explanation_text(document: Mapping[str, Any], *, brief: bool = False) -> str:
    """brief: of several addresses the rules that each meets are left out."""
    paths, policies = document["paths"], document.get("policies")
    verdict, rules = document["verdict"], not (brief and len(paths) > 1)
    lines = []
    if len(paths) > 1:
        lines = [verdict, f"  this is the first of {len(paths)} addresses:", *_table(paths)]
    elif paths and verdict != _told(paths[0])["verdict"]:
        lines = [verdict, "  the Service proxy by itself:"]
    elif not policies or not policies["connections"]:
        lines = [] if paths else [verdict]
    for alike in _groups(paths, rules):
        lines += _path_lines(alike, rules)
    if policies and (paths or policies["enforced"]):
        lines += policies_lines(policies, alone=not paths, rules=rules)
    lines += [f"  {remark}" for remark in document["remarks"]]
    if not rules:
        lines.append("  which rules it meets is told where --to has a port")
    return "\n".join(lines) + "\n"


def _told(path: Path) -> Path:
    told: Path = path["actual"] or path["decided"]
    return told


def _table(paths: Sequence[Path]) -> Iterator[str]:
    width = max(len(path["title"]) for path in paths)
    for path in paths:
        yield f"    {path['title']:{width}}  {_told(path)['verdict']}"


def _groups(paths: Sequence[Path], rules: bool) -> Iterable[Sequence[Path]]:
    """Those together of which the same is to be said."""
    groups: dict[tuple[object, ...], list[Path]] = {}
    for path in paths:
        said = tuple(_beginning(path)), tuple(_arrival(path)), tuple(_rest(path, rules))
        groups.setdefault(said, []).append(path)
    return groups.values()


def _path_lines(alike: Sequence[Path], rules: bool) -> Iterator[str]:
    yield from _beginning(alike[0])
    for path in alike:
        yield f"  to {path['title']}"
    yield from _arrival(alike[0])
    for path in alike:
        if server := _told(path)["server"]:
            yield f"  virtual server {server['name']} {server['options']}"
    yield from _rest(alike[0], rules)


def _beginning(path: Path) -> Iterator[str]:
    decided, actual = path["decided"], path["actual"]
    yield _told(path)["verdict"]
    if actual and actual["verdict"] != decided["verdict"]:
        yield f"  decided is: {decided['verdict']}"


def _arrival(path: Path) -> Iterator[str]:
    yield f"  from {path['source']}, {path['enters']}"
    yield from listed("  ", "NOT AS DECIDED", path["differences"])


def _rest(path: Path, rules: bool) -> Iterator[str]:
    told = _told(path)
    yield from listed("  ", "destinations", list(map(_destination, told["destinations"])))
    if affinity := path["affinity"]:
        where = _endpoint(affinity["address"], affinity["port"])
        yield f"  affinity: this client is kept at {where} for another {affinity['expires']} s"
    elif told["server"] and told["server"]["affinitySeconds"]:
        yield "  affinity: nothing is remembered of this client"
    yield from listed("  ", "not among them", [f"{_where(each)}: {each['reason']}" for each in path["leftOut"]])
    yield from listed("  ", "refused by this node", path["refused"])
    yield from listed("  ", "not as its owner asked", path["notes"])
    if rules:
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
