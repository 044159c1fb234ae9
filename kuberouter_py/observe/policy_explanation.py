"""What `explain` shows of NetworkPolicy: documents of controllers/firewall/explain as text, the verdict first. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

SHOWN = 20  # entries of one list in the text; the document has them all


def policies_lines(policies: Mapping[str, Any], *, alone: bool, rules: bool) -> Iterator[str]:
    """Of all connections, each thing once. alone: they are the whole answer; else they stand below that of a Service.

    rules: with the iptables rules.
    """
    if not policies["enforced"]:
        yield f"  NetworkPolicy: {policies['reason']}"
        return
    margin = "" if alone else "  "
    told = [tuple(_lines(each, margin, alone=alone, rules=rules)) for each in policies["connections"]]
    for lines in dict.fromkeys(told):
        yield from lines


def _lines(one: Mapping[str, Any], margin: str, *, alone: bool, rules: bool) -> Iterator[str]:
    source, destination = one["source"], one["destination"]
    if alone:
        yield one["verdict"]
        yield f"  from {_end(source)}"
        yield f"  to {_end(destination, destination['port'], one['protocol'])}"
    else:
        yield f"{margin}NetworkPolicy, to {_end(destination, destination['port'], one['protocol'])}: {one['verdict']}"
    inner = margin + "  "
    yield from listed(inner, "NOT AS DECIDED", one["differences"])
    yield from listed(inner, "pods not under the rules that they should be under", one["notes"])
    yield from listed(inner, "refused by this node", one["refused"])
    for direction, end in (("egress", source), ("ingress", destination)):
        yield from _side(inner, direction, end, one[direction])
    passed = one["actual"] or one["decided"]
    if passed and (alone or one["actual"]):
        where = "in the kernel" if one["actual"] else "as decided"
        if rules:
            yield from listed(inner, f"rules that it meets at {' and '.join(one['hooks'])}, {where}", passed["rules"])
            yield from listed(inner, "members of sets that it meets", passed["members"])
        yield from listed(inner, "rules that are not understood, taken as not met", passed["notUnderstood"])


def _side(margin: str, direction: str, end: Mapping[str, Any], side: Mapping[str, Any]) -> Iterator[str]:
    if not end["pod"]:
        yield f"{margin}{direction}: {side['reason']}"
        return
    where = "here" if side["here"] else f"on {end['node']}" if end["node"] else "nowhere, it has no node"
    yield f"{margin}{direction} of {end['pod']}, judged {where}: {side['reason']}"
    yield from cut([f"{margin}  {_rule(rule)}" for rule in side["rules"]], f"{margin}  ")


def _rule(rule: Mapping[str, Any]) -> str:
    name = f"{rule['policy']} rule {rule['rule']}" if rule["rule"] else rule["policy"]
    return f"{name} allows: {rule['says']}" if rule["allows"] else f"{name}: {rule['why'] or rule['says']}"


def _end(end: Mapping[str, Any], port: int = 0, protocol: str = "") -> str:
    address = end["address"]
    if protocol:
        address = f"[{address}]:{port}/{protocol}" if ":" in address else f"{address}:{port}/{protocol}"
    pod = f"{end['pod']} " if end["pod"] else ""
    return f"{pod}{address} on {end['node']}" if end["node"] else f"{pod}{address}"


def listed(margin: str, title: str, entries: Sequence[str]) -> Iterator[str]:
    if entries:
        yield f"{margin}{title}:"
        yield from cut([f"{margin}  {entry}" for entry in entries], f"{margin}  ")


def cut(lines: Sequence[str], margin: str) -> Iterator[str]:
    yield from lines[:SHOWN]
    if len(lines) > SHOWN:
        yield f"{margin}and {len(lines) - SHOWN} more (-o json shows all)"
