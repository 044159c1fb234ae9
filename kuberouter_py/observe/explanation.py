"""What `explain` shows: the document of controllers/services/explain as text, the verdict first. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

SHOWN = 20  # entries of one list in the text; the document has them all


def explanation_text(document: Mapping[str, Any]) -> str:
    paths = document["paths"]
    lines = [] if len(paths) == 1 else [document["verdict"], f"  this is the first of {len(paths)} addresses:"]
    for path in paths:
        lines += _path_lines(path)
    lines += [f"  {remark}" for remark in document["remarks"]]
    return "\n".join(lines) + "\n"


def _path_lines(path: Mapping[str, Any]) -> Iterator[str]:
    decided, actual = path["decided"], path["actual"]
    told = actual or decided
    yield told["verdict"]
    if actual and actual["verdict"] != decided["verdict"]:
        yield f"  decided is: {decided['verdict']}"
    yield f"  to {path['title']}"
    yield f"  from {path['source']}, {path['enters']}"
    yield from _listed("NOT AS DECIDED", path["differences"])
    if told["server"]:
        yield f"  virtual server {told['server']['name']} {told['server']['options']}"
    yield from _listed("destinations", list(map(_destination, told["destinations"])))
    if affinity := path["affinity"]:
        where = _endpoint(affinity["address"], affinity["port"])
        yield f"  affinity: this client is kept at {where} for another {affinity['expires']} s"
    elif told["server"] and told["server"]["affinitySeconds"]:
        yield "  affinity: nothing is remembered of this client"
    yield from _listed("not among them", [f"{_where(each)}: {each['reason']}" for each in path["leftOut"]])
    yield from _listed("refused by this node", path["refused"])
    yield from _listed("not as its owner asked", path["notes"])
    yield from _listed("rules it meets", told["rules"])
    yield from _listed("rules that are not understood, taken as not met", told["notUnderstood"])


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


def _listed(title: str, entries: list[str]) -> Iterator[str]:
    if not entries:
        return
    yield f"  {title}:"
    yield from (f"    {entry}" for entry in entries[:SHOWN])
    if len(entries) > SHOWN:
        yield f"    and {len(entries) - SHOWN} more (-o json shows all)"
